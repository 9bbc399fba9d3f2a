"""Views of a picture to train on: as it is, mirrored, and parts of it; fixed, so that each keeps its own answers."""

from __future__ import annotations

import random
from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

LEAST_AREA = 0.6  # of a picture, that a view shows
MOST_STRETCH = 1.15  # of one side against the other
MOST_VIEWS, MOST_ROWS = 8, 4000  # of a picture, and of all that are trained on


def views_of(pictures: int) -> int:
    """How many views each of so many pictures is seen in: of few pictures more."""
    return max(1, min(MOST_VIEWS, MOST_ROWS // max(1, pictures)))


def view_of(picture: Image.Image, number: int, key: str) -> Image.Image:
    """The view of that number: 0 the picture, 1 mirrored, then parts at random, by `key` and number alone."""
    from PIL import Image

    if number == 0:
        return picture
    drawn = random.Random(f"{key} {number}")
    if number > 1:
        picture = picture.crop(_part(*picture.size, drawn))
    mirrored = number == 1 or drawn.random() < 0.5
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else picture


def _part(width: int, height: int, drawn: random.Random) -> tuple[int, int, int, int]:
    """Left, upper, right and lower edge."""
    side, stretch = sqrt(drawn.uniform(LEAST_AREA, 1)), sqrt(MOST_STRETCH ** drawn.uniform(-1, 1))
    wide = max(1, min(width, round(width * side * stretch)))
    high = max(1, min(height, round(height * side / stretch)))
    left, upper = drawn.randint(0, width - wide), drawn.randint(0, height - high)
    return left, upper, left + wide, upper + high
