"""Which GPUs a job has to itself."""

from __future__ import annotations

from typing import Any

from core.ledger.workers import Offer
from worker.slots import Slots


def machine(gpus: int) -> dict[str, Any]:
    each = [{"id": f"GPU-{i}", "name": "NVIDIA H200", "memory_bytes": 2**37} for i in range(gpus)]
    return {"type": "cuda" if gpus else "cpu", "gpus": each, "cpus": 8, "memory_bytes": 2**33}


def test_a_slot_for_each_gpu_and_no_gpu_twice() -> None:
    slots = Slots(None, machine(4))
    assert slots.count == 4 and slots.offer() == Offer(4, 2**37)
    pair, one = slots.take(2), slots.take(1)
    assert sorted([*pair, *one]) == ["GPU-0", "GPU-1", "GPU-2"]
    assert (slots.offer().gpus, slots.busy) == (1, 2)
    slots.give_back(pair)
    assert (slots.offer().gpus, slots.busy) == (3, 1)
    assert not set(slots.take(3)) & set(one) and slots.offer().gpus == 0


def test_more_slots_than_gpus_share_them_evenly() -> None:
    slots = Slots(4, machine(2))
    taken = [gpu for _ in range(4) for gpu in slots.take(1)]
    assert sorted(taken) == ["GPU-0", "GPU-0", "GPU-1", "GPU-1"] and slots.offer().gpus == 0


def test_where_there_is_no_choice_the_environment_is_left_as_it_is() -> None:
    alone, none = Slots(2, machine(1)), Slots(None, machine(0))
    assert alone.take(1) == [] and alone.offer() == Offer(1, 2**37)
    assert (none.count, none.take(1), none.offer()) == (1, [], Offer(None, 2**33))
