"""The places that a worker has for jobs, and the GPUs that each of its jobs has to itself."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

from core.ledger.workers import Offer


class Slots:
    """`count` jobs at once on `device` (see `presence.device`); left out, one a GPU. Hold `lock` from offer to take.

    With more slots than GPUs, as many jobs share each GPU as that needs.
    """

    def __init__(self, count: int | None, device: Mapping[str, Any]) -> None:
        self.device = device
        self._gpus: list[str] = [gpu["id"] for gpu in device["gpus"]]
        self.count = count or max(1, len(self._gpus))
        self._share = ceil(self.count / max(1, len(self._gpus)))
        self._on: Counter[str] = Counter()
        self.busy = 0
        self.lock = threading.Lock()

    def offer(self) -> Offer:
        """What is left for one more job."""
        free = sum(self._on[gpu] < self._share for gpu in self._gpus)
        return replace(Offer.of(self.device), gpus=free if self._gpus else None)

    def take(self, gpus: int) -> Sequence[str]:
        """A slot, and so many GPUs, those with the fewest jobs on them, by their ids; none where there is no choice."""
        taken = sorted(self._gpus, key=lambda gpu: self._on[gpu])[:gpus] if len(self._gpus) > 1 else []
        self._on.update(taken)
        self.busy += 1
        return taken

    def give_back(self, gpus: Sequence[str]) -> None:
        """The job is over."""
        with self.lock:
            self._on.subtract(gpus)
            self.busy -= 1
