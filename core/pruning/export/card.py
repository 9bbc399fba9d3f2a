"""`README.md` of a checkpoint: the model card."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template

from huggingface_hub import ModelCardData

from core.domains.model_ref import ModelRef
from core.pruning.export.files import NEEDS_5, TEMPLATES
from core.spec.job import JobSpec
from core.spec.metrics import METRICS, NUMBERS, shown
from core.spec.report import BudgetMet, Report, Result, Tested, Zeros
from core.tasks import TASKS


def write_card(report: Report, spec: JobSpec, model: ModelRef, max_length: int, auto_class: str, target: Path) -> None:
    """Say what the checkpoint is. `max_length`: tokens of a text that it reads; `auto_class`: what loads it."""
    results, data = report.results, report.data
    models = (results.dense, results.pruned)
    words = report.task.type == "token-classification"
    metadata = ModelCardData(
        base_model=model.name if model.revision else None,
        library_name="transformers",
        pipeline_tag=f"{'token' if words else 'text'}-classification",
        tags=["topwork", "structured-pruning"],
    )
    lines = []
    for metric in results.pruned.test:
        cells = [_quality(one, metric) for one in (results.dense, results.pruned, results.baseline) if one]
        lines.append(f"| {' | '.join([METRICS[metric], *cells])} |")
    for size in results.pruned.shorter or ():
        cells = [_quality(Tested(test=one.shorter[size]), report.task.metric) for one in models if one.shorter]
        lines.append(f"| {METRICS[report.task.metric]}, first {size} dimensions | {' | '.join(cells)} |  |")
    for label, cell in CARD_ROWS.items():
        lines.append(f"| {label} | {cell(results.dense)} | {cell(results.pruned)} |  |")
    values = {
        "metadata": metadata.to_yaml(),
        "model": as_code(model.name),
        "fraction": f"{results.pruned.encoder_params / results.dense.encoder_params:.1%}"
        if report.sparsity is None
        else f"{report.budget.fraction:.1%} non-zero weights",
        "hidden": f", with a hidden size of {hidden}" if (hidden := report.structure.hidden) else "",
        "table": "\n".join(lines),
        "usual": TASKS[report.task.problem].usual_answer,
        "test": data.test,
        "warnings": "".join(f"\nMind: {as_text(said)}.\n" for said in report.warnings),
        "length": results.pruned.latency_length,
        "task": _task(report, spec, model, max_length),
        "device": report.environment.device,
        "method": spec.method.name,
        "coupling": report.transfer.coupling,
        "train": data.train,
        "sources": sum(data.sources[i] for i in report.transfer.sources),
        "seed": spec.train.seed,
        "budget": latency_met(report.budget),
        "auto_class": auto_class,
        "needs": NEEDS_5_CARD if NEEDS_5 in json.loads((target.parent / "config.json").read_text()).values() else "",
        "onnx": ONNX_CARD if "onnx" in spec.export.formats else "",
    } | _loading(spec.export.layout, report.sparsity)
    target.write_text(Template((TEMPLATES / "README.md.txt").read_text()).substitute(values))


def _task(report: Report, spec: JobSpec, model: ModelRef, max_length: int) -> str:
    """What the model answers, and to what."""
    labels, words, columns = report.task.labels, report.vocabulary, spec.task.text
    named = ", ".join(map(as_code, labels[:20])) + (f" and {len(labels) - 20} more" if labels[20:] else "")
    reads = "two texts, " + " and ".join(map(as_code, columns)) + "," if columns[1:] else "a text"
    sentences = [
        f"It answers {report.task.problem.replace('_', ' ')}: {named}. It reads {reads} of up to "
        f"{max_length} tokens, as it was trained."
    ]
    if given := report.results.given:
        metric = report.task.metric
        moved = given.change["pruned"][metric]
        value, low, high = (
            f"{one if metric in NUMBERS else 100 * one:+.3g}" for one in (moved.value, moved.low, moved.high)
        )
        sentences.append(
            f"The model that it was made of knew these labels: as given its {METRICS[metric]} on the same rows is "
            f"{_quality(given, metric)}; this one differs by {value} ({low} to {high}, "
            f"paired){' points' if metric not in NUMBERS else ''}."
        )
    if model.revision:
        made_of = f"revision {as_code(model.revision)} of {as_code(model.name)}"
        sentences.append(f"Made of {made_of}, whose licence holds.")
    if words:
        sentences.append(
            f"Of {words.before:,} tokens it keeps the {words.kept:,} that its texts use; others fall to pieces."
        )
    return " ".join(sentences)


def one_line(text: str) -> str:
    """`text` with line ends, and whatever else cannot be seen, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def as_code(text: str) -> str:
    """Somebody else's words in Markdown, as they are: a code span, whose fence is longer than any inside."""
    text = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    padding = " " if len(fence) > 1 or text != text.strip() or not text else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def as_text(text: str) -> str:
    """A sentence in Markdown that may hold somebody else's words: nothing in it is markup, HTML or a link."""
    return re.sub(r"[\\`*_{}\[\]<>&|~$@]|:(?=//)|(?<=www)\.", r"\\\g<0>", one_line(text), flags=re.IGNORECASE)


def _loading(layout: str, zeros: Zeros | None) -> dict[str, str]:
    """How the card says that the model is loaded."""
    if zeros:
        return {"trust": "", "otherwise": zeros.says}
    return REGULAR_CARD if layout == "regular" else CODED_CARD


NEEDS_5_CARD = """
It needs transformers 5.3 or newer: 4.57 has no words in its config.json for which of these layers see all of the text.
"""
CODED_CARD = {
    "trust": ", trust_remote_code=True",
    "otherwise": "Without the flag transformers refuses it: the code is `modeling_topwork_*.py`, here in this folder. "
    "Or by path, with nothing but torch, transformers (4.57, or 5.3 and newer) and safetensors, and any number of "
    "checkpoints in one process:\n\n```python\nfrom runpy import run_path\n\n"
    'model, tokenizer = run_path("load.py")["load"]()\n```',
}
REGULAR_CARD = {
    "trust": "",
    "otherwise": "Its layers are regular: a plain config.json says all, and no code comes with it.",
}


def latency_met(budget: BudgetMet) -> str:
    """How a budget in time was met; of a counted one, nothing."""
    if (how := budget.measured) is None:
        return ""
    return (
        f"\nAsked: at most {budget.limit:.3g} ms, which is {budget.limit / budget.dense:.1%} of what the "
        f"dense model took at the start, for a batch of {how.batch_size} with {how.length} tokens; measured "
        f"{how.ms:.3g} ms, and {how.dense_ms:.3g} ms for the dense model in turn with it: "
        f"{budget.fraction:.1%} "
        f"({how.runtime}, {how.device_name}, {how.threads} threads, {how.passes} passes whose quartiles "
        f"lie {how.spread:.1%} apart).\n"
    )


ONNX_CARD = """
ONNX Runtime, any batch, and texts of any length that the model reads:

```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
batch = tokenizer(["some text", "another, longer text"], padding=True, truncation=True, return_tensors="np")
(logits,) = session.run(["logits"], {column.name: batch[column.name] for column in session.get_inputs()})
```
"""


def _quality(model: Tested, metric: str) -> str:
    found = model.test[metric]
    value, low, high = (shown(one, metric) for one in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


CARD_ROWS: Mapping[str, Callable[[Result], str]] = {
    "encoder parameters": lambda r: f"{r.encoder_params:,}",
    "all parameters": lambda r: f"{r.model_params:,}",
    "multiply-accumulates a text": lambda r: f"{r.macs:,} ({r.macs_length} tokens)",
    "weights on disk": lambda r: f"{r.bytes / 2**20:.1f} MiB",
    "latency, batch 1": lambda r: f"{r.latency_ms['1']:.1f} ms",
    "latency, batch 32": lambda r: f"{r.latency_ms['32']:.0f} ms",
    "speed-up, batch 1 / 32": lambda r: f"{r.speedup['1']:.1f}x / {r.speedup['32']:.1f}x",
}
