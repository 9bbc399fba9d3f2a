"""A loop that is killed and run again ends bit for bit as one that was not, and repeats only what was not saved."""

from __future__ import annotations

import copy
import resource
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.domains.cost import Cost
from core.domains.network import TARGET as TARGET_HEAD
from core.domains.structure import Structure
from core.domains.transformer.load import load_network
from core.domains.transformer.network import TransformerNetwork
from core.pruning.latency import stopwatch
from core.pruning.masking import pdp, sparsity
from core.pruning.masking.l0 import prune
from core.pruning.reading.tokenizer import load_tokenizer
from core.pruning.scoring.fitter import Fitter
from core.pruning.system.files import write_tensors
from core.pruning.training import checkpoint as module
from core.pruning.training.batches import encode
from core.pruning.training.checkpoint import NOWHERE, Checkpoint, Checkpoints
from core.pruning.training.coupling import Phase, add_heads, phases
from core.pruning.training.losses import labelled_by
from core.pruning.training.predict import predict
from core.pruning.training.train import Pace, Training, train
from core.pruning.trials import allot, trials
from core.pruning.trials.policy import Decision
from core.rows.example import Example
from core.rows.text.processor import Text
from core.spec.messages import Message
from core.spec.report import Report
from core.tasks.tags import Tags
from tests.draws import draws
from tests.pruning.test_auto import decide, ground_of
from tests.tiny import SOURCE, TARGET, done, rows, save_table, spec_of, task_rows

EVERY = 4  # steps between two saves


class Killed(BaseException):
    """Stands in for SIGKILL: nothing of ours catches it."""


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fourth time that it is asked, a save is due."""
    asked = 0

    def due(_self: Checkpoints) -> bool:
        nonlocal asked
        asked += 1
        return asked % EVERY == 0

    monkeypatch.setattr(Checkpoints, "due", due)


class Steps:
    """Every step that a loop finished, and after which of them, or after how many more, the process is killed."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.kills: list[int] = []
        self.left = -1

    def __call__(self, _pace: Pace, done: int, sparsity: float | None = None) -> None:
        self.taken.append(done)
        self.left -= 1
        if done in self.kills or self.left == 0:
            self.kills = [kill for kill in self.kills if kill != done]
            raise Killed


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Of the loops of this test."""
    steps = Steps()
    monkeypatch.setattr(Pace, "step", lambda *arguments, **more: steps(*arguments, **more))
    return steps


def folder_of(tmp_path: Path) -> Checkpoints:
    """As a new process opens it."""
    return Checkpoints(tmp_path, "", lambda: None)


def killed_at(kills: Sequence[int], work: Callable[[Checkpoint], Any], tmp_path: Path, steps: Steps) -> Any:
    """Kill `work` after each of these steps, then let it end."""
    steps.taken.clear()
    steps.kills = list(kills)
    for _ in kills:
        with pytest.raises(Killed):
            work(folder_of(tmp_path).at("loop"))
    return work(folder_of(tmp_path).at("loop"))


def same(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return mine.keys() == theirs.keys() and all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


@pytest.fixture
def plans(tiny: Path, network: TransformerNetwork) -> dict[str, list[Phase]]:
    """Stages of every kind; the source has a head of its own."""
    target, source = task_rows(tiny, 40, 0), task_rows(tiny, 60, 1, "source0")
    target = labelled_by(network, target, TARGET_HEAD)
    text = labelled_by(network, source, TARGET_HEAD)
    found = {
        "alone": phases("none", "teach", False, target, [], 8),
        "two phases": phases("sequential", "teach", True, target, [source], 8),
        "mixed": phases("joint", "recover", True, target, [source], 8),
        "learned": phases("joint", "recover", True, target, [source], 8),
        "taught": phases("teacher", "recover", True, target, [text], 8),
    }
    for plan in found.values():
        add_heads(network, plan, [source])
    return found


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    ("kind", "selected"),
    [("alone", False), *((kind, True) for kind in ("alone", "two phases", "mixed", "learned", "taught"))],
)
def test_training_that_is_killed_ends_as_if_it_had_not_been(
    kind: str,
    selected: bool,
    tiny: Path,
    network: TransformerNetwork,
    plans: dict[str, list[Phase]],
    tmp_path: Path,
    steps: Steps,
) -> None:
    dev = task_rows(tiny, 24, 2).rows if selected else None

    def work(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], dict[str, Any]]:
        torch.manual_seed(99)  # a new process is in another state than the one that was killed
        student = copy.deepcopy(network)
        training = Training(30, 1e-3, 5, print, kind == "learned", checkpoint)
        history = train(student, plans[kind], dev, training, stage="teach", metric="accuracy")
        return student.state_dict(), asdict(history)

    weights, history = work(NOWHERE)
    assert (len(history["weights"]) > 10) == (kind == "learned" and selected)
    assert (history["kept_step"] > 0) == selected
    again, curve = killed_at([6, 14, 17, 29], work, tmp_path, steps)
    assert same(again, weights) and curve == history
    assert set(steps.taken) == set(range(1, 31)) and len(steps.taken) <= 30 + 4 * EVERY  # no more than was not saved


PRUNED = {"alone": [6, 29], "tied": [11], "learned": [8, 17]}


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("kind", PRUNED)
def test_pruning_that_is_killed_ends_as_if_it_had_not_been(
    kind: str, tiny: Path, network: TransformerNetwork, cost: Cost, tmp_path: Path, steps: Steps
) -> None:
    """The network has shrunk before each kill: masks, lambdas, moments and structure are restored, too."""
    dev = task_rows(tiny, 24, 2).rows
    target = labelled_by(network, task_rows(tiny, 40, 0), TARGET_HEAD)
    source = task_rows(tiny, 60, 1, "source0")
    coupling = {"alone": "none", "tied": "tied", "learned": "joint"}[kind]
    plan = phases(coupling, "prune", True, target, [source], 8)
    add_heads(network, plan, [source])

    def work(checkpoint: Checkpoint) -> tuple[Structure, dict[str, Tensor], dict[str, Any]]:
        torch.manual_seed(99)
        student = copy.deepcopy(network)
        training = Training(32, 1e-3, 5, print, kind == "learned", checkpoint)
        fitter = Fitter(cost, sum(cost.fixed) + (cost.dense - sum(cost.fixed)) // 4)
        structure, history = prune(student, fitter, plan, dev, training)
        return structure, student.state_dict(), asdict(history)

    structure, weights, history = work(NOWHERE)
    structure_again, again, curve = killed_at(PRUNED[kind], work, tmp_path, steps)
    assert structure_again == structure and same(again, weights) and curve == history
    assert set(steps.taken) == set(range(1, 33)) and len(steps.taken) <= 32 + len(PRUNED[kind]) * EVERY
    saved = folder_of(tmp_path).at("loop").load()
    assert saved is not None and Structure.from_json(saved["present"]) != Structure.dense(cost.anatomy)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("what", ["units", "weights"])
@pytest.mark.parametrize("coupling", ["none", "sequential"])
def test_pdp_that_is_killed_ends_as_if_it_had_not_been(
    what: str, coupling: str, tiny: Path, network: TransformerNetwork, cost: Cost, tmp_path: Path, steps: Steps
) -> None:
    """In the source's phase, at its very end, under soft masks, and after they have become hard."""
    dev = task_rows(tiny, 24, 2).rows
    target = labelled_by(network, task_rows(tiny, 40, 0), TARGET_HEAD)
    source = task_rows(tiny, 60, 1, "source0")
    plan = phases(coupling, "prune", True, target, [source], 8)
    add_heads(network, plan, [source])

    def work(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], dict[str, Any]]:
        torch.manual_seed(99)
        student = copy.deepcopy(network)
        training = Training(32, 1e-3, 5, print, checkpoint=checkpoint)
        fitter = Fitter(cost, sum(cost.fixed) + (cost.dense - sum(cost.fixed)) // 4)
        if what == "units":
            _, history = pdp.prune(student, fitter, plan, dev, training)
        else:
            history = sparsity.pdp(student, 0.8, "unstructured", plan, dev, training)
        return student.state_dict(), asdict(history)

    weights, history = work(NOWHERE)
    kills = [6, 17, 19, 29]
    again, curve = killed_at(kills, work, tmp_path, steps)
    assert same(again, weights) and curve == history
    assert set(steps.taken) == set(range(1, 33)) and len(steps.taken) <= 32 + len(kills) * EVERY


@pytest.mark.usefixtures("often")
def test_answers_for_words_of_any_number_are_not_computed_again(tiny: Path, tmp_path: Path) -> None:
    """Batches of their own width come back from the file, and give what was never interrupted."""
    problem = Tags(("B-x", "O"))
    examples = [Example(("good",) * (i % 7 + 1), ("O",) * (i % 7 + 1)) for i in range(30)]
    rows = encode(examples, problem, Text(load_tokenizer(tiny, of_words=True), 32, of_words=True))
    network = load_network(tiny, problem.labels, seed=0, problem="token_classification")
    done: list[int] = []

    def once(stop: int = 99) -> Tensor:
        def alive() -> None:
            done.append(1)
            if len(done) == stop:
                raise Killed

        return predict(network, rows, batch_size=4, alive=alive, checkpoint=folder_of(tmp_path).at("loop"))

    with pytest.raises(Killed):
        once(stop=6)
    assert torch.equal(once(), predict(network, rows, batch_size=4))
    assert len(done) == 6 + (8 - 4)  # of eight batches four were saved
    assert predict(network, rows, batch_size=4).shape == (30, 9, 2)


@pytest.mark.slow
@pytest.mark.usefixtures("often")
def test_trials_that_are_killed_decide_as_if_they_had_not_been(
    tiny: Path, network: TransformerNetwork, cost: Cost, tmp_path: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in each part of the work: no trial is run twice, nor is a teacher taught twice."""
    for part in (allot, trials):
        monkeypatch.setattr(part, "BATCHES", 2)  # or so short a job would have no trials

    def work(at: Callable[[str], Checkpoint]) -> Decision:
        lengths = {"teach": 60, "prune": 0, "recover": 180}
        return decide(ground_of(tiny, copy.deepcopy(network), cost), lengths, checkpoints=at)

    whole = work(lambda _name: NOWHERE)
    all_steps = len(steps.taken)
    assert len(whole.trials) == 4 and all_steps > 200
    steps.taken.clear()
    again, runs = None, 0
    while again is None:
        steps.left, runs = 50, runs + 1
        with suppress(Killed):
            again = work(folder_of(tmp_path).at)
    assert again == whole and runs > 3
    assert len(steps.taken) <= all_steps + runs * 2 * EVERY


@pytest.mark.slow
@pytest.mark.usefixtures("often")
def test_a_job_that_is_killed_again_and_again_ends_with_the_same_file(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the teacher's labels to the test rows: whatever is in between, the download is the same."""
    seen, write = set[str](), Checkpoints.write

    def noted(self: Checkpoints, name: str, state: Mapping[str, Any]) -> None:
        seen.add(name)
        write(self, name, state)

    monkeypatch.setattr(Checkpoints, "write", noted)
    tables = {name: save_table(tmp_path / name, rows(300, seed)) for seed, name in enumerate((TARGET, SOURCE))}
    spec = spec_of(
        task={"data": {"dataset": TARGET}, "split": {"train": 60, "dev": 40}},
        sources=[{"data": {"dataset": SOURCE}, "label": "label"}],
        transfer={"coupling": "teacher", "weighting": "learned"},
        budget={"params": 0.3},
        train={"steps": {"teach": 30, "recover": 30}, "learning_rate": 1e-3},
    )

    def work(workdir: Path, messages: int) -> Report | None:
        said = []

        def report(message: Message) -> None:
            said.append(message)
            if len(said) == messages:
                raise Killed

        with suppress(Killed):
            return done(spec, tiny, tables, workdir, report)
        return None

    whole = work(tmp_path / "whole", -1)
    again: Report | None = None
    kills = 0
    while not again:
        again, kills = work(tmp_path / "killed", 12), kills + 1
    assert kills > 4
    assert {"teach", "teach-labels-0", "teach-labels-target", "prune", "recover", "recover-test-dense"} <= seen
    assert whole and (again.structure, again.curves) == (whole.structure, whole.curves)
    assert again.results.pruned.test == whole.results.pruned.test
    files = [(tmp_path / name / "output/model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert files[0] == files[1]


@pytest.mark.usefixtures("often")
def test_a_budget_in_time_is_known_though_it_was_met_before_the_kill(
    tiny: Path, tmp_path: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pdp` cuts at 80 % of its steps, and goes on."""
    monkeypatch.setattr(stopwatch, "SECONDS", 0.1)
    tables = {TARGET: save_table(tmp_path / "target.parquet", rows(120))}
    spec = spec_of(
        budget={"speedup": 1.5, "batch_size": 8, "sequence_length": 64},
        method={"name": "pdp"},
        train={"steps": {"teach": 4, "prune": 40, "recover": 4}},
    )
    steps.kills = [39]
    with pytest.raises(Killed):
        done(spec, tiny, tables, tmp_path / "work")
    steps.taken.clear()
    report = done(spec, tiny, tables, tmp_path / "work")
    assert steps.taken[0] > 33  # after the cut
    (kept,) = (one for one in report.budget.measured.fits if one.kept)
    assert kept.of_dense == report.budget.fraction <= 1 / 1.5


def test_the_time_to_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module, "EVERY_S", 30.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    began, told = now, list[float]()
    folder = Checkpoints(tmp_path, "", lambda: told.append(now))
    one, other = folder.at("one"), folder.at("other")
    now += 29
    assert not one.due()
    one.keep({})
    assert not told
    now += 1
    assert one.due() and other.due()
    one.save({})
    assert told == [now] and not other.due()
    now += 30
    other.keep({})
    assert told[1:] == [now]
    folder._spent = 0.02 * 105  # two parts in a hundred of the time are spent at 105 s
    now = began + 89 + 30
    assert one.due()
    one.save({})
    now += 30
    folder._spent = 10.0  # very slow to write: no later than 45 s,
    assert not one.due()
    now += 15
    assert one.due()
    folder._began -= 1000  # or a twentieth of the work so far
    folder._spent = 100.0
    assert not one.due()
    now += 20
    assert one.due()
    assert not NOWHERE.due() and NOWHERE.load() is None


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.integers() | st.text(max_size=3), inner)
)


@draws()
@given(tree=trees)
def test_any_tree_of_plain_values_is_read_back(tree: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    loop = folder_of(tmp_path_factory.mktemp("state")).at("loop")
    loop.save({"tree": tree})
    assert loop.load() == {"tree": tree}


def test_tensors_of_every_kind_are_read_back(tmp_path: Path) -> None:
    loop = folder_of(tmp_path).at("loop")
    tensors = {
        0: torch.tensor(3.0),
        "a/b": torch.randn(2, 3).t(),
        "bytes": torch.get_rng_state(),
        "none": torch.empty(0, 2),
    }
    loop.save({"nested": [tensors]})
    state = loop.load()
    assert state is not None
    (found,) = state["nested"]
    assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_what_cannot_be_gone_on_from_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = folder_of(tmp_path).at("loop")
    assert loop.load() is None
    loop.save({"step": 1})
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert loop.load() is None
    file.write_bytes(whole)
    assert loop.load() == {"step": 1}
    monkeypatch.setattr(module, "_made_by", lambda: "another version")
    assert loop.load() is None
    loop.drop()
    assert not list(tmp_path.iterdir())


def test_what_finds_no_room_is_an_error_of_the_disk(tmp_path: Path) -> None:
    """Of which another attempt may be free; safetensors has an error of its own, which would end the job."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write x: .*File too large"):
            write_tensors(tmp_path / "x", {"x": torch.zeros(1000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_the_save_and_not_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, _tensors: object, _facts: object) -> None:
        path.write_bytes(b"the first few bytes")
        raise OSError(28, "No space left on device")

    loop = folder_of(tmp_path).at("loop")
    loop.save({"step": 1})
    monkeypatch.setattr(module, "write_tensors", full)
    loop.save({"step": 2})
    assert loop.load() == {"step": 1} and len(list(tmp_path.iterdir())) == 1
    assert "cannot save loop" in caplog.text


def test_no_two_jobs_save_the_same_file(tmp_path: Path) -> None:
    """So the storage may drop one job's state without a look at another's."""
    for name in ("one", "other"):
        folder_of(tmp_path).at(name).save({"step": 1})
    one, other = (path.read_bytes() for path in tmp_path.iterdir())
    assert one != other
