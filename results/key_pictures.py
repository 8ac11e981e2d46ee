"""The few pictures on a page: one for each of the most important findings, in the patient's proportions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from results.asked import Asked
from results.grid import Grid
from results.lettering import drawable
from results.overlay import shown
from results.page import grid_or_none, key_planes
from results.paint import Painter, heat_range, in_colour, paint_heat
from results.pictures import NoPicture, Pictures
from results.sides import Sides, sides_of
from results.spacing import between_pixels
from results.strip import Strip


@dataclass(frozen=True, slots=True)
class KeyPicture:
    """One painted slice."""

    image: Image.Image
    sides: Sides
    caption: str
    plane: int


def key_pictures(asked: Asked, side: int, side_of_many: int) -> list[KeyPicture] | None:
    """The pictures of a page, each fitting into a square of `side` pixels; of more than two `side_of_many`.

    None where there is something to draw and no picture of it can be made. Raises `NotEncodable` where
    findings do not fit the source.
    """
    grid = grid_or_none(asked)
    if grid is None:
        return []
    if asked.pictures is None:
        return None
    painter = Painter(asked.findings, grid)
    try:
        planes = key_planes(asked, painter)
        side = side if len(planes) <= 2 else side_of_many
        pictures = [_of(asked, painter, grid, plane, side) for plane in planes]
        if not pictures and asked.findings.maps:
            pictures = [_of_map(asked, grid, asked.pictures, side)]
    except NoPicture:
        return None
    return pictures


def _of(asked: Asked, painter: Painter, grid: Grid, plane: int, side: int) -> KeyPicture:
    assert asked.pictures is not None
    picture = in_colour(shown(asked.pictures, plane, Strip(grid.rows, grid.columns, 0)))
    painter.paint(picture, plane)
    names = [entry.label for entry in painter.legend(plane)]
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    caption = f"{number_of(asked, plane)}{'; '.join(drawable(name) for name in names[:2])}{more}"
    return KeyPicture(_fitted(picture, grid, asked, side), sides_of(asked.source, grid), caption, plane)


def _of_map(asked: Asked, grid: Grid, pictures: Pictures, side: int) -> KeyPicture:
    """The hottest plane of the first map."""
    one = asked.findings.maps[0]
    plane = int(one.values.max(axis=(1, 2)).argmax())
    picture = in_colour(shown(pictures, plane, Strip(grid.rows, grid.columns, 0)))
    paint_heat(picture, one.values[plane], heat_range(one))
    caption = f"{number_of(asked, plane)}{drawable(one.label)}"
    return KeyPicture(_fitted(picture, grid, asked, side), sides_of(asked.source, grid), caption, plane)


def number_of(asked: Asked, plane: int) -> str:
    """Which image it is, by the number that viewers show; empty where there is but one."""
    source = asked.source
    if source.frames is not None:
        return f"Frame {source.frames[plane]}: "
    number = source.datasets[plane].get("InstanceNumber")
    return f"Image {number}: " if len(source.datasets) > 1 and number not in (None, "") else ""


def _fitted(picture: NDArray[np.uint8], grid: Grid, asked: Asked, side: int) -> Image.Image:
    between_rows, between_columns = between_pixels(asked.source, grid)
    height, width = grid.rows * between_rows, grid.columns * between_columns
    scale = side / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
