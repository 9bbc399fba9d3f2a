"""A classifier as it is served: from texts to labels on one core, with nothing but its files."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

LENGTH = 128  # tokens
BATCHES = (1, 32)
TURNS = 60  # of each size of a batch

Predict = Callable[[Sequence[str]], list[str]]


class Onnx:
    """A file of ONNX Runtime behind its tokenizer: texts in, what the model says of each out, (N, outputs)."""

    def __init__(self, file: Path, tokenizer: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.names = [one.name for one in self.session.get_inputs()]
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.tokenizer.enable_truncation(LENGTH)
        self.tokenizer.enable_padding()

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Batches of 32 as they come; shorter ones are padded to the longest."""
        found: list[Any] = []
        for start in range(0, len(texts), BATCHES[-1]):
            read = self.tokenizer.encode_batch(list(texts[start : start + BATCHES[-1]]))
            columns = {
                "input_ids": np.array([one.ids for one in read], np.int64),
                "attention_mask": np.array([one.attention_mask for one in read], np.int64),
                "token_type_ids": np.array([one.type_ids for one in read], np.int64),
            }
            found.append(self.session.run(None, {name: columns[name] for name in self.names})[0])
        return np.concatenate(found)


def classes(model: Onnx, labels: Sequence[str]) -> Predict:
    """The label of the highest output."""
    return lambda texts: [labels[i] for i in model(texts).argmax(1)]


def in_turn(one: Predict, other: Predict, texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Milliseconds of a batch of each size, the median of both, who take turns: what slows one slows the other."""
    found = {}
    for size in BATCHES:
        times: tuple[list[float], list[float]] = ([], [])
        for turn in range(TURNS // (1 if size == 1 else 6)):
            start = turn * size % max(1, len(texts) - size)
            for predict, taken in zip((one, other), times, strict=True):
                began = time.perf_counter()
                predict(texts[start : start + size])
                taken.append(1000 * (time.perf_counter() - began))
        found[str(size)] = (median(times[0]), median(times[1]))
    return found
