"""Pictures as rows of pixels: made once, as the model's preprocessor does, and normalised when they are batched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from core.rows.image.config import read_config
from core.rows.image.decode import quietly, rgb
from core.rows.image.picture import Picture, read_bytes
from core.rows.image.preprocessor import known_options, loaded, squared, unsupported
from core.rows.image.views import view_of, views_of
from core.rows.modality import Batch, Columns

PIXELS = "pixel_values"
# What a preprocessor does to numbers, and not to the picture; not all of them know all.
NUMBERS = {"do_rescale": False, "do_normalize": False, "rescale_offset": False, "include_top": False}
SHAPES = {"do_resize": False, "do_center_crop": False, "do_pad": False, "do_flip_channel_order": False}
AT_ONCE = 32  # pictures whose bytes are in memory
THREADS = 4  # each holds a whole picture while it is made small: up to half a GB
EXACT = 1e-5


@dataclass(frozen=True)
class Images:
    """Pictures of `height` x `width` pixels; `scale` and `offset` of each colour make numbers of their bytes.

    `augment`: `encode_views` gives several views of a picture.
    """

    processor: Any
    height: int
    width: int
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    augment: bool = True

    @classmethod
    def of(cls, folder: Path, side: int | None, augment: bool) -> Images:
        """Read the model's preprocessor, for pictures of `side` pixels or its own size; raises SpecError('/model')."""
        processor = loaded(folder, side)
        try:
            processor = squared(folder, processor)
            height, width = _shape(processor)
            scale, offset = _line(processor)
        except Exception as error:  # of whatever a strange file makes of it
            raise unsupported(read_config(folder), error) from error
        return cls(processor, height, width, scale, offset, augment)

    free: ClassVar[tuple[str, ...]] = ("batch",)

    @property
    def largest(self) -> int:
        return self.side

    @property
    def traced(self) -> tuple[int, int]:
        return 2, self.side

    @property
    def side(self) -> int:
        """Pixels of a picture's longer side."""
        return max(self.height, self.width)

    def encode(self, rows: Sequence[tuple[Any, ...]]) -> tuple[Columns, None]:
        """Of each row the bytes of its pixels, (3, height, width)."""
        return self._encode(rows, 1, ""), None

    def encode_views(self, rows: Sequence[tuple[Any, ...]], views: int, seed: int = 0) -> tuple[Columns, list[int]]:
        """As `encode`, `views` of each row one after the other (the picture itself first), and the row of each.

        They are the same whenever the pictures and the seed are. Without `augment` there is one view of each.
        """
        views = views if self.augment else 1
        return self._encode(rows, views, str(seed)), [row for row in range(len(rows)) for _ in range(views)]

    def views(self, rows: int) -> int:
        """Of few pictures more, where they are to be augmented."""
        return views_of(rows) if self.augment else 1

    def _encode(self, rows: Sequence[tuple[Any, ...]], views: int, seed: str) -> Columns:
        pixels = torch.empty((len(rows) * views, 3, self.height, self.width), dtype=torch.uint8)
        pictures: list[Picture] = [picture for (picture,) in rows]

        def fill(one: tuple[int, bytes]) -> None:
            place, data = one
            picture = rgb(data)
            for number in range(views):
                view = view_of(picture, number, f"{seed} {pictures[place].digest}")
                pixels[place * views + number] = _pixels(self.processor, view)

        with quietly(), ThreadPoolExecutor(min(THREADS, torch.get_num_threads())) as threads:
            for some in _parts(read_bytes(pictures), AT_ONCE):
                list(threads.map(fill, some))
        return {PIXELS: list(pixels)}

    def sizes(self, columns: Columns) -> Tensor:
        """Of each row the same."""
        return torch.full((len(columns[PIXELS]),), self.side)

    def words_read(self, words: Sequence[str]) -> list[int]:
        """Give none: a picture has no words."""
        return []

    def collate(self, columns: Columns, index: Sequence[int]) -> Batch:
        """Stack the rows `index`, and make of bytes what the model reads: (B, 3, height, width) float32."""
        return {PIXELS: self._numbers(torch.stack([columns[PIXELS][i] for i in index]))}

    def join(self, batches: Sequence[Batch]) -> Batch:
        return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}

    def blank(self, names: Sequence[str], rows: int, size: int) -> Batch:
        """Give pictures of noise, of `size` pixels a side; where that is the own one, of the own shape."""
        shape = (self.height, self.width) if size == self.side else (size, size)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randint(256, (rows, 3, *shape), generator=generator, dtype=torch.uint8)
        return {name: self._numbers(noise) for name in names}

    def save(self, folder: Path, model: Any) -> None:
        """Write the preprocessor, with the size that was used: AutoImageProcessor gives the same numbers by it."""
        self.processor.save_pretrained(folder)

    def _numbers(self, pixels: Tensor) -> Tensor:
        scale, offset = (torch.tensor(part, device=pixels.device).view(3, 1, 1) for part in (self.scale, self.offset))
        return pixels.float().mul_(scale).add_(offset)


def _pixels(processor: Any, picture: Any) -> Tensor:
    """What the preprocessor makes of a picture, before its bytes become other numbers."""
    made = _run(processor, picture, NUMBERS)
    if made.dtype != torch.uint8:
        raise ValueError("it makes other numbers of bytes while it scales a picture")
    return made


def _shape(processor: Any) -> tuple[int, int]:
    """Height and width of any picture, once it is made."""
    from PIL import Image

    shapes = {tuple(_pixels(processor, Image.new("RGB", size)).shape) for size in ((64, 40), (40, 64), (90, 90))}
    if len(shapes) > 1:
        raise ValueError("it gives pictures of several sizes: it is to crop them, or to make them square")
    ((colours, height, width),) = shapes
    if colours != 3:
        raise ValueError(f"it gives pictures of {colours} colours")
    return height, width


def _line(processor: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(scale, offset) of each colour: what the preprocessor makes of each byte lies on a line."""
    from PIL import Image

    ramp = Image.frombytes("RGB", (16, 16), bytes(value for value in range(256) for _ in range(3)))
    made = _run(processor, ramp, SHAPES).double().flatten(1)  # (3, 256)
    offset = made[:, 0]
    scale = (made[:, 255] - offset) / 255
    line = offset[:, None] + scale[:, None] * torch.arange(256.0)
    if not (made - line).abs().max() <= EXACT:
        raise ValueError("it changes colours otherwise than by a factor and a shift")
    return tuple(scale.tolist()), tuple(offset.tolist())


def _run(processor: Any, picture: Any, but: dict[str, bool]) -> Tensor:
    options = but | {"input_data_format": "channels_last"}  # else a height of 1 or 3 is taken for the colours
    known = {name: value for name, value in options.items() if name in known_options(processor)}
    (made,) = processor(picture, return_tensors=None, **known)[PIXELS]
    return torch.as_tensor(made.copy())  # of those that turn its colours round, a view


def _parts(found: Iterator[tuple[int, bytes]], size: int) -> Iterator[list[tuple[int, bytes]]]:
    part: list[tuple[int, bytes]] = []
    for one in found:
        part.append(one)
        if len(part) == size:
            yield part
            part = []
    yield part
