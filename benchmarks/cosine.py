"""Do gradients by the units' gates weigh sources as gradients by all weights do? `python -m benchmarks.cosine`.

One target with three sources (one that helps, the same with shuffled labels, one of another task) is trained jointly;
at intervals each source's gradient is compared with the target's on dev rows, by both gradients on the same batches.
Printed as Markdown, and written to benchmarks/results/cosine.md: the mean cosine of each source, how both agree, and
what each costs in training steps, measured side by side.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import correlation, mean, median, stdev

TARGET, SOURCES = "yelp", ("movies", "mail")
NAMES = ("movies", "movies, labels shuffled", "mail")
RESULTS = Path(__file__).parent / "results" / "cosine.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cosine", description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--data", type=Path, default=Path("data/benchmarks"))
    parser.add_argument("--model", type=Path, default=Path("data/models/all-minilm-l6-v2"))
    options = parser.parse_args(arguments)
    os.environ |= {"OMP_WAIT_POLICY": "passive", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    text = markdown(
        [measure(options.model, options.data, options.steps, seed) for seed in options.seeds], options.steps
    )
    RESULTS.write_text(text, encoding="utf-8")
    print(text)
    return 0


Cosines = dict[str, list[tuple[float, float]]]  # source -> (by gates, by all weights) at each look
Seconds = dict[str, list[float]]


def measure(model: Path, data: Path, steps: int, seed: int) -> tuple[Cosines, Seconds]:
    """Train jointly, and look at both cosines 20 times."""
    import torch

    from benchmarks.transfer.cells import dataset_id
    from benchmarks.transfer.data import MAX_LENGTH
    from benchmarks.transfer.data import prepare as prepare_tables
    from core.domains.model_ref import ModelRef
    from core.domains.network import TARGET as HEAD
    from core.domains.network import Network
    from core.pruning.job.decide import decide
    from core.pruning.job.passes import Pass
    from core.pruning.job.prepare import prepare
    from core.pruning.training.batches import draw
    from core.pruning.training.coupling import Stream, add_heads
    from core.pruning.training.losses import batch_loss
    from core.pruning.training.train import optimizer_for
    from core.pruning.training.weighting import gate_gradient
    from core.spec.job import JobSpec

    def weight_gradient(network: Network, stream: Stream, index: Sequence[int]) -> torch.Tensor:
        trained = [p for p in network.body.parameters() if p.requires_grad]
        loss = batch_loss(network, [stream], [index])
        found = torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True)
        return torch.cat([gradient.flatten() for gradient in found])

    tables = prepare_tables(data, [TARGET, *SOURCES], lambda line: print(line, file=sys.stderr))
    spec = JobSpec.model_validate(
        {
            "model": "model",
            "task": {"data": {"dataset": dataset_id(TARGET)}, "split": {"train": 100, "dev": 100}},
            "sources": [{"data": {"dataset": dataset_id(name)}, "label": "label"} for name in SOURCES],
            "budget": {"params": 0.05},
            "transfer": {"coupling": "joint"},
            "train": {"max_length": MAX_LENGTH, "seed": seed, "steps": {"teach": steps}},
        }
    )
    cosines, seconds = defaultdict[str, list[tuple[float, float]]](list), defaultdict[str, list[float]](list)
    ways = {"gates": gate_gradient, "all weights": weight_gradient}
    with tempfile.TemporaryDirectory() as folder:
        paths = {dataset_id(name): tables[name] for name in (TARGET, *SOURCES)}
        job = Pass.begin(spec, ModelRef(model, model.name), paths, Path(folder), lambda _message: None)
        family, network = prepare(job)
        prepared = family.shared
        decided = decide(prepared, network)
    plan = decided.phases("teach", prepared.inputs.target, decided.sources, spec.train.batch_size)
    add_heads(network, plan, decided.sources)
    movies, mail = decided.sources
    order = torch.randperm(len(movies.rows), generator=torch.Generator().manual_seed(seed))
    shuffled = replace(movies.rows, labels=movies.rows.labels[order])
    streams = [
        plan[0].streams[0],
        *(
            Stream(rows, 8, head, 1.0, 0.0)
            for rows, head in ((movies.rows, movies.head), (shuffled, movies.head), (mail.rows, mail.head))
        ),
    ]
    dev = Stream(prepared.inputs.dev, 32, HEAD, 1.0, 0.0)
    dev_rows = draw([(dev.rows, dev.share)], steps, seed + 101)
    looks = draw([(stream.rows, 32) for stream in streams[1:]], steps, seed + 7)
    optimizer = optimizer_for(network, prepared.plan.rates["teach"])
    network.train()
    torch.manual_seed(seed)
    for step, index in enumerate(draw([(stream.rows, stream.share) for stream in streams], steps, seed), 1):
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        batch_loss(network, streams, index).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seconds["step"].append((time.perf_counter() - began) * 32 / sum(map(len, index)))
        if step % max(1, steps // 20):
            continue
        network.eval()  # the same network for both, without dropout
        wanted_rows, drawn = next(dev_rows)[0], next(looks)
        found: dict[str, list[float]] = {}
        for way, gradient in ways.items():
            began = time.perf_counter()
            wanted = gradient(network, dev, wanted_rows)
            seconds[way].append(time.perf_counter() - began)
            found[way] = [
                float(torch.cosine_similarity(wanted, gradient(network, stream, rows), dim=0))
                for stream, rows in zip(streams[1:], drawn, strict=True)
            ]
        for name, by_gates, by_weights in zip(NAMES, *found.values(), strict=True):
            cosines[name].append((by_gates, by_weights))
        network.train()
    return cosines, seconds


def markdown(runs: Sequence[tuple[Cosines, Seconds]], steps: int) -> str:
    """The table."""
    pooled: Cosines = defaultdict(list)
    seconds: Seconds = defaultdict(list)
    for cosines, times in runs:
        for name, values in cosines.items():
            pooled[name] += values
        for name, taken in times.items():
            seconds[name] += taken
    everything = [pair for values in pooled.values() for pair in values]
    step = median(seconds["step"])
    lines = [
        "# Cosine by gates, and by all weights",
        "",
        f"Target {TARGET}, {len(runs)} seeds, joint teaching of {steps} steps, both looked at on the same batches of "
        f"32 rows ({len(everything)} looks; `python -m benchmarks.cosine`).",
        "",
        "| source | by gates | by all weights | same sign | correlation |",
        "|---|---|---|---|---|",
    ]
    for name, values in [*pooled.items(), ("all", everything)]:
        gates, weights = zip(*values, strict=True)
        same = mean((g > 0) == (w > 0) for g, w in values)
        spread = [f"{mean(side):+.3f} (sd {stdev(side):.3f})" for side in (gates, weights)]
        lines.append(f"| {name} | {spread[0]} | {spread[1]} | {same:.0%} | {correlation(gates, weights):+.2f} |")
    cost = {way: median(seconds[way]) / step for way in ("gates", "all weights")}
    lines += [
        "",
        f"One gradient, in training steps of as many rows: by gates {cost['gates']:.2f}, by all weights "
        f"{cost['all weights']:.2f}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
