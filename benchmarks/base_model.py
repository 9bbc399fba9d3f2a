"""One job on a model of base size: 100 yelp sentences, movies as the source, a tenth of the encoder kept.

    python -m benchmarks.base_model MODEL_FOLDER OUT_FOLDER [--layout regular]

Far fewer steps than a job takes by default: this shows that the whole way works at that size, and what it takes of time
and memory, not how good the result can be. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.transfer.cells import dataset_id
from benchmarks.transfer.data import MAX_LENGTH, prepare
from core.pruning.run import ModelRef, run
from core.spec.job import JobSpec

STEPS = {"teach": 60, "recover": 200}
TABLES = Path("data/benchmarks")


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


def say(message: Mapping[str, Any]) -> None:
    """Each stage as it begins."""
    if message["event"] == "stage":
        print(time.strftime("%H:%M:%S"), message["stage"], flush=True)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--layout", choices=("free", "regular"), default="free")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    tables = prepare(TABLES, ["yelp", "movies"], print)
    began = time.monotonic()
    report = run(
        spec_of(asked.model.name, asked.layout),
        ModelRef(asked.model, asked.model.name),
        {dataset_id(name): path for name, path in tables.items()},
        asked.out,
        say,
    )
    results = report["results"]
    found = {
        "layout": asked.layout,
        "structure": report["structure"],
        "test_rows": report["data"]["test"],
        **{
            name: {"accuracy": one["test"]["accuracy"], **{key: one[key] for key in ("encoder_params", "bytes")}}
            | {"latency_ms": one["latency_ms"], "speedup": one["speedup"]}
            for name, one in results.items()
        },
        "fraction": report["budget"]["fraction"],
        "verified": report["verified"],
        "timings_s": report["timings_s"],
        "seconds": round(time.monotonic() - began),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
