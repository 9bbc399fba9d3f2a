"""Texts a second in ONNX Runtime of the structures that the benchmark of embedding models ended with.

    python -m benchmarks.similarity.speed [MODEL_FOLDER]

Each structure in similarity.jsonl (seed 0) is cut again and timed in turn with the dense model, batch 1 and 32, texts
of 64 tokens, all threads. Writes benchmarks/results/similarity_speed.md. Run it on a quiet machine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.similarity.cells import LENGTH
from core.domains.structure import Structure
from core.domains.transformer.load import load_network
from core.machine import cpu_name
from core.pruning.latency.runtimes import Conditions
from core.pruning.latency.stopwatch import Reading, Stopwatch
from core.pruning.reading.tokenizer import load_tokenizer
from core.rows.modality import Blank
from core.rows.text.processor import Text

RESULTS = Path(__file__).parents[1] / "results"
BATCHES = (1, 32)
NAMES = ("input_ids", "attention_mask", "token_type_ids")


def main(model: Path) -> None:
    """Measure, and write the table."""
    network = load_network(model, ["match"], 0, "text_retrieval")
    text = Text(load_tokenizer(model), LENGTH, apart=True)
    lines = [json.loads(line) for line in (RESULTS / "similarity.jsonl").read_text().splitlines()]
    watches = {batch: Stopwatch(network, Blank(text, NAMES), under(batch)) for batch in BATCHES}
    rows: dict[str, str] = {}
    for line in lines:
        cell = line["cell"]
        if cell["seed"] or "structure" not in line or cell["vocabulary"] != "keep" or cell["pairs"] != 100:
            continue
        structure = as_cut(line["structure"])
        found = [watches[batch].measure(structure) for batch in BATCHES]
        rows[f"{cell['data']}, {cell['arm']}, {100 * line['fraction']:.0f}%"] = " | ".join(map(said, found, BATCHES))
        print(rows, file=sys.stderr, flush=True)
    head = "| structure | batch 1: texts a second | dense | speed-up | batch 32: texts a second | dense | speed-up |"
    body = [f"| {name} | {values} |" for name, values in rows.items()]
    about = (__doc__ or "").partition("\n\n")[0]
    where = (
        f"{cpu_name()}, {torch.get_num_threads()} threads, {LENGTH} tokens. `python -m benchmarks.similarity.speed`."
    )
    table = "\n".join([head, "|" + " --- |" * 7, *body])
    (RESULTS / "similarity_speed.md").write_text(f"# {about}\n\n{where}\n\n{table}\n", encoding="utf-8")


def under(batch: int) -> Conditions:
    """ONNX Runtime on this machine."""
    return Conditions("onnx", "cpu", cpu_name(), torch.get_num_threads(), batch, LENGTH)


def as_cut(sizes: dict[str, Any]) -> Structure:
    """A structure of these sizes: which units are kept does not change the time."""
    return Structure.of(map(range, sizes["heads"]), map(range, sizes["neurons"]), sizes.get("dropped", ()))


def said(reading: Reading, batch: int) -> str:
    """Texts a second, those of the dense model in turn with it, and how many times that is."""
    rate, dense = (f"{1000 * batch / ms:,.0f}" for ms in (reading.ms, reading.dense_ms))
    return f"{rate} | {dense} | {1 / reading.ratio:.1f}x"


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "data/models/all-minilm-l6-v2"))
