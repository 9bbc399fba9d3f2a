"""One picture: opened within bounds, and made 8-bit RGB, the right way up."""

from __future__ import annotations

import base64
import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
ENDINGS = {  # what a name says
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    ".png": "PNG",
    ".webp": "WEBP",
    ".gif": "GIF",
    ".bmp": "BMP",
}
OTHERS = {".tif": "TIFF", ".tiff": "TIFF", ".heic": "HEIC", ".heif": "HEIC", ".avif": "AVIF", ".svg": "SVG"}
OTHERS |= {".ico": "ICO", ".psd": "PSD", ".dng": "DNG", ".jp2": "JPEG 2000"}
SIGNS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")  # first bytes that no other data has
FOREIGN = {b"II*\0": "TIFF", b"MM\0*": "TIFF", b"8BPS": "PSD", b"<svg": "SVG", b"%PDF": "PDF"}
CODED = {  # after "ftyp"
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
}
MAX_BYTES = 32 * 2**20
MAX_PIXELS = 50_000_000  # of one picture: some 200 MB while it is decoded
MAX_RATIO = 100  # of its longer side to the shorter one, as which it is scaled
TINY = 8  # pixels of a side
THUMBNAIL = 64
SAVE = "save it as PNG or JPEG"


@dataclass(frozen=True)
class Looked:
    """A picture that can be read: sizes are those it is shown with, `changes` (see CHANGES) what is done to it."""

    digest: bytes  # of its pixels and its size: pictures of the same one look the same, whatever their format
    width: int
    height: int
    format: str
    changes: tuple[str, ...]


CHANGES = {  # what is done to a picture: said of those it is done to
    "turned": "turned as their EXIF says",
    "cmyk": "of CMYK, converted to RGB",
    "deep": "of 16 bits a colour, read with 8",
    "transparent": "with transparency, which is left out",
    "animated": "animated, of which the first picture is used",
    "grey": "grey, read as RGB",
    "tiny": f"with a side of fewer than {TINY} pixels",
}


def is_picture(data: bytes) -> bool:
    """Whether bytes begin as a picture does, and as nothing else."""
    return data.startswith(SIGNS) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def look(data: bytes) -> Looked:
    """Decode a picture as a whole; raises ValueError that says what is wrong with it, and the mend."""
    with _opened(data) as image:
        changes = _changes(image)
        format = str(image.format)
        picture = _rgb(image)
    digest = hashlib.blake2b(f"{picture.width} {picture.height} ".encode(), digest_size=16)
    digest.update(picture.tobytes())
    changes += ("tiny",) * (min(picture.size) < TINY)
    return Looked(digest.digest(), *picture.size, "JPEG" if format == "MPO" else format, changes)


def rgb(data: bytes) -> Image.Image:
    """The picture in 8-bit RGB, turned as its EXIF says; raises ValueError as `look` does."""
    with _opened(data) as image:
        return _rgb(image)


def thumbnail(data: bytes) -> str:
    """A small JPEG of it as a data URI."""
    with _opened(data) as image:
        image.draft("RGB", (2 * THUMBNAIL, 2 * THUMBNAIL))  # a JPEG is decoded at an eighth of its size
        small = _rgb(image)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def format_of(name: str) -> str | None:
    """The format that a file's name says, of those that are read and of others; None of no picture."""
    ending = PurePosixPath(name.lower()).suffix
    return ENDINGS.get(ending) or OTHERS.get(ending)


@contextmanager
def quietly() -> Iterator[None]:
    """Without the warnings of a library of what is odd in a picture: what matters is refused, or said by us."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """The picture, of which only the header is read so far; what breaks inside is a ValueError."""
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ValueError("is empty")
    if len(data) > MAX_BYTES:
        raise ValueError(f"has {len(data):,} bytes, more than the {MAX_BYTES:,} that are read; make it smaller")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(*image.size)
            yield image
    except Image.DecompressionBombError:
        raise ValueError(f"has more than {MAX_PIXELS:,} pixels; make it smaller") from None
    except UnidentifiedImageError:
        raise ValueError(_foreign(data)) from None
    except (MemoryError, _Refused):
        raise
    except Exception as error:  # of libraries for each format, on bytes of any kind
        said = "".join(c for c in str(error)[:100] if c.isprintable())
        raise ValueError(f"is damaged or cut off ({said or type(error).__name__}); {SAVE} again") from error


class _Refused(ValueError):
    pass


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _Refused(f"has {width:,} x {height:,} pixels, more than {MAX_PIXELS:,} in all; make it smaller")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise _Refused(f"has {width:,} x {height:,} pixels, one side over {MAX_RATIO} times the other; crop it")


def _foreign(data: bytes) -> str:
    """What bytes are that are no picture of a format that is read."""
    head = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()
    kind = next((name for sign, name in FOREIGN.items() if head.startswith(sign)), None)
    if head.startswith((b"<?xml", b"<!--", b"<!DOCTYPE svg")) and b"<svg" in head:
        kind = "SVG"
    if data[4:8] == b"ftyp":
        kind = CODED.get(data[8:12])
    if kind is not None:
        return f"is {kind}, which is not read; {SAVE}"
    if data.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, and not the picture; fetch it with 'git lfs pull'"
    if is_picture(data) or data.startswith(b"BM"):
        return f"is damaged or cut off; {SAVE} again"
    return f"is no picture that is read ({', '.join(FORMATS)}); {SAVE}"


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageOps

    image.load()
    with suppress(Exception):  # an EXIF that is none says nothing
        ImageOps.exif_transpose(image, in_place=True)
    if _is_deep(image.mode):
        image = image.convert("I").point(_high_byte).convert("L")
    return image.convert("RGB")


def _high_byte(value: Any) -> Any:
    return value * (1 / 256)


def _is_deep(mode: str) -> bool:
    return mode == "I" or mode.startswith("I;16")


def _changes(image: Image.Image) -> tuple[str, ...]:
    turned, mode = False, image.mode
    with suppress(Exception):
        turned = image.getexif().get(0x0112, 1) in range(2, 9)
    found = {
        "turned": turned,
        "cmyk": mode == "CMYK",
        "deep": _is_deep(mode),
        "transparent": mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info,
        "animated": image.format not in ("JPEG", "MPO") and getattr(image, "is_animated", False),
        "grey": mode in ("L", "LA", "1") or _is_deep(mode),
    }
    return tuple(name for name, is_so in found.items() if is_so)
