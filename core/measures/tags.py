"""A tag a word: the share of words with the right one, F1 of the entities that they mark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.measures.intervals import Array, Counted, Measure, f1_of


def of_tags(predicted: Sequence[Sequence[str]], truth: Sequence[Sequence[str]], mark: bool) -> Measure:
    """The share of words with the right tag and, of tags that `mark` entities, F1 of these, as conlleval."""
    words = np.array([[sum(map(str.__eq__, p, t)), len(t)] for p, t in zip(predicted, truth, strict=True)], float)
    spans = [(entities(p), entities(t)) for p, t in zip(predicted, truth, strict=True)] if mark else []
    counts = np.array([[len(p & t), len(p), len(t)] for p, t in spans], float)

    def measure(weights: Array) -> dict[str, Array]:
        right, all_words = (weights @ words).T
        accuracy = np.divide(right, all_words, out=np.zeros_like(right), where=all_words > 0)
        found = {"entity_f1": f1_of(*(weights @ counts).T)} if mark else {}
        return found | {"token_accuracy": accuracy}

    return Counted(measure, {"entity_f1": float(sum(len(p | t) for p, t in spans))} if mark else {})


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """(kind, first word, word after the last) of each entity, by IOB1, IOB2, BIOES or BILOU.

    B begins one; I and E (or L) go on with one of their kind, or begin one; E (L) ends it; S (or U) is one.
    """
    found, kind, start, ended = set(), "", 0, False
    for i, tag in enumerate([*tags, "O"]):
        mark = tag[0]
        if kind and (ended or mark in "OBSU" or tag[2:] != kind):
            found.add((kind, start, i))
            kind = ""
        if not kind and tag != "O":
            kind, start = tag[2:], i
        ended = mark in "ELSU"
    return found
