"""Many pictures: what it costs the API and a reader to take 5,000 JPEGs (250 MB), and a job to train on them.

    python -m benchmarks.pictures [--write]

`topwork serve` runs on loopback. The job: a small ResNet at 96 pixels, 4,000 pictures to train on, few steps.
Without `--write`, benchmarks/results/pictures.md stays as it is.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.hostile.server import ROOT, Server, revision, serving
from benchmarks.hostile.watch import MB, measure
from tests.tiny_images import save_tiny_resnet

RESULTS = Path(__file__).parent / "results" / "pictures.md"
COUNT, CLASSES, SIZE, QUALITY = 5000, 5, (640, 480), 55
SIDE, PATIENCE_S = 96, 1800.0


def write_pictures(target: Path) -> None:
    """A zip of a folder a class; distinct noise on blots, so that JPEG needs some 50 kB for each."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 14, (SIZE[1] * 2, SIZE[0] * 2))
    with zipfile.ZipFile(target, "w") as archive:
        for i in range(COUNT):
            blots = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            picture = np.asarray(Image.fromarray(blots).resize(SIZE, Image.Resampling.BICUBIC), np.float64)
            top, left = rng.integers(0, SIZE[1]), rng.integers(0, SIZE[0])
            picture = picture + noise[top : top + SIZE[1], left : left + SIZE[0], None]
            out = io.BytesIO()
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=QUALITY)
            archive.writestr(f"class{i % CLASSES}/{i:05}.jpg", out.getvalue())


def job(server: Server, dataset: str) -> dict[str, Any]:
    """Run it to its end, and give its metrics."""
    body = {
        "model": "net",
        "task": {"type": "image-classification", "data": {"dataset": dataset}, "split": {"train": 4000, "dev": 500}},
        "budget": {"macs": 0.5},
        "train": {"image_size": SIDE, "steps": {"teach": 20, "recover": 20}},
    }
    answer = server.client.post("/v1/jobs", json=body)
    if answer.status_code != 202:
        raise SystemExit(f"the job: {answer.text}")
    found, until = answer.json(), time.monotonic() + PATIENCE_S
    while found["status"] in ("queued", "running") and time.monotonic() < until:
        time.sleep(1)
        found = server.client.get(f"/v1/jobs/{found['id']}").json()
    if found["status"] != "succeeded":
        raise SystemExit(f"the job: {found['status']}, {json.dumps(found['error'])}")
    metrics: dict[str, Any] = found["metrics"]
    return metrics


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pictures-") as folder, serving(ROOT) as server:
        packed = Path(folder) / "pictures.zip"
        write_pictures(packed)
        save_tiny_resnet(server.data_dir / "models" / "net", hidden_sizes=[64, 128], embedding_size=64)
        made: list[str] = []

        def send() -> Any:
            with packed.open("rb") as content:
                answer = server.client.post("/v1/datasets", files={"file": (packed.name, content)})
            made.append(answer.json().get("id", answer.text))
            return answer

        cost, size = measure(server, send), packed.stat().st_size
        if not made[0].startswith("ds_"):
            raise SystemExit(f"the upload: {made[0]}")
        metrics = job(server, made[0])
        peak, data = metrics["peak_memory_bytes"]["process"], metrics["data"]
    lines = [
        "| what | API: CPU s | API: MB more | reader: CPU s | reader: MB | job: MB |",
        "|---|---|---|---|---|---|",
        f"| upload of {COUNT:,} JPEGs, {size / MB:.0f} MB | {cost.api_cpu_s:.2f} | {cost.api_bytes / MB:.0f} "
        f"| {cost.readers_cpu_s:.1f} | {cost.reader_bytes / MB:.0f} | |",
        f"| job at {SIDE} pixels, {data['train']:,} rows to train on | | | | | {peak / MB:.0f} |",
    ]
    text = "\n".join(lines)
    print(text)
    if given.write:
        about = (__doc__ or "").partition("\n\n")[0]
        by = f"`python -m benchmarks.pictures`, {revision(ROOT)}"
        RESULTS.write_text(f"# Many pictures\n\n{about}\n\n{by}.\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
