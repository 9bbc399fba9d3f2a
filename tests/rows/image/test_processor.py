"""Pixels as the model's own preprocessor makes them, at its size and at others; views that stay the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor

from core.rows.files.read import Asked, read
from core.rows.image.config import read_config, side_of
from core.rows.image.decode import rgb
from core.rows.image.picture import Picture
from core.rows.image.processor import PIXELS, Images
from core.rows.image.views import view_of
from core.rows.modality import Modality
from core.rows.table import read_columns
from core.spec.errors import SpecError
from tests.rows.helpers import LIMITS
from tests.rows.image.made import drawn, saved, zipped

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
CONFIGS: dict[str, dict[str, Any]] = {
    "mobilenet_v2": {
        "image_processor_type": "MobileNetV2ImageProcessor",
        "size": {"shortest_edge": 256},
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "resample": 2,
        **HALF,
    },
    "resnet": {
        "feature_extractor_type": "ConvNextFeatureExtractor",
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 224},
        "crop_pct": 0.875,
        "resample": 3,
        **IMAGENET,
    },
    "convnext at 384": {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}, **IMAGENET},
    "efficientnet": {
        "image_processor_type": "EfficientNetImageProcessor",
        "size": {"height": 240, "width": 240},
        "do_center_crop": False,
        "include_top": True,
        "rescale_offset": False,
        "resample": 0,
        **IMAGENET,
    },
    "efficientnet from -1 to 1": {
        "image_processor_type": "EfficientNetImageProcessor",
        "size": {"height": 96, "width": 96},
        "rescale_factor": 1 / 127.5,
        "rescale_offset": True,
        "do_normalize": False,
        "include_top": False,
    },
    "vit": {"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}, "resample": 2, **HALF},
    "vit of old": {"feature_extractor_type": "ViTFeatureExtractor", "size": 224, **HALF},
    "deit": {"image_processor_type": "DeiTImageProcessor", "size": 256, "crop_size": 224, "resample": 3, **IMAGENET},
    "mobilevit": {
        "image_processor_type": "MobileViTImageProcessor",
        "size": {"shortest_edge": 288},
        "crop_size": {"height": 256, "width": 256},
    },
    "levit": {"image_processor_type": "LevitImageProcessor", "size": {"shortest_edge": 224}, "crop_size": 224},
    "textnet": {
        "image_processor_type": "TextNetImageProcessor",
        "size": {"shortest_edge": 640},
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": False,
        "size_divisor": 32,
        **IMAGENET,
    },
}
OBLONG = ("textnet",)  # whose own preprocessor gives pictures of several shapes: they are cropped
PICTURES = {
    "a.png": saved(drawn(1, 300, 200)),
    "b.jpg": saved(drawn(2, 90, 310), "JPEG"),
    "c.png": saved(drawn(3, 20, 20).convert("L")),
}
Rows = list[tuple[Picture]]


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """Those of PICTURES."""
    (tmp_path / "upload").write_bytes(zipped(PICTURES))
    read([tmp_path / "upload"], "x.zip", tmp_path / "table", LIMITS, Asked())
    return [(picture,) for picture in read_columns(tmp_path / "table")["image"].values]


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Path]:
    """A folder with a preprocessor."""

    def write(config: Any) -> Path:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        text = config if isinstance(config, str) else json.dumps(config)
        (folder / "preprocessor_config.json").write_text(text)
        return folder

    return write


@pytest.mark.parametrize("side", [None, 64, 400])
@pytest.mark.parametrize("name", CONFIGS)
def test_numbers_are_those_of_the_models_own_preprocessor(
    name: str, side: int | None, rows: Rows, model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = model(CONFIGS[name])
    images = Images.of(folder, side, augment=True)
    assert side is None or images.side == images.height == images.width == side
    columns, _ = images.encode(rows)
    assert {(pixels.dtype, tuple(pixels.shape)) for pixels in columns[PIXELS]} == {
        (torch.uint8, (3, images.height, images.width))
    }
    got = images.collate(columns, [2, 0, 1])[PIXELS]
    images.save(tmp_path, None)
    pictures = [rgb(data) for data in PICTURES.values()]
    for source in [tmp_path] + [folder] * (side is None and name not in OBLONG):
        plain = AutoImageProcessor.from_pretrained(source)
        wanted = plain([pictures[at] for at in (2, 0, 1)], return_tensors="pt")[PIXELS]
        assert got.dtype == torch.float32 and torch.allclose(got, wanted, rtol=1e-6, atol=1e-6)


def test_it_is_a_modality(rows: Rows, model: Callable[..., Path]) -> None:
    images: Modality = Images.of(model(CONFIGS["vit"]), 32, augment=True)
    columns, said = images.encode(rows)
    assert said is None and images.sizes(columns).tolist() == [32, 32, 32] and images.words_read(["a"]) == []
    parts = [images.collate(columns, [0]), images.collate(columns, [1, 2])]
    assert torch.equal(images.join(parts)[PIXELS], images.collate(columns, [0, 1, 2])[PIXELS])
    blank = images.blank([PIXELS], 5, 32)[PIXELS]
    assert blank.shape == (5, 3, 32, 32) and blank.std() > 0.3 and blank.abs().max() <= 1
    assert torch.equal(blank, images.blank([PIXELS], 5, 32)[PIXELS])
    assert images.blank([PIXELS], 1, 48)[PIXELS].shape == (1, 3, 48, 48)
    assert images.encode([])[0] == {PIXELS: []}


def test_views_are_the_picture_its_mirror_and_parts_alike_each_time(rows: Rows, model: Callable[..., Path]) -> None:
    images = Images.of(model(CONFIGS["vit"]), 32, augment=True)
    plain = images.encode(rows)[0][PIXELS]
    columns, index = images.encode_views(rows, 4, seed=1)
    views = columns[PIXELS]
    assert index == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    for row in range(3):
        assert torch.equal(views[4 * row], plain[row])
        assert (views[4 * row + 1].int() - plain[row].flip(-1).int()).abs().max() <= 1  # scaled the other way round
        others = [views[4 * row + number] for number in (1, 2, 3)]
        assert not any(torch.equal(one, plain[row]) for one in others)
    turned = images.encode_views(rows[::-1], 4, seed=1)[0][PIXELS]
    assert all(
        torch.equal(one, other) for one, other in zip(turned, [*views[8:], *views[4:8], *views[:4]], strict=True)
    )
    assert not torch.equal(images.encode_views(rows, 4, seed=2)[0][PIXELS][2], views[2])
    still = Images.of(model(CONFIGS["vit"]), 32, augment=False).encode_views(rows, 4)
    assert still[1] == [0, 1, 2] and all(map(torch.equal, still[0][PIXELS], plain))


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 3), (40, 3)])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_smallest_pictures_are_scaled_like_others(
    name: str, size: tuple[int, int], model: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "upload").write_bytes(zipped({"a.png": saved(drawn(1, *size)), "b.png": saved(drawn(2))}))
    read([tmp_path / "upload"], "x.zip", tmp_path / "table", LIMITS, Asked())
    images = Images.of(model(CONFIGS[name]), 32, augment=True)
    columns, index = images.encode_views([(one,) for one in read_columns(tmp_path / "table")["image"].values], 3)
    assert {tuple(pixels.shape) for pixels in columns[PIXELS]} == {(3, 32, 32)} and len(index) == 6


@pytest.mark.parametrize("size", [(1, 1), (1, 60), (50, 2), (300, 200)])
def test_a_view_shows_most_of_a_picture(size: tuple[int, int]) -> None:
    picture = drawn(1, *size)
    for number in range(2, 40):
        width, height = view_of(picture, number, "key").size
        assert width <= size[0] and height <= size[1]
        assert width * height >= 0.45 * size[0] * size[1]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("{", "no JSON object"),
        ("[]", "no JSON object"),
        ({"image_processor_type": "NoSuchProcessor"}, "(NoSuchProcessor) is not supported"),
        ({"size": 224}, "is not supported"),
        (CONFIGS["vit"] | {"auto_map": {"AutoImageProcessor": "code.Mine"}}, "asks for code of its own"),
        (CONFIGS["vit"] | {"size": {"height": 9000, "width": 9000}}, "asks for 9,000 pixels a side; at most 1,024"),
        (CONFIGS["vit"] | {"size": {"height": 0, "width": 0}}, "preprocessor_config.json"),
        (
            CONFIGS["textnet"] | {"size": {"shortest_edge": 256, "longest_edge": 400}},
            "it gives pictures of several sizes",
        ),
        (CONFIGS["vit"] | {"image_mean": ["a"]}, "preprocessor_config.json"),
        ({"image_processor_type": "DetrImageProcessor"}, "preprocessor_config.json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_preprocessor_that_cannot_be_used_is_refused(config: Any, says: str, model: Callable[..., Path]) -> None:
    with pytest.raises(SpecError) as refused:
        Images.of(model(config), None, augment=True)
    assert refused.value.field == "/model" and says in refused.value.message


def test_a_model_without_preprocessor_is_told_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"has no preprocessor_config\.json.*copy it from where the model comes from"):
        Images.of(tmp_path, None, augment=True)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_size_is_known_without_the_library(name: str, model: Callable[..., Path]) -> None:
    folder = model(CONFIGS[name])
    assert side_of(read_config(folder)) == Images.of(folder, None, augment=True).side


def test_pictures_that_are_not_square_have_no_side() -> None:
    """What is counted, and timed, is a square."""
    assert side_of({"size": {"height": 256, "width": 128}}) is None
    assert side_of({"size": {"height": 64, "width": 64}}) == side_of({"size": {"shortest_edge": 64}}) == 64


def test_numbers_of_bytes_do_not_wrap(model: Callable[..., Path], rows: Rows) -> None:
    """The lightest and the darkest byte."""
    images = Images.of(model(CONFIGS["vit"]), 32, augment=True)
    column = {PIXELS: [torch.full((3, 32, 32), value, dtype=torch.uint8) for value in (0, 255)]}
    assert np.allclose(images.collate(column, [0, 1])[PIXELS].amax((1, 2, 3)), [-1, 1])
