"""Honest data: how long an upload of 100,000 rows takes, and a plan of a job on it, one revision beside another.

    python -m benchmarks.upload [--root DIR]... [--write]

`topwork serve` of each checkout runs on loopback; give `--root` twice to have one revision beside another. They take
turns, so that whatever else the machine does hits both alike; a ratio is that of one turn to the first revision's.
Without `--write`, benchmarks/results/upload.md stays as it is.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.hostile.server import ROOT, Server, revision, rows, serving

RESULTS = Path(__file__).parent / "results" / "upload.md"
ROWS, ROUNDS = 100_000, 5


def jsonl(count: int) -> bytes:
    """The same rows, as JSON Lines."""
    lines = [f"review {i} is sturdy and light" for i in range(count)]
    return "".join(
        json.dumps({"text": line, "label": ("good", "bad")[i % 2]}) + "\n" for i, line in enumerate(lines)
    ).encode()


def turn(server: Server, name: str, content: bytes, seed: int) -> tuple[float, float]:
    """Seconds of an upload, and of a plan that nothing is known of yet."""
    started = time.perf_counter()
    uploaded = server.upload(name, content)
    took = time.perf_counter() - started
    uploaded.raise_for_status()
    body = server.job(task={"data": {"dataset": uploaded.json()["id"]}}, train={"seed": seed})
    started = time.perf_counter()
    server.client.post("/v1/jobs:validate", json=body).raise_for_status()
    return took, time.perf_counter() - started


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, action="append", help="a checkout; by default this one")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    given = parser.parse_args()
    files = {"rows.csv": rows(ROWS), "rows.jsonl": jsonl(ROWS)}
    lines = ["| what | revision | seconds | ratio |", "|---|---|---|---|"]
    with ExitStack() as stack:
        roots = given.root or [ROOT]
        servers = {revision(root): stack.enter_context(serving(root.resolve())) for root in roots}
        for name, content in files.items():
            turns = [
                {which: turn(server, name, content, seed) for which, server in servers.items()}
                for seed in range(ROUNDS)
            ]
            first = next(iter(servers))
            for step, what in enumerate((f"upload of {name}", f"plan on {name}")):
                for which in servers:
                    took = median(one[which][step] for one in turns)
                    ratio = median(one[which][step] / one[first][step] for one in turns)
                    lines.append(f"| {what} | {which} | {took:.2f} | {ratio:.2f} |")
    text = "\n".join(lines)
    print(text)
    if given.write:
        about = (__doc__ or "").partition("\n\n")[0]
        RESULTS.write_text(
            f"# Uploads\n\n{about} `python -m benchmarks.upload`; medians of {ROUNDS} turns.\n\n{text}\n"
        )


if __name__ == "__main__":
    main()
