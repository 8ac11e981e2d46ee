"""
What is added to a painted image: the strip below it, the letters at its sides, the warning in its corner.

The strip lies below the source's pixels, so none of them is hidden and each keeps its row and column. Images
too narrow for letters are enlarged by a whole number, each pixel to a square, so that no value is made up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.findings import HeatMap
from results.lettering import drawable, label, line_height
from results.paint import Entry, heat_colour, heat_range
from results.sides import Sides

CAPTION = "AI - not verified, not for diagnosis"
CORNER = "AI - not verified"
WARNING, TEXT, BACKGROUND = (255, 196, 64), (235, 235, 235), (16, 18, 22)
#: Narrower pictures cannot hold the warning in letters that can be read.
NARROWEST = 320
#: No more of the legend than this; how many are left out is said.
ENTRIES_MAXIMUM = 24


@dataclass(frozen=True, slots=True)
class Strip:
    """How a picture of `rows` × `columns` of the source and its strip are laid out."""

    rows: int
    columns: int
    entries: int  #: of the longest legend
    map: HeatMap | None = None

    @property
    def factor(self) -> int:
        """How many times the source's pixels are enlarged."""
        return max(1, -(-NARROWEST // self.columns))

    @property
    def width(self) -> int:
        """Columns of the picture."""
        return self.columns * self.factor

    @property
    def letter(self) -> int:
        """Height of letters in pixels."""
        return max(13, round(self.width / 38))

    @property
    def beside(self) -> int:
        """Entries of the legend in one line."""
        return max(1, self.width // (self.letter * 16))

    @property
    def height(self) -> int:
        """Rows of the strip."""
        lines = 2 + (1 if self.map is not None else -(-min(self.entries, ENTRIES_MAXIMUM + 1) // self.beside))
        return lines * line_height(self.letter) + self.letter


def compose(
    picture: NDArray[np.uint8], entries: Sequence[Entry], strip: Strip, sides: Sides, caption: str
) -> NDArray[np.uint8]:
    """The painted `picture` (row, column, 3), enlarged where it must be, with all that is added to it."""
    if strip.factor > 1:
        picture = picture.repeat(strip.factor, axis=0).repeat(strip.factor, axis=1)
    rows = picture.shape[0]
    page = np.empty((rows + strip.height, strip.width, 3), dtype=np.uint8)
    page[:rows], page[rows:] = picture, BACKGROUND
    _letters(page[:rows], strip, sides)
    size, step = strip.letter, line_height(strip.letter)
    margin = size // 2
    y = rows + margin
    _put(page, label(CAPTION, size, WARNING, strip.width - 2 * margin), y, margin)
    if caption:
        _put(page, label(drawable(caption), size, TEXT, strip.width - 2 * margin), y + step, margin)
    y += 2 * step
    if strip.map is not None:
        _scale(page, strip, strip.map, y, margin)
    _legend(page, entries, strip, y, margin)
    return page


def _legend(page: NDArray[np.uint8], entries: Sequence[Entry], strip: Strip, y: int, margin: int) -> None:
    size, step = strip.letter, line_height(strip.letter)
    across = (strip.width - margin) // strip.beside
    listed = list(entries[:ENTRIES_MAXIMUM])
    for k, entry in enumerate(listed):
        top, left = y + k // strip.beside * step, margin + k % strip.beside * across
        page[top + 2 : top + size, left : left + size] = entry.colour
        name = label(drawable(entry.label), size, TEXT, across - 2 * size)
        _put(page, name, top, left + size + size // 2)
    if len(entries) > len(listed):
        k = len(listed)
        more = label(f"and {len(entries) - k} more", size, TEXT, across)
        _put(page, more, y + k // strip.beside * step, margin + k % strip.beside * across)


def _scale(page: NDArray[np.uint8], strip: Strip, one: HeatMap, y: int, margin: int) -> None:
    """From the coldest colour to the hottest, with the values at its ends."""
    size = strip.letter
    low, high = heat_range(one)
    width = strip.width // 4
    ramp = heat_colour(np.linspace(0, 1, width, dtype=np.float32)).astype(np.uint8)
    left = _put(page, label(f"{low:.3g}", size, TEXT, size * 6), y, margin) + size // 2
    page[y + 2 : y + size, left : left + width] = ramp
    left += width + size // 2
    left = _put(page, label(f"{high:.3g}", size, TEXT, size * 6), y, left) + size
    _put(page, label(drawable(one.label), size, TEXT, max(strip.width - left - margin, 1)), y, left)


def _letters(image: NDArray[np.uint8], strip: Strip, sides: Sides) -> None:
    """The sides of the patient in the middle of each edge, and the warning in the upper left corner."""
    rows, columns = image.shape[:2]
    size = strip.letter
    _over(image, label(CORNER, size, WARNING, columns), size // 4, size // 4)
    for text, row, column in (
        (sides.left, 0.5, 0.0),
        (sides.right, 0.5, 1.0),
        (sides.top, 0.0, 0.5),
        (sides.bottom, 1.0, 0.5),
    ):
        if text:
            drawn = label(text, size, TEXT, columns)
            top = round((rows - drawn.shape[0] - size // 2) * row) + size // 4
            left = round((columns - drawn.shape[1] - size // 2) * column) + size // 4
            _over(image, drawn, top, left)


def _put(page: NDArray[np.uint8], drawn: NDArray[np.uint8], y: int, x: int) -> int:
    """Letters on the background; where they end."""
    height = max(min(drawn.shape[0], page.shape[0] - y), 0)
    width = max(min(drawn.shape[1], page.shape[1] - x), 0)
    part = page[y : y + height, x : x + width]
    np.maximum(part, drawn[:height, :width], out=part)
    return int(x + width)


def _over(image: NDArray[np.uint8], drawn: NDArray[np.uint8], y: int, x: int) -> None:
    """Letters on an image, upon a shade that lets them be read on bone and on air."""
    y, x = max(y, 0), max(x, 0)
    part = image[y : y + drawn.shape[0], x : x + drawn.shape[1]]
    letters = drawn[: part.shape[0], : part.shape[1]]
    part //= 3
    np.maximum(part, letters, out=part)
