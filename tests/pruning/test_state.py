"""What a resumed job starts from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from core.domains.transformer.network import TransformerNetwork
from core.pruning.job.progress import Teller
from core.pruning.job.state import State
from core.spec.messages import Message, Saved

LABELS = ["pos", "neg"]


def state_of(folder: Path, said: list[Message] | None = None, prefix: str = "") -> State:
    return State(folder / "state", folder / "tmp", Teller((said if said is not None else []).append), prefix)


def test_a_stage_is_there_once_it_is_saved_and_is_said(tmp_path: Path, network: TransformerNetwork) -> None:
    said: list[Message] = []
    state = state_of(tmp_path, said)
    assert state.load("teach", LABELS) is None
    state.checkpoints.at("teach").save({"step": 3})
    state.save("teach", {"history": {"points": []}}, network, LABELS)
    assert said == [Saved(stage="part"), Saved(stage="teach")]
    assert sorted(path.name for path in state.folder.iterdir()) == ["teach.json", "teach.safetensors"]  # no checkpoint
    again = state_of(tmp_path)
    facts, weights = again.load("teach", LABELS), again.weights("teach")
    assert facts and facts["history"] == {"points": []}
    assert weights.keys() == network.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())


def test_no_other_job_saves_the_same_file(tmp_path: Path, network: TransformerNetwork) -> None:
    saved = []
    for name in ("one", "other"):
        state = State(tmp_path / name, tmp_path / "tmp", Teller(lambda _: None, clock=lambda: 0.0))
        state.save("teach", {}, network, LABELS)
        saved += [path.read_bytes() for path in state.folder.iterdir()]
    assert len({*saved}) == 4  # what one job drops, another may be storing


def test_the_controls_files_lie_beside_the_jobs_own(tmp_path: Path) -> None:
    state_of(tmp_path).save("auto", {"x": 1})
    control = state_of(tmp_path, prefix="control-")
    assert control.load("auto") is None
    control.save("auto", {"x": 2})
    assert sorted(path.name for path in control.folder.iterdir()) == ["auto.json", "control-auto.json"]


def test_what_was_saved_with_its_labels_in_another_order_is_not_gone_on_from(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    state.save("teach", {}, labels=LABELS)
    assert state.load("teach", ["neg", "pos"]) is None and state.load("teach", LABELS) is not None
    (state.folder / "teach.json").write_text(json.dumps({"seconds": 3.0}))  # of a version that sorted them
    assert state.load("teach", LABELS) is None and state.load("teach", ["neg", "pos"]) is not None


def test_a_stage_of_an_earlier_attempt_took_its_time(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/teach.json").write_text(json.dumps({"seconds": 3.0}))
    teller = Teller(lambda _message: None)
    State(tmp_path / "state", tmp_path / "tmp", teller).load("teach")
    assert teller.timings == {"teach": 3.0}


def test_a_full_disk_costs_what_could_be_gone_on_from(
    tmp_path: Path, network: TransformerNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[Message] = []
    state = state_of(tmp_path, said)
    (tmp_path / "tmp").rmdir()
    state.save("teach", {}, network, LABELS)
    state.save("auto", {})
    assert not said and state.load("teach") is None and "cannot save the stage teach" in caplog.text


def test_of_two_layouts_the_time_of_both_counts(tmp_path: Path) -> None:
    clock = iter([0.0, 1.0, 10.0, 12.0])
    (tmp_path / "state").mkdir()
    for name, seconds in (("prune", 3.0), ("regular-prune", 5.0)):
        (tmp_path / f"state/{name}.json").write_text(json.dumps({"seconds": seconds}))
    teller = Teller(lambda _message: None, clock=lambda: next(clock))
    for prefix in ("", "regular-"):
        with teller.stage("prune"):
            State(tmp_path / "state", tmp_path / "tmp", teller, prefix).load("prune")
    assert teller.timings == {"prune": 3.0 + 1.0 + 5.0 + 2.0}
