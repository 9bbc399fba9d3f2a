"""What part of an image classifier's work can go, by family, and how long it takes to find that out.

    python -m benchmarks.channels

Each family of core/domains/channels/families.py in its default size (Swin, which needs larger pictures, in a small
one), random weights, pictures of 64 pixels, one thread. Writes benchmarks/results/channels.md.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from core.domains.channels.costs import ImageCosts
from core.domains.channels.families import FAMILIES
from core.domains.channels.load import graph_of

SIDE = 64
SMALL: dict[str, dict[str, Any]] = {
    "vit": {"image_size": SIDE},
    "deit": {"image_size": SIDE},
    "swin": {"image_size": SIDE, "window_size": 4, "depths": [2, 2], "num_heads": [3, 6]},
    "levit": {"image_size": SIDE},
}


def main() -> None:
    """Trace each, and write the table."""
    torch.set_num_threads(1)
    rows = []
    for name, family in FAMILIES.items():
        torch.manual_seed(0)
        task_class = getattr(transformers, family.task_class)
        body = task_class(task_class.config_class(num_labels=10, **SMALL.get(name, {}))).eval()
        began = time.process_time()
        costs = ImageCosts.at(graph_of(body, SIDE), SIDE, 1)
        took = time.process_time() - began
        found = costs.reach
        cells = [f"{found.dense['macs']:,}", f"{costs.macs.removable:.1%}", f"{costs.params.removable:.1%}"]
        cells += [f"{found.channels:,}", f"{found.blocks}", f"{took:.1f}"]
        rows.append(f"| {name} | {' | '.join(cells)} |")
        print(rows[-1], file=sys.stderr, flush=True)
    head = "| family | multiply-accumulates | that can go | parameters that can go | units | blocks | seconds of CPU |"
    about = (
        "# What of image classifiers can go\n\n`python -m benchmarks.channels` printed this: default sizes (Swin in "
    )
    about += f"a small one), pictures of {SIDE} pixels.\n\n"
    table = "\n".join([head, "|" + " --- |" * 7, *rows])
    (Path(__file__).parent / "results" / "channels.md").write_text(f"{about}{table}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
