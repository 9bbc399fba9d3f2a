"""The pictures: Fashion-MNIST of a Debian package, and emoji."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from cli.fetch_images import EMOJI, emoji
from cli.packages import FetchError
from topwork.files import file_sha256

FASHION = "dataset-fashion-mnist=0.0~git20200523.55506a9-1"
FASHION_SHA256 = "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


@dataclass(frozen=True)
class Pictures:
    """Pixels (N, 3, side, side) and classes (N,), to learn from and to measure on."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


def fashion(folder: Path) -> Pictures:
    """Fashion-MNIST (Xiao, Rasul, Vollgraf 2017) of Debian's package: 6,000 to learn from, 5,000 to measure on."""
    package = folder / "fashion.deb"
    if not package.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            try:
                subprocess.run(["apt-get", "download", "-q", FASHION], cwd=scratch, check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise FetchError(f"Debian's {FASHION} cannot be had: {error}") from error
            [file] = Path(scratch).glob("*.deb")
            if (found := file_sha256(file)) != FASHION_SHA256:
                raise FetchError(f"{file.name} has sha256 {found}, expected {FASHION_SHA256}; it is not used")
            file.replace(package)
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["dpkg-deb", "-x", str(package), scratch], check=True)
        [root] = Path(scratch).rglob("train-images-idx3-ubyte.gz")
        parts = {}
        for name, count in (("train", 6000), ("t10k", 5000)):
            pixels = gzip.decompress((root.parent / f"{name}-images-idx3-ubyte.gz").read_bytes())[16:]
            labels = gzip.decompress((root.parent / f"{name}-labels-idx1-ubyte.gz").read_bytes())[8:]
            grey = torch.frombuffer(bytearray(pixels), dtype=torch.uint8)[: count * 784].view(-1, 1, 28, 28)
            x = pad(grey.float() / 127.5 - 1, [2] * 4, value=-1.0).expand(-1, 3, -1, -1).contiguous()
            parts[name] = x, torch.frombuffer(bytearray(labels), dtype=torch.uint8)[:count].long()
    return Pictures(*parts["train"], *parts["t10k"])


def emoji_of_two_hands(folder: Path) -> Pictures:
    """All that cli/fetch_images.py has of both, in their 8 categories: 1,200 to learn from, 436 to measure on."""
    rows: list[tuple[str, np.ndarray]] = []
    for name in EMOJI:
        with zipfile.ZipFile(emoji(folder / f"{name}.zip", lambda line: print(line, file=sys.stderr))) as archive:
            for file in archive.namelist():
                with archive.open(file) as content, Image.open(content) as image:
                    rows.append((file.partition("/")[0], np.asarray(image.convert("RGB"))))
    random.Random(0).shuffle(rows)
    classes = sorted({label for label, _ in rows})
    x = torch.from_numpy(np.stack([pixels for _, pixels in rows])).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)
    y = torch.tensor([classes.index(label) for label, _ in rows])
    return Pictures(x[:1200], y[:1200], x[1200:], y[1200:])
