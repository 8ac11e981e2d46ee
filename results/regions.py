"""
Where a box or a landmark is, as graphics on the images themselves (SCOORD, PS3.3 §C.18.6).

On the images, and not in the patient's coordinates (SCOORD3D): of what viewers were tried, none draws those,
and the older forms of a report have no words for them. So a box is a rectangle on every slice whose centre it
holds, and a landmark a point on the slice next to it; what that leaves out is beside it as a number.

Graphics count from the corner of the first pixel, whose centre is (0.5, 0.5); voxels count from its centre.
"""

from collections.abc import Iterator

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from results import codes
from results.findings import Box, Measurement, Point
from results.grid import Grid, NotEncodable, Plane

#: Of a slice: what is nearer to its centre lies on it.
ON_THE_SLICE = 1e-3


def slices_of(box: Box, grid: Grid) -> range:
    """The slices whose centres the box holds; where it lies between two, the one next to its middle.

    Raises `NotEncodable` where no part of it is on an image.
    """
    first, last = int(np.ceil(box.low[0])), int(np.floor(box.high[0]))
    if first > last:
        first = last = int(np.floor((box.low[0] + box.high[0]) / 2 + 0.5))
    inside = range(max(first, 0), min(last + 1, grid.shape[0]))
    if not inside:
        raise NotEncodable(f"the box of {box.label!r} lies beside the images")
    return inside


def rectangles(box: Box, grid: Grid) -> list[hd.sr.ImageRegion]:
    """The box on each of its slices, as a closed polyline of five points. Raises `NotEncodable`."""
    top, left = (max(low + 0.5, 0.0) for low in box.low[1:])
    bottom = min(box.high[1] + 0.5, float(grid.rows))
    right = min(box.high[2] + 0.5, float(grid.columns))
    if top >= bottom or left >= right:
        raise NotEncodable(f"the box of {box.label!r} lies beside the images")
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)])
    return [region("POLYLINE", corners, grid.planes[k]) for k in slices_of(box, grid)]


def size_of(box: Box, grid: Grid) -> Iterator[Measurement]:
    """Width, height and depth in millimetres; nothing on an image without a place.

    What the model itself says of the size comes instead.
    """
    said = {measurement.name for measurement in box.measurements}
    if grid.step_mm is None:
        return
    for axis, name in ((2, codes.WIDTH), (1, codes.HEIGHT), (0, codes.DEPTH)):
        if name not in said:
            length = (box.high[axis] - box.low[axis]) * grid.step_mm[axis]
            yield Measurement(name=name, value=length, unit=codes.MILLIMETRE)


def slice_next_to(point: Point, grid: Grid) -> int:
    """The slice whose centre is next to the landmark. Raises `NotEncodable` where it is on no image."""
    nearest = int(np.floor(point.at[0] + 0.5))
    inside = 0 <= nearest < grid.shape[0]
    for axis in (1, 2):
        inside = inside and -0.5 <= point.at[axis] <= grid.shape[axis] - 0.5
    if not inside:
        raise NotEncodable(f"{point.label!r} lies beside the images")
    return nearest


def spot(point: Point, grid: Grid) -> hd.sr.ImageRegion:
    """The landmark on the image next to it. Raises `NotEncodable`."""
    plane = grid.planes[slice_next_to(point, grid)]
    return region("POINT", np.array([(point.at[2] + 0.5, point.at[1] + 0.5)]), plane)


def off_plane(point: Point, grid: Grid) -> Iterator[Measurement]:
    """How far the landmark is from that image, where it lies between two."""
    apart = point.at[0] - slice_next_to(point, grid)
    if grid.step_mm is not None and abs(apart) > ON_THE_SLICE:
        yield Measurement(name=codes.OFF_PLANE, value=apart * grid.step_mm[0], unit=codes.MILLIMETRE)


def region(kind: str, points: NDArray[np.float64], plane: Plane) -> hd.sr.ImageRegion:
    """Graphics of `kind` on an image; `points` are (column, row)."""
    return hd.sr.ImageRegion(graphic_type=kind, graphic_data=points, source_image=source_image(plane))


def source_image(plane: Plane) -> hd.sr.SourceImageForRegion:
    """The image, or the frame of it, that graphics are on."""
    frames = None if plane.frame is None else [plane.frame]
    return hd.sr.SourceImageForRegion(plane.sop_class, plane.sop_instance, frames)
