"""What a resumed job starts from: the result of each finished stage, in the folder `state`."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from core.domains.network import Network
from core.pruning.job.progress import Teller
from core.pruning.system import parallel
from core.pruning.system.files import write_json, write_tensors
from core.pruning.training.checkpoint import Checkpoints
from core.spec.messages import StageName

log = logging.getLogger(__name__)

CONTROL = "control-"  # what the files of the control's pass begin with
Facts = dict[str, Any]
Labels = Sequence[str] | None


class State:
    """The files of one pass, whose names begin with `prefix`. A full disk costs what could have been gone on from.

    A stage is STAGE.safetensors, where it has weights, and STAGE.json, which comes last and makes it valid. Beside them
    lie the checkpoints of loops.
    """

    def __init__(self, folder: Path, scratch: Path, teller: Teller, prefix: str = "") -> None:
        for one in (folder, scratch):
            one.mkdir(parents=True, exist_ok=True)
        self.folder, self._scratch, self._teller, self._prefix = folder, scratch, teller, prefix
        self.checkpoints = Checkpoints(folder, prefix, teller.saved)

    def beside(self, prefix: str, teller: Teller) -> State:
        """That of one size."""
        return State(self.folder, self._scratch, teller, self._prefix + prefix)

    def shared(self, name: str) -> Path:
        """A file that is the control's, too."""
        return self.folder / f"{self._prefix.removeprefix(CONTROL)}{name}"

    def save(
        self, stage: StageName, facts: Mapping[str, Any], network: Network | None = None, labels: Labels = None
    ) -> None:
        """Keep a stage's result, and the seconds that it took. `labels`: of the outputs, in their order."""
        if not parallel.first():
            return self.checkpoints.at(stage).drop()
        unlike = {"id": uuid.uuid4().hex}  # as the files of checkpoints are unlike any other job's
        try:
            if network is not None:
                weights = {name: one.detach().cpu().contiguous().clone() for name, one in network.state_dict().items()}
                write_tensors(self._scratch / "weights", weights, unlike)
                (self._scratch / "weights").replace(self._path(stage, "safetensors"))
            more = {"seconds": self._teller.elapsed()} | ({"labels": list(labels)} if labels is not None else {})
            write_json(self._scratch / "facts", {**facts, **more, **unlike})
            (self._scratch / "facts").replace(self._path(stage, "json"))
        except OSError as error:  # the job goes on, with more to lose
            return log.warning("cannot save the stage %s: %s", stage, error)
        self.checkpoints.at(stage).drop()
        self._teller.saved(stage)

    def lasted(self, stage: StageName) -> None:
        """Count to a stage that is saved what it took since, too."""
        path = self._path(stage, "json")
        if not parallel.first() or not path.exists():
            return
        facts = json.loads(path.read_text())
        try:
            write_json(self._scratch / "facts", facts | {"seconds": max(facts["seconds"], self._teller.elapsed())})
            (self._scratch / "facts").replace(path)
        except OSError as error:  # as above
            log.warning("cannot save what the stage %s took: %s", stage, error)

    def load(self, stage: StageName, labels: Labels = None) -> Facts | None:
        """The facts of a stage that was saved, or None; its time is that of the attempt that did it."""
        path = self._path(stage, "json")
        if not path.exists():
            return None
        facts: Facts = json.loads(path.read_text())
        if labels is not None and facts.get("labels", sorted(labels)) != list(labels):  # a version sorted them
            return None
        self._teller.took(stage, facts.get("seconds", 0.0))
        return facts

    def weights(self, stage: StageName) -> dict[str, Tensor]:
        """The weights beside the facts."""
        return load_file(self._path(stage, "safetensors"))

    def _path(self, stage: StageName, suffix: str) -> Path:
        return self.folder / f"{self._prefix}{stage}.{suffix}"
