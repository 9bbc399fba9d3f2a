"""peers.md: quality, speed and size of every contender, and what each gains on Topwork at its own speed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

from benchmarks.peers.data import TARGETS, TEST, TEXTS, told
from benchmarks.peers.serve import LENGTH
from benchmarks.transfer.table import interval
from core.measures.intervals import f1_of, lead

OURS, ALIKE = "Topwork ", 0.95  # as fast: so much of the other's speed
INTRO = f"""# Against what a user would pick instead

`python -m benchmarks.peers` printed this: all-MiniLM-L6-v2 and so many labelled rows, the same for all (a quarter of
them held back by those that select by rows); up to {TEXTS:,} texts of the target without labels for those that can use
them; at most {TEST:,} test rows; texts of at most {LENGTH} tokens. Points of accuracy (SMS: F1 of spam), mean over
seeds. Speed: from text to label, tokenizer and all, on one core, each in ONNX Runtime (model2vec: its own), in turn
with the dense base in float32; how many times as fast as that, the median over targets. Seconds: of one core, from
rows to files; of what one job makes together, of the whole job.
"""
GAINS = """
What each gains on Topwork at its own speed: points over the slowest of Topwork's files that is at least as fast (by
at most 5 % slower) at batch 32, on the same test rows: paired, with the 95 % interval (Student's over seeds; of one
seed a bootstrap over rows). **Bold**: beyond it.

"""


@dataclass(frozen=True)
class Answer:
    """What one contender said of the test rows of a cell."""

    target: str
    seed: int
    truth: str
    labels: Sequence[str]
    made: Mapping[str, Any]

    def measure(self, weights: Any) -> dict[str, Any]:
        """Points of the target's metric, of rows that count as often as `weights` (R, N) says."""
        said, truth = (np.frombuffer(text.encode(), np.uint8) for text in (self.made["said"], self.truth))
        positive = TARGETS[self.target].positive
        if positive is None:
            return {"points": 100 * (weights * (said == truth)).sum(1) / weights.sum(1)}
        named = ord("a") + self.labels.index(positive)
        is_said, is_true = said == named, truth == named
        both, ours, theirs = ((weights * of).sum(1) for of in (is_said & is_true, is_said, is_true))
        return {"points": 100 * f1_of(both, ours, theirs)}

    @property
    def points(self) -> float:
        """On all rows."""
        return float(self.measure(np.ones((1, len(self.truth))))["points"][0])

    def faster(self, batch: str) -> float:
        """Than the dense base in float32."""
        ms = self.made["ms"][batch]
        return float(ms["dense"] / ms["own"])


Answers = Mapping[str, Sequence[Answer]]  # by contender


def of_rows(lines: Iterable[Mapping[str, Any]], rows: int) -> Answers:
    """The answers of cells with so many labelled rows."""
    found = defaultdict[str, list[Answer]](list)
    for line in lines:
        if line["rows"] == rows:
            for made in line["made"]:
                found[made["name"]].append(Answer(line["target"], line["seed"], line["truth"], line["labels"], made))
    return found


def speed(answers: Sequence[Answer], batch: str = "32") -> float:
    """Times as fast as the dense base, the median over cells."""
    return median(one.faster(batch) for one in answers)


def by_target(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    """In the order of the targets."""
    return {name: found for name in TARGETS if (found := [one for one in answers if one.target == name])}


def markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """The page."""
    parts = [INTRO]
    for rows in sorted({line["rows"] for line in lines}):
        answers = of_rows(lines, rows)
        parts += [f"\n## {told(rows).capitalize()}\n", *quality(answers), GAINS, *gains(answers)]
    return "\n".join(parts) + "\n"


def quality(answers: Answers) -> Iterator[str]:
    """A line for each contender, the slowest first."""
    targets = list(by_target([one for found in answers.values() for one in found]))
    yield row("contender", *targets, "mean", "speed, batch 1 / 32", "MB", "seconds")
    yield rule(len(targets) + 5)
    for name in sorted(answers, key=lambda name: speed(answers[name])):
        found = by_target(answers[name])
        points = [fmean(one.points for one in found[target]) if target in found else None for target in targets]
        known = [one for one in points if one is not None]
        seconds = median(one.made["seconds"] for one in answers[name])
        megabytes = median(one.made["bytes"] for one in answers[name]) / 1e6
        yield row(
            name,
            *("" if one is None else f"{one:.1f}" for one in points),
            f"{fmean(known):.1f}" if len(known) == len(targets) else "",
            f"{speed(answers[name], '1'):.1f}x / {speed(answers[name]):.1f}x",
            f"{megabytes:.1f}",
            f"{seconds:.0f}",
        )


def gains(answers: Answers) -> Iterator[str]:
    """A line for each contender that is not ours, the slowest first."""
    targets = list(by_target([one for found in answers.values() for one in found]))
    yield row("contender", "beside", *targets)
    yield rule(len(targets) + 2)
    for name in sorted(answers, key=lambda name: speed(answers[name])):
        if name.startswith("Topwork"):
            continue
        beside = as_fast(answers, speed(answers[name]))
        if beside is None:
            yield row(name, "none is as fast", *[""] * len(targets))
            continue
        theirs, ours = by_target(answers[name]), by_target(answers[beside])
        yield row(name, beside, *(gain(theirs.get(target, []), ours.get(target, [])) for target in targets))


def as_fast(answers: Answers, times: float) -> str | None:
    """The slowest of our files that is at least as fast, or nearly; None where none is."""
    ours = {name: speed(found) for name, found in answers.items() if name.startswith(OURS)}
    enough = [name for name, own in ours.items() if own >= ALIKE * times]
    return min(enough, key=ours.__getitem__, default=None)


def gain(theirs: Sequence[Answer], ours: Sequence[Answer]) -> str:
    """Points of theirs less ours, of the same seeds."""
    pairs = [(one, other) for one in theirs for other in ours if one.seed == other.seed]
    if not pairs:
        return ""
    if len(pairs) == 1:
        one, other = pairs[0]
        found = lead(one.measure, other.measure, len(one.truth))["points"]
        value, low, high = found["value"], found["low"], found["high"]
    else:
        value, half = interval([one.points - other.points for one, other in pairs])
        assert half is not None
        low, high = value - half, value + half
    said = f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
    return f"**{said}**" if low > 0 or high < 0 else said


def row(*cells: str) -> str:
    """Of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def rule(cells: int) -> str:
    """Under its head."""
    return "|" + " --- |" * cells
