"""Several sizes of one model in one job: each as good as a job of its own, and one report of all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from core.domains.fit import within
from core.domains.structure import Structure
from core.pruning.job import family, prepare, run, stages
from core.pruning.job.family import knee, largest_first, recommended, warnings
from core.pruning.job.prepare import Prepared
from core.pruning.job.stages import Recovered, recover
from core.pruning.scoring.fitter import Fitter
from core.pruning.training.train import train
from core.spec.errors import SpecError
from core.spec.job import JobSpec
from core.spec.messages import Fitted, Message, Note, Saved, SizeTrained, StageBegun, StageProgress
from core.spec.report import FamilyReport, Interval, Result, Size, stored
from tests.builders import MINILM, bert_costs, scores_of
from tests.reports import result
from tests.tiny import SOURCE, TARGET, rows, save_table
from tests.tiny import spec_of as shortest
from tests.tiny_images import save_pictures, save_tiny_resnet
from tests.tiny_images import spec_of as of_images


def spec_of(*budgets: Mapping[str, Any], **changes: Any) -> JobSpec:
    """A job whose model learns something."""
    asked = {"budget": None, "budgets": list(budgets)} if budgets[1:] else {"budget": budgets[0]}
    body: dict[str, Any] = {
        "task": {"data": {"dataset": TARGET}, "split": {"train": 60, "dev": 40}},
        "train": {"steps": {"teach": 60, "recover": 30}, "learning_rate": 1e-3},
        "sources": [{"data": {"dataset": SOURCE}}],
        "transfer": {"coupling": "teacher"},
    }
    return shortest(**body | asked | changes)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    return {
        TARGET: save_table(folder / "target.parquet", rows(200, seed=0)),
        SOURCE: save_table(folder / "source.parquet", rows(100, seed=1)),
    }


def go(spec: JobSpec, tiny: Path, tables: Mapping[str, Path], workdir: Path, said: list[Message]) -> FamilyReport:
    used = {name: tables[name] for name in set(spec.dataset_ids().values())}
    found = run.run(spec, run.ModelRef(tiny, spec.model), used, workdir, said.append)
    assert isinstance(found, FamilyReport)
    return found


@pytest.fixture(scope="module")
def made(tiny: Path, tables: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """A job of three sizes, of which one cannot be; its folder, report and messages."""
    workdir, said = tmp_path_factory.mktemp("family"), list[Message]()
    spec = spec_of({"params": 0.2}, {"params": 0.5}, {"latency_ms": 1e-6})
    return workdir, go(spec, tiny, tables, workdir, said), said


@pytest.mark.slow
def test_each_size_is_a_whole_checkpoint_and_is_met(made: tuple[Any, ...]) -> None:
    workdir, report, _ = made
    assert [size.name for size in report.sizes] == ["params-0.5", "params-0.2", "latency_ms-1e-06"]
    assert "out of reach" in str(report.sizes[-1].error)
    manifest = json.loads((workdir / "output" / "manifest.json").read_text())
    assert [budget["params"] for budget in manifest["spec"]["budgets"]] == [0.2, 0.5, None]
    for size in report.sizes[:2]:
        folder = workdir / "output" / size.name
        own = json.loads((folder / "report.json").read_text())
        assert own["verified"]["changed_predictions"] == 0
        assert size.budget is not None and 0.98 * size.budget.limit < size.budget.met <= size.budget.limit
        assert own["results"]["pruned"] == json.loads(size.model_dump_json())["result"]
        assert json.loads((folder / "manifest.json").read_text())["spec"]["budget"]["params"] == size.budget.asked
        assert f"{size.name}/model.safetensors" in manifest["files"]
    assert stored(report.to_json()) == report


@pytest.mark.slow
def test_the_page_shows_every_size_and_links_its_own(made: tuple[Any, ...]) -> None:
    workdir, report, _ = made
    page = (workdir / "output" / "report.html").read_text()
    for size in report.sizes[:2]:
        assert f'href="{size.name}/report.html"' in page
    assert page.count("<polyline") == 3 and "Not made: <b>latency_ms-1e-06</b>" in page
    assert "Traceback" not in page and "None" not in page.split("<details>")[0]


@pytest.mark.slow
def test_a_smaller_size_is_cut_out_of_the_larger_one(made: tuple[Any, ...]) -> None:
    workdir, report, _ = made
    large, small = (
        Structure.from_json(json.loads((workdir / "output" / size.name / "structure.json").read_text()))
        for size in report.sizes[:2]
    )
    assert all({*less} <= {*more} for less, more in zip(small.kept, large.kept, strict=True))


@pytest.mark.parametrize("share", [0.07, 0.06, 0.05])
def test_a_larger_one_of_hardly_any_neurons_is_not_cut_again_where_that_misses_the_budget(share: float) -> None:
    rng, cost = np.random.default_rng(0), bert_costs(MINILM).params
    scores = scores_of(np.exp(1.5 * rng.normal(size=(6, 12)) + 4), np.exp(1.5 * rng.normal(size=(6, 1536))))
    larger, fitter = Fitter(cost, cost.dense // 10)(scores), Fitter(cost, int(share * cost.dense))
    small = fitter(within(scores, cost, larger) if fitter.reaches(scores, larger) else scores)
    assert 0.99 * fitter.limit <= cost.of(small) <= fitter.limit
    assert Fitter(cost, cost.dense // 11).reaches(scores, Structure.dense(MINILM.anatomy))


@pytest.mark.slow
def test_a_size_that_misses_its_budget_in_the_larger_one_is_cut_from_the_dense_model(
    tiny: Path, tables: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the steps of a size that is not nested, in a resumed job as well."""
    every, steps = scores_of(np.full((3, 4), 9.0), np.ones((3, 128))), {"teach": 4, "prune": 0, "recover": 6}
    monkeypatch.setattr(stages, "scores", lambda *_given: every)
    monkeypatch.setattr(prepare, "training_steps", lambda *_given: steps)
    spec, said = (
        spec_of({"params": 0.2}, {"params": 0.47}, train={"steps": {"teach": 4, "recover": 4}}),
        list[Message](),
    )
    for _ in range(2):
        report = go(spec, tiny, tables, tmp_path, said)
        for size, recovered in zip(report.sizes, (4, 6), strict=True):
            assert size.budget is not None and 0.98 * size.budget.limit < size.budget.met <= size.budget.limit
            own = json.loads((tmp_path / "output" / size.name / "report.json").read_text())
            assert own["train"]["steps"]["recover"] == recovered
        (tmp_path / "state/params-0.2-recover.json").unlink()
    notes = [one.message for one in said if isinstance(one, Note)]
    assert notes == ["params-0.2 is cut from the dense model: no units of the larger size meet its budget"]


@pytest.mark.slow
def test_what_is_common_is_done_once_and_said_so(made: tuple[Any, ...]) -> None:
    _, report, said = made
    begun = [(one.stage, one.size) for one in said if isinstance(one, StageBegun)]
    sizes = [size.name for size in report.sizes[:2]]
    each = [(stage, size) for size in sizes for stage in ("prune", "recover")]
    assert begun == [("data", None), ("teach", None), *each, ("measure", None), ("export", None)]
    assert [one.size for one in said if isinstance(one, Fitted)] == sizes
    early = [one for one in said if isinstance(one, SizeTrained)]
    assert [one.size for one in early] == sizes
    told = [one for one in said if isinstance(one, SizeTrained | StageBegun)]
    order = [one.size if isinstance(one, SizeTrained) else one.stage for one in told]
    assert order[2:] == ["prune", "recover", sizes[0], "prune", "recover", sizes[1], "measure", "export"]
    for one, made in zip(early, report.sizes, strict=False):
        assert one.change == made.on_dev and one.bytes == made.result.bytes
        assert one.quality.value - one.dense.value == pytest.approx(one.change.value)
    overall = [one.overall for one in said if isinstance(one, StageProgress)]
    assert (
        None not in overall
        and overall == sorted(filter(None, overall))
        and overall[-1] == pytest.approx(0.95, abs=0.01)
    )
    assert report.timings_s.keys() == {"data", "teach", "prune", "recover", "measure"}


@pytest.mark.slow
def test_the_largest_size_is_what_a_job_of_its_own_gives(
    made: tuple[Any, ...], tiny: Path, tables: Mapping[str, Path], tmp_path: Path
) -> None:
    alone = spec_of({"params": 0.5})
    used = {name: tables[name] for name in set(alone.dataset_ids().values())}
    run.run(alone, run.ModelRef(tiny, alone.model), used, tmp_path, lambda _message: None)
    folders = tmp_path / "output", made[0] / "output" / "params-0.5"
    one, several = (load_file(folder / "model.safetensors") for folder in folders)
    assert one.keys() == several.keys() and all((one[name] == several[name]).all() for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("last", ["params-0.5-recover.json", "params-0.2-prune.json"])
def test_it_goes_on_between_sizes_and_inside_one(
    last: str,
    made: tuple[Any, ...],
    tiny: Path,
    tables: Mapping[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Killed(Exception):
        pass

    spec = spec_of({"params": 0.2}, {"params": 0.5}, {"latency_ms": 1e-6})

    def until(message: Message) -> None:
        if isinstance(message, Saved) and (tmp_path / "state" / last).exists():
            raise Killed

    used = {name: tables[name] for name in set(spec.dataset_ids().values())}
    with pytest.raises(Killed):
        run.run(spec, run.ModelRef(tiny, spec.model), used, tmp_path, until)
    shutil.rmtree(tmp_path / "output")
    taught: list[str] = []

    def counted(*given: Any, stage: Any, **named: Any) -> Any:
        taught.append(stage)
        return train(*given, stage=stage, **named)

    monkeypatch.setattr("core.pruning.job.stages.train", counted)
    report = go(spec, tiny, tables, tmp_path, [])
    assert taught == ["recover"]  # of the second size alone
    for name in ("params-0.5", "params-0.2"):
        now, before = (load_file(folder / "output" / name / "model.safetensors") for folder in (tmp_path, made[0]))
        assert all((now[key] == before[key]).all() for key in before)
    assert [size.name for size in report.sizes] == [size.name for size in made[1].sizes]


@pytest.mark.slow
def test_a_smaller_size_goes_on_with_the_heads_of_the_larger_one(
    tiny: Path, tables: Mapping[str, Path], tmp_path: Path
) -> None:
    """Where a source with labels of its own enters recovery alone."""

    class Killed(Exception):
        pass

    def until(message: Message) -> None:
        if isinstance(message, Saved) and (tmp_path / "b/state/params-0.2-prune.json").exists():
            raise Killed

    transfer = {"coupling": "sequential", "stages": ["recover"]}
    source = {"data": {"dataset": SOURCE}, "label": "label", "label_map": {"pos": "up", "neg": "down"}}
    spec = spec_of({"params": 0.2}, {"params": 0.5}, sources=[source], transfer=transfer)
    whole = go(spec, tiny, tables, tmp_path / "a", [])
    with pytest.raises(Killed):
        run.run(spec, run.ModelRef(tiny, spec.model), tables, tmp_path / "b", until)
    assert go(spec, tiny, tables, tmp_path / "b", []).sizes[1].result.test == whole.sizes[1].result.test


@pytest.mark.slow
def test_a_size_whose_weights_its_precision_cannot_say_fails_alone(
    tiny: Path, tables: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recovered(prepared: Prepared, *given: Any) -> Recovered:
        made = recover(prepared, *given)
        if prepared.one.spec.budget.params == 0.2:
            made.student.heads["target"].weight.data[0, 0] = 1e5
        return made

    monkeypatch.setattr(run, "recover", recovered)
    steps = {"train": {"steps": {"teach": 4, "recover": 4}}, "export": {"precision": "float16"}}
    report = go(spec_of({"params": 0.2}, {"params": 0.5}, **steps), tiny, tables, tmp_path, [])
    made, failed = report.sizes
    assert (made.name, made.error, failed.name) == ("params-0.5", None, "params-0.2")
    assert "holds 1e+05, which 'float16' cannot say" in str(failed.error)


def test_all_sizes_out_of_reach_are_named_together(tiny: Path, tables: Mapping[str, Path], tmp_path: Path) -> None:
    spec = spec_of({"params": 1e-5}, {"params": 2e-5})
    with pytest.raises(SpecError) as refused:
        go(spec, tiny, tables, tmp_path, [])
    assert [fault.field for fault in refused.value.faults] == ["/budgets/0/params", "/budgets/1/params"]
    assert all("out of reach" in fault.message for fault in refused.value.faults)


def interval(value: float, half: float = 0.02) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def size(name: str, value: float, params: int, on_dev: float, lead: float = 0.3) -> Size:
    leads = {"over": 0.5, **interval(lead).model_dump()}
    measured = Result.model_validate(result(value) | {"model_params": params, "lead": leads})
    return Size(name=name, result=measured, change=interval(value - 0.9), on_dev=interval(on_dev))


SIZES = [size("a", 0.90, 800, 0.0), size("b", 0.89, 400, -0.01), size("c", 0.88, 200, -0.03), size("d", 0.70, 100, 0.0)]


def test_the_smallest_that_dev_does_not_tell_from_dense_is_recommended() -> None:
    assert recommended(SIZES) == "b"  # that of "d" may be luck: a larger one loses more
    assert recommended([size("a", 0.9, 800, -0.05), *SIZES[1:]]) is None


def test_sizes_are_in_the_order_of_what_they_compute() -> None:
    slow, fast = (
        one.model_copy(update={"result": one.result.model_copy(update={"macs": macs})})
        for one, macs in ((SIZES[1], 9), (SIZES[0], 3))
        if one.result
    )
    assert [one.name for one in largest_first([fast, slow])] == ["b", "a"]
    assert largest_first(SIZES) == SIZES  # zeros are computed with


def test_a_size_no_better_than_one_answer_is_never_recommended() -> None:
    assert recommended([SIZES[0], size("b", 0.89, 400, 0.0, lead=0.01)]) == "a"


def test_the_knee_is_where_quality_begins_to_fall_faster_than_size() -> None:
    assert knee(SIZES, "accuracy") == "c"
    assert knee(SIZES[:2], "accuracy") is None
    assert knee([size("a", 0.7, 800, 0), size("b", 0.8, 400, 0), size("c", 0.9, 200, 0)], "accuracy") is None


def test_what_is_said_of_some_sizes_names_them() -> None:
    assert warnings({"a": ["few rows", "small"], "b": ["few rows"]}) == ["few rows", "a: small"]
    lossy = "model.int8.onnx loses more than a point"
    assert warnings({"a": ["few rows"], "b": [lossy, "few rows"]}) == [f"b: {lossy}", "few rows"]
    assert family.useless(size("a", 0.5, 8, 0.0, lead=0.0))


@pytest.mark.slow
def test_sizes_of_an_image_model_share_their_widths_and_come_out_of_each_other(tmp_path: Path) -> None:
    table = save_pictures(tmp_path / "t.parquet", 150)
    save_tiny_resnet(tmp_path / "tiny")
    spec = of_images(budget=None, budgets=[{"macs": 0.4}, {"macs": 0.7}, {"speedup": 1.1}])
    assert {size.multiple for size in spec.sizes} == {spec.multiple} == {16}
    spec = of_images(budget=None, budgets=[{"macs": 0.4}, {"macs": 0.7}])
    found = run.run(spec, run.ModelRef(tmp_path / "tiny", "tiny"), {TARGET: table}, tmp_path, lambda _message: None)
    assert isinstance(found, FamilyReport)
    kept = []
    for size in found.sizes:
        assert size.budget is not None and size.budget.met <= size.budget.limit
        structure = json.loads((tmp_path / "output" / size.name / "structure.json").read_text())
        kept.append(Structure.from_json(structure).kept)
    assert all({*less} <= {*more} for more, less in zip(*kept, strict=True))
