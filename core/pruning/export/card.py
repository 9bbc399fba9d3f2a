"""`README.md` of a checkpoint: the model card."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template
from typing import Any

from huggingface_hub import ModelCardData

from core.domains.config import BOTH_WAYS, NEEDS_5
from core.domains.model_ref import ModelRef
from core.pruning.export.files import TEMPLATES
from core.spec.job import ONNX_FILES, JobSpec
from core.spec.metrics import METRICS, NUMBERS, megabytes, milliseconds, shown
from core.spec.report import BudgetMet, Report, Result, Tested
from core.spec.task import SEARCHING, VECTORS
from core.tasks import TASKS


def write_card(report: Report, spec: JobSpec, model: ModelRef, max_length: int, auto_class: str, target: Path) -> None:
    """Say what the checkpoint is. `max_length`: tokens of a text that it reads; `auto_class`: what loads it."""
    results, data = report.results, report.data
    config = json.loads((target.parent / "config.json").read_text())
    models, images = (results.dense, results.pruned), spec.task.image is not None
    row, of_size = ("picture", "pixels a side") if images else ("text", "tokens")
    metadata = ModelCardData(
        base_model=model.name if model.revision else None,
        library_name="sentence-transformers" if report.task.type in SEARCHING else "transformers",
        pipeline_tag=report.task.type,
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
        cells = [cell(one).replace("tokens", of_size) for one in models]
        lines.append(f"| {label.replace('text', row)} | {' | '.join(cells)} |  |")
    values = {
        "metadata": metadata.to_yaml(),
        "model": as_code(model.name),
        "fraction": kept_of(report, spec),
        "hidden": f", with a hidden size of {hidden}" if (hidden := report.structure.hidden) else "",
        "table": "\n".join(lines),
        "usual": TASKS[report.task.problem].usual_answer,
        "test": data.test,
        "warnings": "".join(f"\nMind: {as_text(said)}.\n" for said in report.warnings),
        "length": f"{results.pruned.latency_length} {of_size}",
        "task": _task(report, spec, model, max_length),
        "device": report.environment.device,
        "method": spec.method.name,
        "coupling": report.transfer.coupling,
        "train": data.train,
        "sources": sum(data.sources[i] for i in report.transfer.sources),
        "unlabelled": f", {data.unlabelled} of its own without labels" * report.transfer.unlabelled,
        "seed": spec.train.seed,
        "budget": latency_met(report.budget).replace("tokens", of_size),
        "needs": NEEDS_5_CARD * any(one in (NEEDS_5, BOTH_WAYS) for one in config.values()),
        "load": _loading(report, spec, auto_class, _before(config)),
        "onnx": _onnx(report, spec) if spec.onnx_formats else "",
    }
    target.write_text(Template((TEMPLATES / "README.md.txt").read_text()).substitute(values))


def kept_of(report: Report, spec: JobSpec) -> str:
    """How much of the dense model this is."""
    dense, pruned = report.results.dense, report.results.pruned
    if report.sparsity is not None:
        return f"{report.budget.fraction:.1%} non-zero weights" + " of its encoder" * (spec.task.image is None)
    if spec.task.image is not None:
        return f"{pruned.macs / dense.macs:.1%} of its multiply-accumulates"
    return f"{pruned.encoder_params / dense.encoder_params:.1%} of its encoder"


def _task(report: Report, spec: JobSpec, model: ModelRef, max_length: int) -> str:
    """What the model answers, and to what."""
    words = report.vocabulary
    sentences = [_answers(report, spec, max_length)]
    if given := report.results.given:
        metric = report.task.metric
        knew = " did this already" if report.task.type in SEARCHING else " knew these labels"
        moved = given.change["pruned"][metric]
        value, low, high = (
            f"{one if metric in NUMBERS else 100 * one:+.3g}" for one in (moved.value, moved.low, moved.high)
        )
        sentences.append(
            f"{'The model that it was made of' + knew}: as given its {METRICS[metric]} on the same rows is "
            f"{_quality(given, metric)}; this one differs by {value} ({low} to {high}, "
            f"paired){' points' if metric not in NUMBERS else ''}."
        )
    if model.revision:
        made_of = f"revision {as_code(model.revision)} of {as_code(model.name)}"
        sentences.append(f"Made of {made_of}, whose licence holds.")
    if (precision := spec.export.precision) != "float32":
        sentences.append(f"Its weights are rounded to {precision}, and it was measured so, in float32 arithmetic.")
    if words:
        sentences.append(
            f"Of {words.before:,} tokens it keeps the {words.kept:,} that its texts use; others fall to pieces, as "
            f"{words.missing:.1%} of those of the test texts did."
        )
    return " ".join(sentences)


def _answers(report: Report, spec: JobSpec, max_length: int) -> str:
    """What the model says, and of what."""
    labels, columns = report.task.labels, [*map(as_code, spec.task.columns)]
    if report.task.problem in VECTORS:
        columns = columns[:2]
        learned = {
            "text_embedding": "It keeps the vectors of the model that it was made of",
            "text_retrieval": f"It learned which text of {columns[-1]} belongs to which of {columns[0]}",
            "text_similarity": f"It learned how alike texts of {' and '.join(columns)} are",
        }[report.task.problem]
        return (
            f"It gives a vector of a text of up to {max_length} tokens ({report.task.head}); texts that are alike have "
            f"a high cosine. {learned}."
        )
    named = ", ".join(map(as_code, labels[:20])) + (f" and {len(labels) - 20} more" if labels[20:] else "")
    answers = f"It answers {report.task.problem.replace('_', ' ')}: {named}."
    if spec.task.image is not None:
        return f"{answers} It looks at pictures of {max_length} pixels a side, as it was trained."
    reads = "two texts, " + " and ".join(columns[:2]) + "," if columns[1:] else "a text"
    said = f"It reads {reads} of up to {max_length} tokens, as it was trained."
    if report.task.problem == "token_classification":
        said += ' Of a word the first piece decides: that is what `aggregation_strategy="first"` of a pipeline takes.'
    if report.task.problem == "text_ranking":
        return f"It gives a score of how well a document answers a query: the higher, the better. {said}"
    return f"{answers} {said}"


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


def _before(config: Mapping[str, Any]) -> str:
    """What sentence-transformers makes a score by, as a config.json names it: where it does not, by a sigmoid."""
    said = config.get("sentence_transformers")
    named = said.get("activation_fn") if isinstance(said, dict) else None
    named = str(named or config.get("sbert_ce_default_activation_function") or "Sigmoid")
    known = {"Identity": "", "Sigmoid": " before a sigmoid"}
    return known.get(named.rpartition(".")[2], f" before {as_code(named)}")


def _loading(report: Report, spec: JobSpec, auto_class: str, before: str = "") -> str:
    """How the card says that the model is loaded: in the arithmetic that it was measured in.

    `before`: what makes a score of a ranking's logit.
    """
    half = spec.export.precision != "float32"
    dtype = {"dtype": ', dtype="float32"' * half, "kwargs": ', model_kwargs={"dtype": "float32"}' * half}
    if spec.task.image is not None:
        trust = "" if report.sparsity else ", trust_remote_code=True"
        otherwise = report.sparsity.says if report.sparsity else CODED_CARD + LOAD_IMAGES_CARD
        return Template(IMAGE_CARD + "\n$otherwise").substitute(
            dtype | {"auto_class": auto_class, "trust": trust, "otherwise": otherwise}
        )
    zeros, vectors = report.sparsity, report.task.problem in VECTORS
    coded = not zeros and spec.export.layout == "free"
    by_path = EMBED_CARD if vectors else LOAD_CARD
    plain = zeros.says if zeros else "Its layers are regular: a plain config.json says all, and no code comes with it."
    otherwise = CODED_CARD + by_path if coded else plain + f" By path, {BARE}{EMBED_CARD}" * vectors
    first = VECTORS_CARD if vectors else RANKING_CARD if report.task.problem == "text_ranking" else AUTO_CARD
    card = Template(first + "\n$otherwise")
    trust = ", trust_remote_code=True" if coded else ""
    said = {"auto_class": auto_class, "trust": trust, "otherwise": otherwise, "before": before}
    return card.substitute(dtype | said)


def snippet(report: Report, spec: JobSpec, auto_class: str) -> str:
    """The code that loads the checkpoint, in the runtime that the budget names."""
    first, *others = blocks(_loading(report, spec, auto_class))
    if spec.budget.runtime not in spec.onnx_formats:
        return first
    if report.task.problem == "text_ranking":  # the second has the tokenizer that ONNX needs
        first = others[0]
    return "\n".join([first, *blocks(_onnx(report, spec, spec.budget.runtime))])


def blocks(card: str) -> list[str]:
    """The Python of a piece of Markdown."""
    return re.findall(r"^```python\n(.*?)^```", card, re.DOTALL | re.MULTILINE)


def _onnx(report: Report, spec: JobSpec, first: str | None = None) -> str:
    """How the files of ONNX Runtime are run, that of `first` or the first, and what each file is worth."""
    said = {"file": ONNX_FILES[first or spec.onnx_formats[0]], "files": _files(report)}
    said["device"] = report.environment.device
    if spec.task.image is not None:
        return Template(ONNX_IMAGES_CARD).substitute(said)
    vectors = report.task.problem in VECTORS
    two = '["a query", "another query"], ["some document", "another, longer document"]'
    texts = two if report.task.problem == "text_ranking" else '["some text", "another, longer text"]'
    output = ("vectors", "sentence_embedding") if vectors else ("logits", "logits")
    return Template(ONNX_CARD).substitute({"texts": texts, "name": output[0], "output": output[1]} | said)


def _files(report: Report) -> str:
    """A line of Markdown for each file that holds the model."""
    metric, lines = report.task.metric, []
    for name, file in report.files.items():
        times = [f"{file.latency_ms[b]:.3g} ms ({file.speedup[b]:.1f}x)" for b in ("1", "32")]
        lines.append(f"| {name} | {_quality(file, metric)} | {megabytes(file.bytes)} | {' | '.join(times)} |")
    return f"| file | {METRICS[metric]} | size | batch 1 | batch 32 |\n|---|---|---|---|---|\n" + "\n".join(lines)


NEEDS_5_CARD = """
It needs transformers 5.3 or newer: 4.57 has no words in its config.json for how much of a text its layers see.
"""
AUTO_CARD = """```python
from transformers import $auto_class, AutoTokenizer

model = $auto_class.from_pretrained("."$trust$dtype)
tokenizer = AutoTokenizer.from_pretrained("."$trust)
```
"""
IMAGE_CARD = """```python
from PIL import Image, ImageOps
from transformers import $auto_class, AutoImageProcessor

model = $auto_class.from_pretrained("."$trust$dtype)
processor = AutoImageProcessor.from_pretrained(".", backend="pil")  # of transformers 4: use_fast=False
picture = ImageOps.exif_transpose(Image.open("a picture.jpg")).convert("RGB")  # 16-bit grey: by rgb() of load.py
batch = processor(picture, return_tensors="pt")
```
"""
VECTORS_CARD = """```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("."$trust$kwargs)
vectors = model.encode(["some text", "another, longer text"])
tokenizer = model.tokenizer
```
"""
RANKING_CARD = (
    """```python
from sentence_transformers import CrossEncoder

scores = CrossEncoder("."$trust$kwargs).predict([("a query", "some document"), ("a query", "another")])
```

Or with transformers, whose logits are these scores$before:

"""
    + AUTO_CARD
)
BARE = "with nothing but torch, transformers (4.57, or 5.3 and newer) and safetensors"
CODED_CARD = (
    "Without the flag transformers refuses it: the code is `modeling_topwork_*.py`, here in this folder. "
    f"Or by path, {BARE}"
)
LOAD_CARD = """, and any number of checkpoints in one process:

```python
from runpy import run_path

model, tokenizer = run_path("load.py")["load"]()
```"""
LOAD_IMAGES_CARD = """, and any number of checkpoints in one process:

```python
from runpy import run_path

model, processor = run_path("load.py")["load"]()
```"""
EMBED_CARD = """:

```python
from runpy import run_path

embed = run_path("load.py")["embed"]
vectors = embed(["some text", "another, longer text"])
```"""


def latency_met(budget: BudgetMet) -> str:
    """How a budget in time was met; of a counted one, nothing."""
    if (how := budget.measured) is None:
        return ""
    return (
        f"\nAsked: at most {budget.limit:.3g} ms, which is {budget.limit / budget.dense:.1%} of what the "
        f"dense model took at the start, for a batch of {how.batch_size} with {how.length} tokens; measured "
        f"{how.ms:.3g} ms, and {how.dense_ms:.3g} ms for the dense model in turn with it: "
        f"{budget.fraction:.1%} "
        f"({how.runtime}, {how.device_name}, {how.threads} threads, the lower quartile of {how.passes} "
        f"passes, whose quartiles lie {how.spread:.1%} apart).\n"
    )


ONNX_CARD = """
ONNX Runtime, any batch, and texts of any length that the model reads:

```python
import onnxruntime

session = onnxruntime.InferenceSession("$file")
batch = tokenizer($texts, padding=True, truncation=True, return_tensors="np")
($name,) = session.run(["$output"], {column.name: batch[column.name] for column in session.get_inputs()})
```

$files

Milliseconds, and how many times as fast the dense model is in a file of the same kind: model.safetensors by eager
PyTorch on $device, the others by ONNX Runtime on a CPU.
"""


ONNX_IMAGES_CARD = """
ONNX Runtime, any number of pictures at once, made by the processor:

```python
import onnxruntime

session = onnxruntime.InferenceSession("$file")
(logits,) = session.run(["logits"], {"pixel_values": processor(picture, return_tensors="np")["pixel_values"]})
```

$files
"""


def _quality(model: Tested, metric: str) -> str:
    found = model.test[metric]
    value, low, high = (shown(one, metric) for one in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


CARD_ROWS: Mapping[str, Callable[[Result], str]] = {
    "encoder parameters": lambda r: f"{r.encoder_params:,}",
    "all parameters": lambda r: f"{r.model_params:,}",
    "multiply-accumulates a text": lambda r: f"{r.macs:,} ({r.macs_length} tokens)",
    "weights on disk": lambda r: megabytes(r.bytes),
    "latency, batch 1": lambda r: f"{milliseconds(r.latency_ms['1'])} ms",
    "latency, batch 32": lambda r: f"{milliseconds(r.latency_ms['32'])} ms",
    "speed-up, batch 1 / 32": lambda r: f"{r.speedup['1']:.1f}x / {r.speedup['32']:.1f}x",
}
