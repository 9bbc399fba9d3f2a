"""What a pass through the stages says while it runs: where it is, how far the whole job is, and that it lives."""

from __future__ import annotations

import time
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy

from core.domains.anatomy import Anatomy
from core.domains.structure import Structure
from core.pruning.system.malloc import trim_heap
from core.spec.messages import (
    Alive,
    Fitted,
    Listener,
    Message,
    Note,
    Saved,
    SizeTrained,
    StageBegun,
    StageName,
    StageProgress,
)

Clock = Callable[[], float]  # seconds
Prices = Mapping[tuple[str | None, str], float]  # of stages: of which size, where it is of one, and its name

TRAINED = 0.95  # of a pass is over with its training


class Teller:
    """Tells `listener` of one pass, and keeps the seconds that each stage took.

    `start` and `width` place the pass in the progress of the whole job. The control has the job's own stages: what is
    said of them tells so, and of what `size` they are, where there are several.
    """

    def __init__(
        self,
        listener: Listener,
        *,
        control: bool = False,
        start: float = 0.0,
        width: float = 1.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self._listener, self._control, self._clock = listener, control, clock
        self.start, self.width = start, width
        self.timings: ChainMap[str, float] = ChainMap()
        self._apart: list[ChainMap[str, float]] = []  # of each size
        self.size: str | None = None
        self._heard = self._began = 0.0

    def of(self, size: str) -> Teller:
        """Who tells of one size; what took its time for all is in its timings, too."""
        found = copy(self)
        found.size, found.timings = size, self.timings.new_child()
        self._apart.append(found.timings)
        return found

    @property
    def seconds(self) -> float:
        """Of all stages, of all sizes."""
        return sum(self.timings.values()) + sum(sum(size.maps[0].values()) for size in self._apart)

    @contextmanager
    def stage(self, name: StageName) -> Iterator[None]:
        """Announce a stage and time it."""
        self._listener(StageBegun(stage=name, control=self._control, size=self.size))
        trim_heap()
        self._began = self._clock()
        yield
        self.took(name, self.elapsed())

    def elapsed(self) -> float:
        """Seconds of the stage that runs."""
        return self._clock() - self._began

    def took(self, name: str, seconds: float) -> None:
        """A stage took this longer, of an earlier attempt as well."""
        self.timings[name] = self.timings.maps[0].get(name, 0.0) + seconds

    def saved(self, stage: StageName | None = None) -> None:
        """A stage is done, or a part of one, and need not be done again."""
        self._listener(Saved(stage=stage or "part"))

    def note(self, message: str) -> None:
        """Something for the user to read."""
        self.say(Note(message=message))

    def say(self, message: Message) -> None:
        """Something else."""
        self._listener(message)

    def fitted(self, structure: Structure, anatomy: Anatomy) -> None:
        """What is kept of the dense model, whose anatomy it is."""
        kept, dense = structure.sizes(), Structure.dense(anatomy).sizes()
        kinds = ("heads", "neurons", "channels")
        pairs = {kind: [*zip(kept[kind], dense[kind], strict=True)] for kind in kinds if kind in kept}
        self._listener(Fitted(**pairs, control=self._control, size=self.size))

    def trained(self, said: SizeTrained) -> None:
        """One of several sizes is."""
        self._listener(said.model_copy(update={"control": self._control}))

    def alive(self) -> None:
        """A sign of life, at most once a second, where no steps can be counted."""
        if self._clock() - self._heard >= 1.0:
            self._heard = self._clock()
            self._listener(Alive())

    def weighing(self, prices: Prices) -> Listener:
        """Who hears of steps, and passes on how far the whole job is; `prices` of the stages, in their order."""
        return Weighing(self._listener, prices, self._control, self.start, self.width, self._clock)

    def sized(self, progress: Listener) -> Listener:
        """Who hears of steps of this size."""
        if self.size is None:
            return progress
        return lambda said: progress(
            said.model_copy(update={"size": self.size}) if isinstance(said, StageProgress) else said
        )


class Weighing:
    """Adds to what is said of a stage how far the whole job is, and how long it takes at that pace."""

    def __init__(
        self, listener: Listener, prices: Prices, control: bool, start: float, width: float, clock: Clock
    ) -> None:
        self._listener, self._prices, self._control = listener, prices, control
        self._start, self._width, self._clock = start, width, clock
        self._first: tuple[float, float] | None = None  # time, and share, of the first progress of this attempt

    def __call__(self, message: Message) -> None:
        """Pass it on."""
        if isinstance(message, StageProgress):
            done = self._start + self._width * TRAINED * share(self._prices, message)
            more = {"eta_s": self._left(done), "overall": round(done, 3), "control": self._control}
            message = message.model_copy(update=more)
        self._listener(message)

    def _left(self, done: float) -> float | None:
        """Seconds of the job, of which so much is done."""
        now = self._clock()
        since, first = self._first = self._first or (now, done)
        return round((now - since) * (1 - done) / (done - first), 1) if done > first else None


def share(prices: Prices, progress: StageProgress) -> float:
    """How much of all stages is done."""
    stages, here = list(prices), (progress.size, progress.stage)
    before = sum(prices[stage] for stage in stages[: stages.index(here)])
    done = before + prices[here] * progress.step / progress.steps
    return done / max(1, sum(prices.values()))
