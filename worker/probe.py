"""Whether this machine is well: `python -m worker.probe FOLDER` does a little of what every job does.

It loads torch, computes on the GPU where there is one, and writes a file; it fails where any of that does.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

SIZE = 256
WITHIN_S = 110


def main(folder: Path) -> None:
    """Raises, or is ended by SIGALRM, where the machine is not well."""
    signal.alarm(WITHIN_S)
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    ones = torch.ones(SIZE, SIZE, device=device)
    if float((ones @ ones).sum()) != float(SIZE**3):
        raise RuntimeError(f"{device} computes wrong products")
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(2**20))
        file.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
