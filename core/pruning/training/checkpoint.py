"""What an interrupted loop goes on from: a killed job repeats a minute of its work, and ends as if it had not been.

A loop's state is a tree of dicts, lists, tensors and plain values. It is one safetensors file with the plain values as
JSON in its header, so it appears whole or not at all, and nothing is ever unpickled. Saving draws no random number.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from core.pruning.system import parallel
from core.pruning.system.files import write_tensors

EVERY_S = 30.0  # between two saves
OVERHEAD = 0.02  # of the time may go into saving; else the next save waits,
LATEST_S = 45.0  # but no longer than this,
REPEATED = 0.05  # or this part of the work so far, where that is more

State = dict[str, Any]
log = logging.getLogger(__name__)


class Checkpoint:
    """The state of one loop, under a name; without a folder it is nowhere, and never due."""

    def __init__(self, folder: Checkpoints | None = None, name: str = "") -> None:
        self._folder, self._name = folder, name

    def load(self) -> State | None:
        """The state as it was saved, tensors on the CPU; None if there is none that this process can go on from."""
        return self._folder.load(self._name) if self._folder else None

    def due(self) -> bool:
        """Whether it is time to save."""
        return self._folder is not None and self._folder.due()

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep the state in place of the earlier one, and say so."""
        if self._folder:
            self._folder.write(self._name, state)
            self._folder.tell()

    def keep(self, state: Mapping[str, Any]) -> None:
        """Like `save`, but it is said only when that is due: for what is finished, large or small."""
        if self._folder and parallel.first():
            self._folder.write(self._name, state)
            if self._folder.due():
                self._folder.tell()

    def drop(self) -> None:
        """The loop is over, and so are those within it, whose names begin with its own and a dash."""
        if self._folder:
            self._folder.drop(self._name)


NOWHERE = Checkpoint()


class Checkpoints:
    """The checkpoints of a job in their folder, and the time to save, which they share. `said` hears of each save."""

    def __init__(self, folder: Path, prefix: str, said: Callable[[], None]) -> None:
        self.folder, self.prefix, self._said = folder, prefix, said
        self._began = self._last = time.monotonic()
        self._spent = 0.0  # seconds that writing took so far

    def at(self, name: str) -> Checkpoint:
        """The checkpoint of this name."""
        return Checkpoint(self, name)

    def path(self, name: str) -> Path:
        """Where it lies."""
        return self.folder / f"{self.prefix}{name}.part.safetensors"

    def due(self) -> bool:
        """Whether so much time has passed that what is lost by a kill outweighs what saving costs."""
        if not parallel.first():
            return False
        now = time.monotonic()
        ago, work = now - self._last, now - self._began
        return ago >= EVERY_S and (self._spent <= OVERHEAD * work or ago >= max(LATEST_S, REPEATED * work))

    def tell(self) -> None:
        """Everything up to here is saved."""
        self._said()
        self._last = time.monotonic()

    def write(self, name: str, state: Mapping[str, Any]) -> None:
        """Replace the file at once; an earlier one stays where this one cannot be written."""
        start = time.monotonic()
        tensors: dict[str, Tensor] = {}
        # The id makes each file unlike any other job's: the storage may drop it as soon as the next one is there.
        facts = {"made_by": _made_by(), "id": uuid.uuid4().hex, "state": json.dumps(_pack(state, "", tensors))}
        new = self.path(name).with_suffix(".new")
        try:
            write_tensors(new, tensors, facts)
            new.replace(self.path(name))
        except OSError as error:  # a full disk: the loop goes on, with more to lose
            log.warning("cannot save %s: %s", name, error)
            new.unlink(missing_ok=True)
        self._spent += time.monotonic() - start

    def load(self, name: str) -> State | None:
        """See `Checkpoint.load`."""
        try:
            with safe_open(self.path(name), "pt") as file:
                facts = file.metadata()
                if facts["made_by"] != _made_by():  # another version's state may mean something else
                    return None
                state: State = _unpack(json.loads(facts["state"]), file.get_tensor)
                return state
        except (FileNotFoundError, SafetensorError):
            return None

    def drop(self, name: str) -> None:
        """See `Checkpoint.drop`."""
        for within in (name, f"{name}-*"):
            for path in self.folder.glob(self.path(within).name):
                path.unlink(missing_ok=True)


def trained(network: nn.Module) -> dict[str, Tensor]:
    """What training moves, by name: the parameters that are not frozen. Not copied."""
    return {name: parameter.detach() for name, parameter in network.named_parameters() if parameter.requires_grad}


def restore(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a network of the same shape what `trained` gave."""
    for name, parameter in trained(network).items():
        parameter.copy_(tensors[name])


def random_state() -> State:
    """Of torch's own generators, which dropout draws from."""
    return {"cpu": torch.get_rng_state()} | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def set_random_state(state: State) -> None:
    """Draw from here on what would have been drawn after `random_state`."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])


def _made_by() -> str:
    return f"topwork {version('topwork')}, torch {torch.__version__}, {'cuda' if torch.cuda.is_available() else 'cpu'}"


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON; its tensors go into `tensors`, named by where they were. Keys may be numbers, too."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().contiguous()
        return {"tensor": path}
    if isinstance(value, Mapping):
        return {"dict": [[key, _pack(item, f"{path}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_pack(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]
    return value


def _unpack(value: Any, tensor: Callable[[str], Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensor) for item in value]
    if isinstance(value, dict):
        if "tensor" in value:
            return tensor(value["tensor"])
        return {key: _unpack(item, tensor) for key, item in value["dict"]}
    return value
