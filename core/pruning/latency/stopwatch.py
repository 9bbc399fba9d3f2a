"""Latency of a cut model beside the dense one, on a machine that may be busy with other work.

Both take turns, so that a noisy moment hits both alike, and what is compared is their ratio. What a pass took is its
time less what its thread waited for a core (Linux counts that), and of all passes the lower quartile counts: other work
can only lengthen a pass, so the shorter ones tell more, but the very shortest is a matter of luck. All milliseconds
that are told are of that statistic, but for those that are said to be a clock's.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from core.domains.network import Network
from core.domains.structure import Structure
from core.pruning.latency.runtimes import Conditions, ready
from core.rows.modality import Blank

SECONDS = 4.0  # of passes for one structure, the dense model's counted
ROUNDS = (4, 40)  # turns of each, at least and at most
TURN_S = 0.03  # a turn is as many passes as fit in here
QUARTILE = 0.25
WAITED = Path("/proc/thread-self/schedstat")


@dataclass(frozen=True)
class Reading:
    """A structure's latency and the dense model's, of one interleaved run."""

    ms: float
    dense_ms: float
    median_ms: float  # as a clock shows it, with whatever else the machine did meanwhile
    spread: float  # between the quartiles of the passes, in parts of the lower
    passes: int
    p95_ms: float | None = None  # as a clock shows it, of 95 in 100 passes at most
    waited: float = 0.0  # part of the passes' time that they waited for a core

    @property
    def ratio(self) -> float:
        """Of the dense model's latency."""
        return self.ms / self.dense_ms


T = TypeVar("T")
Measure = Callable[[Structure], Reading]


class Stopwatch:
    """Measures cut copies of one network under one set of conditions; weights do not matter."""

    def __init__(
        self, network: Network, blank: Blank, under: Conditions, alive: Callable[[], None] = lambda: None
    ) -> None:
        """`blank` makes the batch that is run. `alive` is called between passes."""
        self.network, self.blank, self.under, self.alive = network, blank, under, alive
        self._dense: Callable[[], object] | None = None

    def measure(self, structure: Structure) -> Reading:
        """Of the network as it is, cut to `structure`, beside the dense one."""
        self.alive()
        if self._dense is None or self.under.runtime == "torch.compile":
            torch.compiler.reset()  # past a few models, it would silently run eagerly
            self._dense = self.ready(Structure.dense(self.network.anatomy))
        return compare(self._dense, self.ready(structure), self.alive)

    def ready(self, structure: Structure) -> Callable[[], object]:
        """A call that runs the network, cut to `structure`, once."""
        model = copy.deepcopy(self.network).cpu()
        model.cut(structure)
        return ready(model.assembled(), self.blank, self.under)


def compare(
    dense: Callable[[], object], cut: Callable[[], object], alive: Callable[[], None] = lambda: None
) -> Reading:
    """Of one beside the other."""
    times, waited = in_turn({"dense": dense, "cut": cut}, alive)
    net = {name: [took - stood for took, stood in zip(times[name], waited[name], strict=True)] for name in times}
    low, clock = usual(net["cut"]), 1000 * torch.tensor(times["cut"])
    return Reading(
        ms=1000 * low,
        dense_ms=1000 * usual(net["dense"]),
        median_ms=float(clock.median()),
        spread=float(np.quantile(net["cut"], 1 - QUARTILE) - low) / low,
        passes=len(clock),
        p95_ms=float(clock.quantile(0.95)),
        waited=sum(map(sum, waited.values())) / sum(map(sum, times.values())),
    )


def usual(seconds: Sequence[float]) -> float:
    """What a pass takes, of many that were read beside whatever else the machine did: the lower quartile."""
    return float(np.quantile(seconds, QUARTILE))


def in_turn(
    runs: Mapping[str, Callable[[], object]], alive: Callable[[], None] = lambda: None
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds that each pass of each took, and seconds of these that it waited for a core."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    waited: dict[str, list[float]] = {name: [] for name in runs}
    repeats = {}
    for name, run in runs.items():
        run()  # whatever is made at the first pass
        alive()
        took = min(timed(run)[0] for _ in range(2))
        repeats[name] = max(1, min(20, int(TURN_S / took)))
    until, rounds = time.perf_counter() + SECONDS, 0
    while rounds < ROUNDS[0] or (rounds < ROUNDS[1] and time.perf_counter() < until):
        for name, run in runs.items():
            if repeats[name] > 1:
                run()  # its weights come back into the caches, as they would be if it ran alone
            for _ in range(repeats[name]):
                took, without = timed(run)
                times[name].append(took)
                waited[name].append(without)
                alive()
        rounds += 1
    return times, waited


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds that a call took, and seconds of these that its thread waited for a core.

    The kernel may book a wait late, to a call that came after it: none has waited while it worked.
    """
    before, worked, start = _waited_s(), time.thread_time(), time.perf_counter()
    run()
    took = time.perf_counter() - start
    idle = took - (time.thread_time() - worked)
    return took, max(0.0, min(idle, _waited_s() - before))


def waiting(run: Callable[[], T]) -> tuple[T, float]:
    """What a call gives, and which part of its time this thread waited for a core."""
    waited, start = _waited_s(), time.perf_counter()
    found = run()
    return found, min(1.0, (_waited_s() - waited) / max(1e-9, time.perf_counter() - start))


def _waited_s() -> float:
    """How long this thread has waited for a core so far; 0 where the kernel does not say."""
    try:
        return int(WAITED.read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
