"""What others offer: SetFit, a classifier on the base's vectors, a static model, and lower layers fine-tuned."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.peers.contender import Cell, Made
from benchmarks.peers.data import Given
from benchmarks.peers.ours import FILES, LAYERS
from benchmarks.peers.serve import LENGTH, Onnx, Predict, classes
from core.domains.transformer.load import load_network
from core.pruning.latency.onnx import write_onnx_files
from core.pruning.reading.tokenizer import load_tokenizer
from core.rows.modality import Blank
from core.rows.text.processor import Text
from core.spec.job import ONNX_FILES
from core.spec.task import ProblemType

STEPS = 300  # of SetFit's contrastive training and of fine-tuning: as many as the product's dense model takes, or more
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def files_of(folder: Path, labels: Sequence[str], problem: ProblemType) -> None:
    """ONNX files of a checkpoint of transformers or sentence-transformers, in its folder."""
    network = load_network(folder, labels, 0, problem).eval()
    blank = Blank(Text(load_tokenizer(folder), LENGTH, apart=problem == "text_retrieval"), INPUTS)
    write_onnx_files(network.assembled(), blank, folder, [*ONNX_FILES])


def on_vectors(name: str, folder: Path, tokenizer: Path, classifier: Any, seconds: float) -> Iterator[Made]:
    """A classifier of scikit-learn on what an encoder says, of which `folder` has the ONNX files."""
    for kind, file in FILES.items():
        model = Onnx(folder / file, tokenizer)

        def predict(texts: Sequence[str], model: Onnx = model) -> list[str]:
            return [str(label) for label in classifier.predict(model(texts))]

        yield Made(name + kind, predict, (folder / file).stat().st_size, seconds)


def regression(given: Given, vectors_of: Any, seed: int) -> Any:
    """Logistic regression; how much it is held back the dev rows say, then it is fitted to all labelled rows."""
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-not-found,unused-ignore]

    def vectors(rows: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        return np.asarray(vectors_of([text for text, _ in rows]))

    def labels(rows: Sequence[tuple[str, str]]) -> list[str]:
        return [label for _, label in rows]

    train, dev = vectors(given.train), vectors(given.dev)

    def right(c: float) -> float:
        fitted = LogisticRegression(C=c, max_iter=1000, random_state=seed).fit(train, labels(given.train))
        return float(fitted.score(dev, labels(given.dev)))

    best = max((0.1, 1.0, 10.0, 100.0), key=right)
    both = np.concatenate([train, dev])
    return LogisticRegression(C=best, max_iter=1000, random_state=seed).fit(both, labels(given.labelled))


def on_embeddings(cell: Cell, given: Given, folder: Path) -> Iterator[Made]:
    """Logistic regression on the base's vectors, as it is."""
    from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found,unused-ignore]

    began = time.process_time()
    body = SentenceTransformer(str(cell.base), device="cpu")
    body.max_seq_length = LENGTH
    classifier = regression(given, body.encode, cell.seed)
    seconds = time.process_time() - began
    body.save(str(folder))
    files_of(folder, ["match"], "text_retrieval")
    yield from on_vectors("logistic regression", folder, cell.base / "tokenizer.json", classifier, seconds)


def setfit(cell: Cell, given: Given, folder: Path) -> Iterator[Made]:
    """SetFit with its published defaults: one epoch of pairs; but no more than STEPS steps of it."""
    from datasets import Dataset  # type: ignore[import-not-found,unused-ignore]
    from setfit import SetFitModel, Trainer, TrainingArguments  # type: ignore[import-not-found,unused-ignore]
    from setfit.sampler import ContrastiveDataset  # type: ignore[import-not-found,unused-ignore]

    began = time.process_time()
    model = SetFitModel.from_pretrained(str(cell.base), device="cpu")
    model.model_body.max_seq_length = LENGTH
    rows = Dataset.from_dict(
        {"text": [text for text, _ in given.labelled], "label": [label for _, label in given.labelled]}
    )
    asked = TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        seed=cell.seed,
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        show_progress_bar=False,
    )
    pairs = len(ContrastiveDataset(rows["text"], rows["label"], multilabel=False))
    if pairs > STEPS * asked.embedding_batch_size:
        asked.max_steps = STEPS  # where an epoch has fewer, this would repeat it
    Trainer(model=model, args=asked, train_dataset=rows).train()
    seconds = time.process_time() - began
    model.model_body.save(str(folder))
    files_of(folder, ["match"], "text_retrieval")
    yield from on_vectors("SetFit", folder, cell.base / "tokenizer.json", model.model_head, seconds)


def static(cell: Cell, given: Given, folder: Path) -> Iterator[Made]:
    """model2vec: the mean of a vector for each token of the vocabulary, made by the base, and logistic regression."""
    from model2vec.distill import distill  # type: ignore[import-not-found,unused-ignore]

    began = time.process_time()
    small = distill(model_name=str(cell.base))
    classifier = regression(given, small.encode, cell.seed)
    seconds = time.process_time() - began
    small.save_pretrained(str(folder))

    def predict(texts: Sequence[str]) -> list[str]:
        return [str(label) for label in classifier.predict(small.encode(list(texts)))]

    yield Made("model2vec", predict, (folder / "model.safetensors").stat().st_size, seconds)


def lower_layers(cell: Cell, given: Given, folder: Path) -> Iterator[Made]:
    """The base's first layers, fine-tuned on the labelled rows."""
    tokenizer = AutoTokenizer.from_pretrained(cell.base)
    for count in LAYERS:
        place, began = folder / str(count), time.process_time()
        fine_tuned(cell, given, tokenizer, count).save_pretrained(place)
        seconds = time.process_time() - began
        tokenizer.save_pretrained(place)
        files_of(place, given.labels, "single_label_classification")
        for kind, file in FILES.items():
            predict: Predict = classes(Onnx(place / file, cell.base / "tokenizer.json"), given.labels)
            yield Made(f"layers, fine-tuned {count}{kind}", predict, (place / file).stat().st_size, seconds)


def fine_tuned(cell: Cell, given: Given, tokenizer: Any, layers: int) -> Any:
    """AdamW at 5e-5 over all labelled rows, batches of 16, warm-up over a tenth of the steps, then linear decay."""
    torch.manual_seed(cell.seed)
    names = dict(enumerate(given.labels))
    model = AutoModelForSequenceClassification.from_pretrained(
        cell.base, num_hidden_layers=layers, id2label=names, label2id={name: i for i, name in names.items()}
    ).train()
    optimiser = torch.optim.AdamW(model.parameters(), 5e-5, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(10 * (step + 1) / STEPS, (STEPS - step) / (0.9 * STEPS))
    )
    drawn = torch.Generator().manual_seed(cell.seed)
    for _ in range(STEPS):
        rows = [given.labelled[i] for i in torch.randperm(len(given.labelled), generator=drawn)[:16]]
        batch = tokenizer(
            [text for text, _ in rows], truncation=True, max_length=LENGTH, padding=True, return_tensors="pt"
        )
        labels = torch.tensor([given.labels.index(label) for _, label in rows])
        model(**batch, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rate.step()
        optimiser.zero_grad()
    return model.eval()
