"""What hostile input costs: CPU and memory of the API and of its readers, and how long others wait meanwhile.

    python -m benchmarks.hostile [--root DIR]... [--only NAME]... [--write]

Each input is sent to a server of its own, `topwork serve` of a checkout on loopback; give `--root` several times to
have one revision beside another. Of the API's process: CPU seconds, and how far its memory rose. Of the processes that
it started to read: CPU seconds of all, and the most that one of them held. `/healthz` is asked all the while. No answer
within a minute is waited for. Without `--write`, benchmarks/results/hostile.md stays as it is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.hostile.inputs import INPUTS
from benchmarks.hostile.server import ROOT, revision, serving
from benchmarks.hostile.watch import MB, Cost, measure

RESULTS = Path(__file__).parents[1] / "results" / "hostile.md"


def table(found: dict[str, dict[str, Cost]]) -> str:
    """Markdown: a line for each input and revision."""
    lines = [
        "| input | revision | API: CPU s | MB more | readers: CPU s | one: MB | worst /healthz, ms | answer |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for what, costs in found.items():
        for which, cost in costs.items():
            numbers = (
                f"{cost.api_cpu_s:.2f} | {cost.api_bytes / MB:.0f} | {cost.readers_cpu_s:.2f} | "
                f"{cost.reader_bytes / MB:.0f} | {1000 * cost.healthz_s:.0f}"
            )
            lines.append(f"| {what} | {which} | {numbers} | {cost.answer.replace('|', '/')} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, action="append", help="a checkout; by default this one")
    parser.add_argument("--only", action="append", default=[], help="inputs whose names hold this")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    given = parser.parse_args()
    roots = {revision(root): root.resolve() for root in given.root or [ROOT]}
    found: dict[str, dict[str, Cost]] = {}
    for what, make in INPUTS.items():
        if given.only and not any(part in what for part in given.only):
            continue
        for which, root in roots.items():
            with serving(root) as server:
                found.setdefault(what, {})[which] = measure(server, make(server))
            print(table({what: {which: found[what][which]}}).splitlines()[-1], file=sys.stderr, flush=True)
    text = table(found)
    print(text)
    if given.write:
        about = (__doc__ or "").partition("\n\n")[0]
        RESULTS.write_text(f"# Hostile input\n\n{about} `python -m benchmarks.hostile`.\n\n{text}\n")


if __name__ == "__main__":
    main()
