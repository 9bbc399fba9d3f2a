"""A whole job on the tiny model: budget, files, loading with nothing of ours, resuming."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from core.domains.config import BOTH_WAYS, NEEDS_5
from core.domains.structure import Structure
from core.domains.transformer.load import load_network
from core.pruning.export.card import write_card
from core.pruning.job import publish, stages
from core.pruning.job.publish import verify
from core.pruning.job.run import ModelRef
from core.pruning.latency import stopwatch
from core.pruning.reading.read import read_inputs
from core.pruning.scoring import refit
from core.pruning.system.files import sha256
from core.pruning.training.predict import predict
from core.spec.errors import SpecError
from core.spec.messages import Alive, Fitted, Saved, StageBegun, StageProgress
from core.spec.methods import METHODS
from core.spec.report import Curve, Interval, Sizes
from tests.fresh import Fresh
from tests.pruning.whole import L0, PDP, go, spec_of
from tests.tiny import SOURCE, TARGET, rows, save_table, save_tiny_model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("coupling", "method"),
    [
        ("none", {}),
        ("sequential", {}),
        ("teacher", {}),
        ("none", L0),
        ("teacher", L0),
        ("sequential", L0 | {"method": {"name": "pdp"}}),
        ("none", {"method": {"name": "magnitude"}}),
        ("teacher", {"method": {"name": "random"}}),
    ],
)
def test_a_job_gives_a_checkpoint_that_is_what_was_measured(
    coupling: str,
    method: dict[str, Any],
    tiny: Path,
    tables: Mapping[str, Path],
    fresh: Fresh,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # the files hold no bytecode all the same
    sources = [] if coupling == "none" else [{"data": {"dataset": SOURCE}, "label": "label"}]
    spec = spec_of(sources=sources, transfer={"coupling": coupling}, **method)
    report, said = go(spec, tiny, tables, tmp_path)
    out = tmp_path / "output"

    budget = report.budget
    assert 0.99 * budget.limit <= budget.met <= budget.limit == int(0.3 * budget.dense)
    assert (report.layout is None) == METHODS[spec.method.name].trains  # which have no regular layout
    if report.layout:
        assert all(0 <= one.worth <= 1 for one in (report.layout.regular, report.layout.free))
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(report.to_json()))
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["files"] == {p.name: sha256(p) for p in out.iterdir() if p.name != "manifest.json"}
    assert [m.stage for m in said if isinstance(m, StageBegun)] == [
        "data", "teach", "prune", "recover", "measure", "export",
    ]  # fmt: skip
    overall = [m.overall for m in said if isinstance(m, StageProgress)]
    assert overall == sorted(overall) and overall[-1] <= 1
    [fitted] = [m for m in said if isinstance(m, Fitted)]
    assert [kept for kept, _ in fitted.heads] == report.structure.heads
    assert [kept for kept, _ in fitted.neurons] == report.structure.neurons

    # A stranger's process: the working directory is the checkpoint, and nothing of ours can be imported.
    script = """
import json, sys
assert not any(name in sys.modules for name in ("core", "api"))
from load import load
from transformers import AutoModelForSequenceClassification
model, tokenizer = load()
other = AutoModelForSequenceClassification.from_pretrained(".", trust_remote_code=True).eval()
rows = [json.loads(line) for line in open("test.jsonl", encoding="utf-8")]
batch = tokenizer([row["text"][0] for row in rows], padding=True, return_tensors="pt")
a, b = model(**batch).logits, other(**batch).logits
assert (a - b).abs().max() < 1e-5
right = [model.config.id2label[i] == row["label"] for i, row in zip(a.argmax(1).tolist(), rows)]
print(sum(right) / len(right), sum(p.numel() for p in model.parameters()), len(rows))
"""
    ended = subprocess.run(
        [*fresh, "-I", "-c", "import sys; sys.path.insert(0, '.')\n" + script],
        cwd=out,
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path)},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    accuracy, parameters, count = ended.stdout.split()
    assert float(accuracy) == report.results.pruned.test["accuracy"].value
    assert int(parameters) == report.results.pruned.model_params
    assert int(count) == report.data.test == 100


@pytest.mark.slow
@pytest.mark.parametrize("method", [{}, L0], ids=["fisher", "l0"])
def test_a_budget_in_time_is_met_and_measured_once(
    method: dict[str, Any], tiny: Path, tables: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a stopwatch that runs the models, and says what their units take on any machine."""
    honest, seen = stopwatch.Stopwatch.measure, list[Structure]()

    def measured(watch: stopwatch.Stopwatch, structure: Structure) -> stopwatch.Reading:
        seen.append(structure)
        left = sum(map(len, structure.heads)) / 12 + sum(map(len, structure.neurons)) / 384
        return replace(honest(watch, structure), dense_ms=10.0, ms=2.0 + 4.0 * left)

    monkeypatch.setattr(stopwatch.Stopwatch, "measure", measured)
    monkeypatch.setattr(stopwatch, "SECONDS", 0.0)
    spec = spec_of(budget={"speedup": 1.5, "batch_size": 8, "sequence_length": 64}, **method)
    report, _ = go(spec, tiny, tables, tmp_path)
    budget, results = report.budget, report.results
    (kept,) = (one for one in budget.measured.fits if one.kept)
    assert budget.limit == pytest.approx(budget.dense / 1.5)
    assert budget.met <= budget.limit
    assert budget.met == pytest.approx(budget.dense * kept.ms / kept.dense_ms)
    assert (budget.measured.batch_size, budget.sequence_length, budget.measured.runtime) == (
        8,
        64,
        "torch",
    )
    assert results.pruned.encoder_params < results.dense.encoder_params  # counted as ever
    assert report.verified.parameters == results.pruned.model_params
    assert report.peak_memory_bytes.process > 2**26
    assert report.work_macs.train > report.work_macs.measure > 0
    assert (
        f"measured {kept.ms:.3g} ms, and {kept.dense_ms:.3g} ms for the dense"
        in (tmp_path / "output" / "README.md").read_text()
    )
    assert "times as fast as the dense model" in (tmp_path / "output" / "report.html").read_text()

    # Killed after pruning, the job goes on with what was measured, and measures only what it reports at its end.
    (tmp_path / "state/recover.json").unlink()
    seen.clear()
    again, _ = go(spec, tiny, tables, tmp_path)
    assert [Sizes(**one.sizes()) for one in seen] == [again.structure] == [report.structure]
    measured_again = {"measured": {"again"}}
    assert again.budget.model_dump(exclude=measured_again) == budget.model_dump(exclude=measured_again)


@pytest.mark.slow
@pytest.mark.parametrize("method", [{}, L0], ids=["fisher", "l0"])
@pytest.mark.parametrize("kind", ["macs", "bytes"])
def test_a_budget_of_another_cost_is_met(
    kind: str, method: dict[str, Any], tiny: Path, tables: Mapping[str, Path], tmp_path: Path
) -> None:
    report, _ = go(spec_of(budget={kind: 0.5}, **method), tiny, tables, tmp_path)
    budget, results = report.budget, report.results
    assert (budget.cost, budget.of, budget.asked) == (kind, "model", 0.5)
    assert budget.limit == int(0.5 * getattr(results.dense, kind))
    assert budget.met == getattr(results.pruned, kind) <= budget.limit
    assert budget.met >= (0.99 if kind == "macs" else 0.97) * budget.limit  # a tiny file's header is 2 % of it
    assert (tmp_path / "output" / "model.safetensors").stat().st_size == results.pruned.bytes


@pytest.mark.slow
@pytest.mark.parametrize("transfer", [{}, {"coupling": "teacher"}], ids=["auto", "teacher"])
def test_a_regular_layout_loads_without_any_code(
    transfer: dict[str, Any], tiny: Path, tables: Mapping[str, Path], fresh: Fresh, tmp_path: Path
) -> None:
    source = {"data": {"dataset": SOURCE}, "label": "label"}
    asked: dict[str, Any] = {"export": {"layout": "regular", "formats": ["onnx"]}, "budget": {"params": 0.5}}
    spec = spec_of(sources=[source], transfer=transfer, **asked)
    report, _ = go(spec, tiny, tables, tmp_path)
    out, budget = tmp_path / "output", report.budget
    assert 0.99 * budget.limit <= budget.met <= budget.limit
    assert not list(out.glob("*.py"))
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert not {"auto_map", "topwork"} & set(config)
    layers = config["num_hidden_layers"]
    assert layers == 3 - len(report.structure.dropped) < 3
    assert report.layout.regular.worth <= report.layout.free.worth
    assert report.verified.changed_predictions == 0
    assert report.verified.max_difference_between_loaders is None
    assert "The layout is regular" in (out / "report.html").read_text()
    assert b".py" not in (out / "model.onnx").read_bytes()  # nor where our code lies
    card = (out / "README.md").read_text()
    assert "trust_remote_code" not in card and "load.py" not in card
    assert "It needs transformers 5.3" not in card
    for said in ({"global_attn_every_n_layers": NEEDS_5}, {"pruned_heads": BOTH_WAYS}):
        (tmp_path / "config.json").write_text(json.dumps(said))
        write_card(report, spec, ModelRef(tiny, "tiny"), 32, "Auto", tmp_path / "README.md")
        assert "\nIt needs transformers 5.3 or newer: " in (tmp_path / "README.md").read_text()
    script = """
import json, sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer
model, how = AutoModelForSequenceClassification.from_pretrained(".", output_loading_info=True)
assert not any(how.values()), how
rows = [json.loads(line) for line in open("test.jsonl", encoding="utf-8")]
batch = AutoTokenizer.from_pretrained(".")([row["text"][0] for row in rows], padding=True, return_tensors="pt")
right = [model.config.id2label[i] == row["label"] for i, row in zip(model(**batch).logits.argmax(1).tolist(), rows)]
print(sum(right) / len(right), sum(p.numel() for p in model.parameters()))
"""
    ended = subprocess.run(
        [*fresh, "-I", "-c", script],
        cwd=out,
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path)},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    accuracy, parameters = ended.stdout.split()
    assert float(accuracy) == report.results.pruned.test["accuracy"].value
    assert int(parameters) == report.results.pruned.model_params

    (tmp_path / "state/recover.json").unlink()
    again, said = go(spec, tiny, tables, tmp_path)
    assert {m.stage for m in said if isinstance(m, Saved)} == {"recover"}
    assert (again.structure, again.layout) == (report.structure, report.layout)
    assert again.results.pruned.test == report.results.pruned.test


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "pattern"), [("pdp", "unstructured"), ("magnitude", "2:4")], ids=["pdp-unstructured", "magnitude-2:4"]
)
def test_a_budget_in_zeros_gives_an_ordinary_checkpoint_and_resumes(
    method: str, pattern: str, tiny: Path, tables: Mapping[str, Path], fresh: Fresh, tmp_path: Path
) -> None:
    spec = spec_of(
        budget={"sparsity": 0.9 if pattern == "unstructured" else 0.5, "pattern": pattern},
        sources=[{"data": {"dataset": SOURCE}, "label": "label"}],
        transfer={"coupling": "teacher"},
        **(PDP if method == "pdp" else {"method": {"name": method}}),
    )
    report, _ = go(spec, tiny, tables, tmp_path)
    budget, out = report.budget, tmp_path / "output"
    assert budget.met == budget.limit == budget.dense - round(budget.asked * budget.dense)
    assert report.sparsity.gzip_bytes < report.results.pruned.bytes
    assert "make no dense kernel faster" in (out / "README.md").read_text()
    assert ("sparse tensor cores" in (out / "report.html").read_text()) == (pattern == "2:4")
    script = """
import json, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
model, tokenizer = AutoModelForSequenceClassification.from_pretrained("."), AutoTokenizer.from_pretrained(".")
rows = [json.loads(line) for line in open("test.jsonl", encoding="utf-8")]
logits = model(**tokenizer([row["text"][0] for row in rows], padding=True, return_tensors="pt")).logits
assert (logits - torch.tensor([row["logits"] for row in rows])).abs().max() < 1e-4
matrices = [p for name, p in model.named_parameters() if ".layer." in name and p.ndim == 2]
print(sum(int((p == 0).sum()) for p in matrices))
"""
    command, environment = [*fresh, "-I", "-c", script], {"HOME": str(tmp_path)}
    ended = subprocess.run(command, cwd=out, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) == budget.dense - budget.met
    assert not list(out.glob("*.py"))
    (tmp_path / "state/recover.json").unlink()
    again, said = go(spec, tiny, tables, tmp_path)
    assert {m.stage for m in said if isinstance(m, Saved)} == {"recover"}
    assert again.results.pruned.test == report.results.pruned.test


@pytest.mark.slow
def test_a_model_that_knows_the_labels_is_pruned_without_any_training(
    tiny: Path, tables: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First made: an ordinary checkpoint, its labels in another order than sorting gives them."""
    spec = spec_of(budget={"sparsity": 0.1}, method={"name": "magnitude"})
    made, _ = go(spec, tiny, tables, tmp_path / "first")
    folder = tmp_path / "first/output"
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": {"0": "pos", "1": "neg"}, "label2id": {"pos": 0, "neg": 1}}
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    head = {name: tensor.flip(0).contiguous() for name, tensor in weights.items() if name.startswith("classifier.")}
    save_file(weights | head, folder / "model.safetensors", metadata={"format": "pt"})

    steps = {"steps": {"teach": 0, "recover": 0}}
    report, said = go(spec_of(train=steps), folder, tables, tmp_path / "second")
    assert report.results.dense.test == made.results.pruned.test
    assert report.results.given.test == report.results.dense.test
    assert report.results.given.change["dense"]["accuracy"] == Interval(value=0, low=0, high=0)
    assert report.curves == dict.fromkeys(("teach", "prune", "recover"), Curve())
    assert report.budget.met <= report.budget.limit
    overall = [m.overall for m in said if isinstance(m, StageProgress)]
    assert overall == sorted(overall) and overall[-1] <= 1

    # Sources take part in the scores, and, if they share no weights, not in the least squares.
    taken: list[list[int]] = []
    honest = refit.padded

    def padded(streams: Any, index: Any, where: Any) -> Any:
        taken.append([len(rows) for rows in index])
        return honest(streams, index, where)

    monkeypatch.setattr(refit, "padded", padded)
    transfer = {"coupling": "teacher", "stages": ["prune"]}
    for share, streams in ((["masks"], 1), (["weights"], 2)):
        sources = {"sources": [{"data": {"dataset": SOURCE}}], "transfer": transfer | {"share": share}}
        go(spec_of(train=steps, **sources), folder, tables, tmp_path / share[0])
        assert {len(rows) for rows in taken} == {streams}
        taken.clear()
    with pytest.raises(SpecError, match="fine-tuned to the labels neg, pos already; this one has no head") as caught:
        go(spec_of(train=steps), tiny, tables, tmp_path / "third")
    assert caught.value.field == "/train/steps/teach"


@pytest.mark.field(
    "2. Models in, checkpoints out", "a fine-tuned classifier: as given", "measured beside the taught one, paired"
)
def test_a_model_with_a_head_of_its_own_is_measured_as_given_and_keeps_its_order(
    tiny: Path, tables: Mapping[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "own"))
    made = load_network(tiny, ["pos", "neg"], seed=5)
    made.assembled().save_pretrained(folder)
    report, _ = go(spec_of(), folder, tables, tmp_path / "work")
    assert report.task.labels == ["pos", "neg"] and report.task.head == "its own head for 2 labels"
    config = json.loads((tmp_path / "work/output/config.json").read_text())
    assert config["id2label"] == {"0": "pos", "1": "neg"}

    inputs, as_given = read_inputs(spec_of(), folder, {TARGET: tables[TARGET]})
    right = predict(as_given, inputs.test).argmax(1) == inputs.test.labels
    dense, given = report.results.dense, report.results.given
    assert given.test["accuracy"].value == pytest.approx(float(right.float().mean()))
    moved = given.change["dense"]["accuracy"]
    assert moved.value == pytest.approx(dense.test["accuracy"].value - given.test["accuracy"].value)
    assert moved.low <= moved.value <= moved.high
    page, card = ((tmp_path / "work/output" / name).read_text() for name in ("report.html", "README.md"))
    assert "<th>as given</th>" in page and "its own head for 2 labels" in page
    assert "as given its accuracy on the same rows is" in card

    # What an earlier version saved had its labels sorted: it is not gone on from.
    facts = json.loads((tmp_path / "work/state/teach.json").read_text())
    del facts["labels"]
    (tmp_path / "work/state/teach.json").write_text(json.dumps(facts))
    again, said = go(spec_of(), folder, tables, tmp_path / "work")
    assert {m.stage for m in said if isinstance(m, Saved)} == {"teach"}
    assert again.results.given == given


def test_a_job_resumes_after_its_last_finished_stage(tiny: Path, tables: Mapping[str, Path], tmp_path: Path) -> None:
    """Killed after any stage, the next attempt trains only what is missing and ends with the same result."""
    whole, _ = go(spec_of(), tiny, tables, tmp_path / "whole")
    for finished in (["teach"], ["teach", "prune"], ["teach", "prune", "recover"]):
        state = tmp_path / "-".join(finished) / "state"
        state.mkdir(parents=True)
        for stage in finished:
            for suffix in (".safetensors", ".json"):
                (state / f"{stage}{suffix}").write_bytes((tmp_path / "whole/state" / f"{stage}{suffix}").read_bytes())
        again, said = go(spec_of(), tiny, tables, state.parent)
        trained = {m.stage for m in said if isinstance(m, Saved)}
        assert trained == {"teach", "prune", "recover"} - set(finished)
        assert again.structure == whole.structure
        assert again.results.pruned.test == whole.results.pruned.test
        assert again.curves.keys() == whole.curves.keys()


def test_texts_longer_than_the_model_reads_are_cut(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "short", positions=16)
    table = rows(80)
    table["text"] = [f"{text} {' w1' * 100}" for text in table["text"]]
    save_table(tmp_path / "long.parquet", table)
    report, _ = go(spec_of(task={"data": {"dataset": TARGET}}), model, {TARGET: tmp_path / "long.parquet"}, tmp_path)
    assert json.loads((tmp_path / "output/manifest.json").read_text())["max_length"] == 16
    assert report.verified.changed_predictions == 0
    inside = spec_of(task={"data": {"dataset": TARGET}}, budget={"macs": 0.6})
    report, _ = go(inside, model, {TARGET: tmp_path / "long.parquet"}, tmp_path / "macs")
    assert report.budget.sequence_length == 16


def test_structure_alone_of_a_method_that_trains_is_refitted_where_nothing_follows(
    tiny: Path, tables: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refitted: list[int] = []
    monkeypatch.setattr(stages, "refit", lambda *_: refitted.append(1))
    sources = [{"data": {"dataset": SOURCE}, "label": "label"}]
    steps = {"teach": 4, "prune": 4, "recover": 0}
    for share in (["masks"], ["weights", "masks"]):
        transfer = {"coupling": "joint", "share": share, "stages": ["prune"]}
        spec = spec_of(sources=sources, transfer=transfer, method={"name": "l0"}, train={"steps": steps})
        go(spec, tiny, tables, tmp_path / share[0])
    assert refitted == [1]


@pytest.mark.slow
def test_nothing_is_silent_for_as_long_as_rows_take(
    tiny: Path, tables: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that says nothing for minutes is taken for dead: every pass over rows gives signs of life."""

    def silent() -> None:
        raise AssertionError("rows are read with nobody to hear of it")

    monkeypatch.setitem(vars(predict)["__wrapped__"].__kwdefaults__, "alive", silent)
    source = {"data": {"dataset": SOURCE}, "label": "label"}
    for method in ("fisher", "l0", "pdp"):
        steps = {"teach": 30, "prune": 12, "recover": 30} if method != "fisher" else {"teach": 30, "recover": 30}
        spec = spec_of(method={"name": method}, sources=[source], train={"steps": steps})
        report, said = go(spec, tiny, tables, tmp_path / method)
        assert report.transfer.auto and {Alive, StageProgress} <= {*map(type, said)}

    beats: list[int] = []
    verify(tmp_path / "pdp/output", report.results.pruned, lambda: beats.append(1))
    assert len(beats) > report.verified.rows / 64


@pytest.mark.slow
@pytest.mark.parametrize(("types", "changes"), [(2, {}), (1, {"vocabulary": "trim"})])
def test_pairs_of_texts(types: int, changes: dict[str, Any], tmp_path: Path) -> None:
    """A model that knows one type of text has its tokenizer saved as it was used."""
    model = save_tiny_model(tmp_path / "model", types=types)
    table = rows(120)
    table["second"] = table["text"][::-1]
    save_table(tmp_path / "pairs.parquet", table)
    spec = spec_of(task={"data": {"dataset": TARGET}, "text": ["text", "second"]}, **changes)
    report, _ = go(spec, model, {TARGET: tmp_path / "pairs.parquet"}, tmp_path / "work")
    assert report.data.train == 72


def test_budget_out_of_reach_fails_before_any_training(tiny: Path, tables: Mapping[str, Path], tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        go(spec_of(budget={"params": 0.001}), tiny, tables, tmp_path)
    assert caught.value.field == "/budget/params"


def test_a_damaged_checkpoint_does_not_pass_verification(
    tiny: Path, tables: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """saved == evaluated is checked on the files, not assumed."""
    honest = publish.write_model

    def damaging(network: Any, *rest: Any, **options: Any) -> None:
        damaged = copy.deepcopy(network)
        weight = damaged.heads["target"].weight.data
        weight.copy_(-weight)
        honest(damaged, *rest, **options)

    monkeypatch.setattr(publish, "write_model", damaging)
    with pytest.raises(RuntimeError, match="not the model that was measured"):
        go(spec_of(), tiny, tables, tmp_path)
