"""The demo of pictures: MobileNetV2 made twice as fast in ONNX Runtime, for Twemoji, with Noto's emoji beside."""

from __future__ import annotations

from cli.demo import Demo
from cli.fetch_images import MODEL, fetch_images

SIDE = 64  # pixels

IMAGES = Demo(
    fetch=fetch_images,
    rows="target: {:,} emoji of Twemoji in 8 categories; source: {:,} others of Noto",
    asked="Prune until ONNX Runtime is twice as fast, with 100 labelled pictures",
    job={
        "model": MODEL,
        "task": {"type": "image-classification", "split": {"train": 100, "dev": 100}},
        "budget": {"speedup": 2, "runtime": "onnx"},
        "train": {"image_size": SIDE, "steps": {"recover": 300}},  # more did not end higher, and takes twice as long
        "export": {"formats": ["safetensors", "onnx"]},
    },
    measure=lambda target, folders: ["cli.measure_images", str(target), *map(str, folders)],
    headings=("multiply-accumulates", "params"),
    cells=lambda result: (f"{result.macs:,}", f"{result.model_params:,}"),
    title=lambda report: f"{MODEL}, pruned to {report.budget.fraction:.1%} of its milliseconds",
    latency=f"one pass of ONNX Runtime at {SIDE} pixels",
    table="table-images.md",
)
