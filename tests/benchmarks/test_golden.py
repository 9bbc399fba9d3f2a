"""The golden harness tells a difference, takes the code that it is told to, and asks for all there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from benchmarks import golden
from benchmarks.golden import JOBS, differences, leaves, main
from core.spec.budget import Kind, Pattern
from core.spec.job import JobSpec, Layout, Transfer
from core.spec.methods import METHODS
from core.spec.task import ProblemType

TABLES = [f"{dataset}.parquet" for dataset in (golden.TARGET, golden.SOURCE, golden.OTHER)]
CHILD = """
import json, pathlib, sys
if __name__ == "__main__":
    output = pathlib.Path(sys.argv[1], "output")
    output.mkdir()
    (output / "model.safetensors").write_text("weights")
    (output / "config.json").write_text("{}")
    value = LOSS
    (output / "report.json").write_text(json.dumps({"curves": [{"loss": value}], "timings_s": {"teach": id(value)}}))
    print(json.dumps({"event": "done", "metrics": {}}))
"""


def test_values_are_the_same_to_the_bit_or_differ() -> None:
    before = {"a": 0.1 + 0.2, "b": None, "c": 1, "e": float("nan")}
    assert differences(before, json.loads(json.dumps(before))) == []
    now = {"a": 0.3, "b": 0, "c": 1.0, "d": "new"}
    assert differences(before, now) == [
        "a: 0.30000000000000004 -> 0.3",
        "b: null -> 0",
        "c: 1 -> 1.0",
        "e: NaN -> absent",
        'd: absent -> "new"',
    ]


def test_every_value_of_a_report_is_kept_but_for_those_that_are_left_out() -> None:
    report = {"results": {"pruned": {"test": [0.5, {"low": 0.1}], "latency_ms": {"1": 3.2}}}, "timings_s": {"data": 1}}
    assert dict(leaves(report, "report")) == {
        "report.results.pruned.test[0]": 0.5,
        "report.results.pruned.test[1].low": 0.1,
    }


def test_a_changed_result_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """With a stand-in for all of the code."""
    monkeypatch.setattr(golden, "write_models", lambda folder: (folder / "bert").mkdir())
    monkeypatch.setattr(golden, "write_tables", lambda folder: [(folder / name).touch() for name in TABLES])
    root, kept = tmp_path / "root", tmp_path / "kept.json"
    for package in ("core", "worker"):
        (root / package).mkdir(parents=True)
        (root / package / "__init__.py").touch()

    def ended(loss: str, *arguments: str, name: str = "zeros") -> tuple[int, str]:
        (root / "worker/child.py").write_text(CHILD.replace("LOSS", loss))
        code = main(["--root", str(root), "--only", name, *arguments])
        return code, capsys.readouterr().out

    assert ended("0.5", "--write", str(kept))[0] == 0
    code, said = ended("0.5", "--against", str(kept))
    assert code == 0 and re.fullmatch(r"zeros, \d+ s: same\n", said)
    code, said = ended("0.25", "--against", str(kept))
    assert code == 1 and said.endswith("\n  report.curves[0].loss: 0.5 -> 0.25\n")
    code, said = ended("0.5", "--against", str(kept), name="zeros-channels")  # of which nothing is kept
    assert code == 1 and 'ended: absent -> "done"' in said
    code, said = ended("0.5", "--against", str(kept), name="ranking")  # which that code does not know
    assert (code, said) == (0, "")
    (root / "core/spec").mkdir()
    (root / "core/spec/task.py").write_text("text_ranking = None")
    code, said = ended("0.5", "--against", str(kept), name="ranking")
    assert code == 0 and re.fullmatch(r"ranking, \d+ s: not known before\n", said)
    kept.unlink()
    code, said = ended("1 / 0", "--write", str(kept))
    assert code == 1 and 'ended: "done" -> "crashed"' in said and "ZeroDivisionError" in said and not kept.exists()
    code, said = ended("0.5", "--write", str(kept), name="out-of-reach")
    assert code == 1 and 'ended: "failed" -> "done"' in said
    code, said = ended("0.5", "--write", str(kept), name="resumed")
    assert code == 1 and "no stage was said to be saved" in said


def test_code_of_another_folder_is_not_taken_for_that_of_the_root(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is not what is imported"):
        main(["--root", str(tmp_path), "--write", str(tmp_path / "kept.json")])


def test_every_value_that_ends_differently_is_asked_for() -> None:
    asked = [JobSpec.model_validate(one.spec) for one in JOBS.values()]
    specs = [size for spec in asked for size in spec.sizes]
    patterns = {spec.budget.pattern or "unstructured" for spec in specs if spec.budget.sparsity is not None}
    coupling = get_args(get_args(Transfer.model_fields["coupling"].annotation)[0])
    assert {spec.method.name for spec in specs} == METHODS.keys()
    assert {spec.coupling for spec in specs} == {*coupling}
    assert {spec.export.layout for spec in specs} == {*get_args(Layout)}
    assert {spec.task.problem for spec in specs} == {*get_args(ProblemType)}
    assert {spec.budget.kind for spec in specs} == {*get_args(Kind)} - {"latency_ms", "speedup"}
    assert patterns == {*get_args(Pattern)}
    assert {len(spec.task.text) for spec in specs} == {1, 2}
    assert {spec.hidden_size for spec in specs} == {spec.vocabulary for spec in specs} == {"keep", "trim"}
    assert any(spec.control for spec in specs) and any("onnx" in spec.export.formats for spec in specs)
    assert any(spec.budgets for spec in asked)
