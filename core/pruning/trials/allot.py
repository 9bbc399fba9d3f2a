"""What the trials of `auto` may cost: all together at most what the job itself does."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from core.pruning.trials.policy import SPLITS, Policy, Room
from core.schedule import prices

PROBE = 320  # rows that a source is taught by to see whether its labels are related, at least: or it is not asked
PROBED = 400  # rows of the target that are answered, at most
OWN = 100  # rows of a source that has its labels, which are answered, too
PROBES = 1 / 4  # of what the trials may cost, for all of that, at most; all of it, where no trial is to come
BATCHES = 24  # that the units of a trial are scored on
FORWARD = 1 / 3  # of the price of a dense step: to label a batch by the teacher


def allot(policy: Policy, steps: Mapping[str, int], rows: int, batch_size: int, left: float, probe: int) -> Room:
    """Keep all within the job's own cost.

    `rows`: the target's; `left`: part of the encoder that stays; `probe`: rows that a source is taught by, at most.
    """
    batch, after = trial_batch(batch_size), steps["prune"] + steps["recover"]
    price = prices(left)
    job = sum(steps[stage] * price[stage] for stage in price) * (batch_size / batch)  # from here on in steps of a trial
    several = len(policy.labels) * policy.apart
    teaches = ["teach" in choice.stages for choice in policy.choices[1:]]
    teachers = SPLITS + any(teaches) * (1 + bool(several)) * SPLITS + several * any(teaches[:1])
    wanted, probes = allot_probes(policy, PROBES * job if steps["teach"] else 0, rows, batch, probe)
    fixed = policy.most * BATCHES + teachers * FORWARD * rows / batch + probes
    room = job - fixed
    if room < job / 3:
        return Room(0, wanted or allot_probes(policy, job if steps["teach"] else 0, rows, batch, probe)[0], 0, 0)
    teach = min(steps["teach"], room / 2 / teachers)
    recover = min(after, (room - teachers * teach) / policy.most / (price["recover"] + FORWARD))
    return Room(policy.most, wanted, max(1, int(teach)), max(1, int(recover)))


def allot_probes(policy: Policy, room: float, rows: int, batch: int, probe: int) -> tuple[int, float]:
    """Steps of each probe, and the price of all, at most `room`; 0 if too few rows would teach it.

    A model that is not taught, as it is fitted to the target's labels, can tell nothing of the source alone.
    """
    labelled = len(policy.labelled(range(len(policy.labels))))
    most, least = (ceil(rows / batch) for rows in (probe, PROBE))
    answers = FORWARD * (min(PROBED, rows) + OWN) / batch
    steps = min(most, int(room / max(1, labelled) - answers))
    return (steps, labelled * (steps + answers)) if labelled and steps >= least else (0, 0.0)


def trial_batch(batch_size: int) -> int:
    """Of a trial: for the same price, more steps tell more than larger ones."""
    return max(1, batch_size // 2)
