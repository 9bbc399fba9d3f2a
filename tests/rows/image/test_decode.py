"""Pictures of every kind: read as they are shown, or refused with the mend."""

from __future__ import annotations

import base64
import io
import random

import numpy as np
import pytest
from PIL import Image

from core.rows.image import decode
from core.rows.image.decode import Looked, look, rgb, thumbnail
from tests.rows.image.made import drawn, saved

PICTURE = drawn(1, 30, 20)
DEEP = (np.arange(32 * 64).reshape(32, 64) * 32).astype(np.uint16)


def turned(orientation: int) -> Image.Exif:
    """An EXIF that says how a picture is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def seen(data: bytes) -> Looked:
    with decode.quietly():
        return look(data)


@pytest.mark.parametrize("format", ["PNG", "BMP", "WEBP"])
def test_pictures_of_the_same_pixels_are_one_whatever_their_format(format: str) -> None:
    found = seen(saved(PICTURE, format, **({"lossless": True} if format == "WEBP" else {})))
    assert (found.width, found.height, found.format, found.changes) == (30, 20, format, ())
    assert found.digest == seen(saved(PICTURE)).digest != seen(saved(drawn(2, 30, 20))).digest
    assert seen(saved(Image.new("RGB", (4, 9)))).digest != seen(saved(Image.new("RGB", (9, 4)))).digest


@pytest.mark.parametrize(
    ("data", "format", "changes"),
    [
        (saved(PICTURE, "JPEG"), "JPEG", ()),
        (saved(PICTURE.convert("CMYK"), "JPEG"), "JPEG", ("cmyk",)),
        (saved(PICTURE.convert("L")), "PNG", ("grey",)),
        (saved(PICTURE.convert("P")), "PNG", ()),
        (saved(PICTURE.convert("1")), "PNG", ("grey",)),
        (saved(PICTURE.convert("RGBA")), "PNG", ("transparent",)),
        (saved(PICTURE.convert("P"), transparency=b"\0" * 10), "PNG", ("transparent",)),
        (saved(Image.fromarray(DEEP)), "PNG", ("deep", "grey")),
        (saved(PICTURE, "GIF", save_all=True, append_images=[drawn(2, 30, 20)]), "GIF", ("animated",)),
        (saved(PICTURE, "PNG", save_all=True, append_images=[drawn(2, 30, 20)]), "PNG", ("animated",)),
        (saved(PICTURE, "WEBP", save_all=True, append_images=[drawn(2, 30, 20)]), "WEBP", ("animated",)),
        (saved(PICTURE.resize((1, 1))), "PNG", ("tiny",)),
        (saved(PICTURE, "JPEG", exif=turned(3)), "JPEG", ("turned",)),
        (saved(PICTURE, "JPEG", exif=b"Exif\0\0nonsense"), "JPEG", ()),
    ],
    ids=lambda value: str(value) if not isinstance(value, bytes) else "",
)
def test_odd_pictures_are_read_and_what_was_done_is_known(data: bytes, format: str, changes: tuple[str, ...]) -> None:
    found = seen(data)
    assert (found.format, found.changes) == (format, changes)
    with decode.quietly():
        assert rgb(data).mode == "RGB" and rgb(data).size == (found.width, found.height)
        assert thumbnail(data).startswith("data:image/jpeg;base64,")


def test_exif_turns_a_picture() -> None:
    data = saved(PICTURE, "PNG", exif=turned(6))
    assert (seen(data).width, seen(data).height) == (20, 30)
    assert np.array_equal(np.asarray(rgb(data)), np.rot90(np.asarray(PICTURE), -1))


def test_of_sixteen_bits_the_upper_eight_are_read() -> None:
    assert np.array_equal(np.asarray(rgb(saved(Image.fromarray(DEEP))))[..., 0], DEEP >> 8)


def test_of_an_animation_the_first_picture_is_read() -> None:
    data = saved(PICTURE, "PNG", save_all=True, append_images=[drawn(2, 30, 20)])
    assert seen(data).digest == seen(saved(PICTURE)).digest


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (saved(PICTURE, "JPEG")[:500], "damaged or cut off"),
        (saved(PICTURE, "PNG")[:500], "damaged or cut off"),
        (saved(PICTURE, "PNG")[:20], "damaged or cut off"),
        (saved(PICTURE, "WEBP")[:60], "damaged or cut off"),
        (saved(PICTURE, "TIFF"), "is TIFF, which is not read; save it as PNG or JPEG"),
        (saved(PICTURE, "AVIF"), "is AVIF, which is not read"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "is HEIC, which is not read"),
        *[(b"\0\0\0\x18ftyp" + brand + bytes(40), "is HEIC, wh") for brand in (b"hevc", b"msf1", b"heim", b"heis")],
        (b"\0\0\0\x18ftypavis" + bytes(40), "is AVIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- made by hand -->\n<svg/>", "is SVG"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is no picture that is read"),
        (b"<!doctype html><title>404</title>", "is no picture that is read (JPEG, PNG, WEBP, GIF, BMP)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (saved(Image.new("1", (12_000, 12_000))), "has 12,000 x 12,000 pixels, more than 50,000,000"),
        (saved(Image.new("1", (20_000, 20_000))), "has more than 50,000,000 pixels"),
        (saved(Image.new("L", (3, 900))), "one side over 100 times the other; crop it"),
        (saved(PICTURE) + bytes(decode.MAX_BYTES), "more than the 33,554,432 that are read; make it smaller"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.field(
    "1. Data at the door", "a picture that is none, cut off, or a bomb", "a 422 that says which, and the mend"
)
def test_what_cannot_be_read_is_refused_with_the_mend(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        seen(data)
    assert says in str(refused.value)


@pytest.mark.parametrize("format", decode.FORMATS)
@pytest.mark.field("3. Under attack", "pictures with any bytes changed", "read, or refused in words")
def test_whatever_is_in_a_picture_it_is_read_or_refused(format: str) -> None:
    rng, data = random.Random(0), saved(PICTURE, format)
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        try:
            found = seen(bytes(broken[: rng.choice((len(broken), rng.randrange(len(broken))))]))
            assert found.width * found.height <= decode.MAX_PIXELS
        except ValueError as error:
            assert str(error)[0].islower() and len(str(error)) < 250


def test_a_thumbnail_is_small() -> None:
    found = thumbnail(saved(drawn(1, 1200, 600), "JPEG")).partition(",")[2]
    with Image.open(io.BytesIO(base64.b64decode(found))) as small:
        assert small.size == (64, 32) and len(found) < 8000
