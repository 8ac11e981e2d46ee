"""Do these planes make one regular grid, and which one? Pure: numbers in, a stack or the reason why not.

Rule 1: slices are ordered by where they are (Image Position along the normal), never by Instance Number or
Slice Location: both are free text to a scanner, and Slice Location runs backwards on some.

Rule 2: a grid is promised only where every slice lies where the grid says. A missing, doubled, tilted or
shifted slice is refused with its numbers, because a segmentation drawn on a wrong grid looks right.

The first slice is the one with the smallest position along d = column cosine × row cosine, which is
highdicom's convention ("DR", right-handed): the axes (slice, row, column) are then right-handed, and a
head-first axial CT runs from the head to the feet.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from worker.defects import Defect, NotAVolume

#: Two slices have a distance that nothing can contradict; three are the fewest whose spacing can be checked.
MINIMUM_SLICES = 3
#: Neighbours may differ from the mean spacing by this part of it. highdicom's default
#: (`highdicom.spatial._DEFAULT_SPACING_RELATIVE_TOLERANCE`): a looser grid could not be read back from our
#: own SEG.
SPACING_TOLERANCE = 0.01
#: Direction cosines of slices of one stack differ by rounding only; 1e-4 is 0.006°, 0.03 mm at 300 mm.
COSINE_TOLERANCE = 1e-4
#: A slice may lie this part of a pixel beside the line through the first one; from half a pixel on, voxels
#: would be drawn on the wrong neighbour. Much stricter than highdicom, whose 1e-3 of a cosine lets 2.5° of
#: tilt pass.
SIDEWAYS_TOLERANCE = 0.5
#: Closer than this is the same position: positions are written with three decimals or more.
SAME_POSITION_MM = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """One slice as its header describes it: lengths in mm, directions in LPS (PS3.3 §C.7.6.2.1.1)."""

    position: tuple[float, float, float]  #: Image Position (Patient): centre of the first pixel
    orientation: tuple[float, float, float, float, float, float]  #: row cosine, column cosine
    pixel_spacing: tuple[float, float]  #: between rows, between columns
    rows: int
    columns: int
    frame_of_reference: str
    name: str  #: how a sentence calls this slice: "image 12", "frame 3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A regular grid: slice k is `planes[order[k]]`."""

    order: tuple[int, ...]
    spacing_mm: float
    geometry: hd.VolumeGeometry


def stack(planes: Sequence[Plane], *, minimum: int = MINIMUM_SLICES) -> Stack:
    """The one grid of these planes, whatever order they come in. Raises `NotAVolume`."""
    if len(planes) < max(minimum, 2):
        raise NotAVolume(
            Defect.TOO_FEW,
            f"The series has {_count(len(planes), 'slice')}; a volume needs at least {max(minimum, 2)}.",
        )
    for plane in planes:
        _check_numbers(plane)
    _check_alike(planes)

    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    row_cosine, column_cosine = np.array(planes[0].orientation).reshape(2, 3)
    normal = np.cross(column_cosine, row_cosine)
    # Not normalised, as in highdicom: the geometry is then its own to the last bit.
    along = positions @ normal
    # Equal positions are an error below; the second key only makes its message independent of arrival order.
    order = sorted(range(len(planes)), key=lambda k: (along[k], planes[k].name))
    positions, along = positions[order], along[order]

    _check_duplicates(along)
    _check_sideways(positions, along, normal, pixel_mm=min(planes[0].pixel_spacing))
    _check_spacing(along)
    # Last, because it says nothing about where the slices are; but no result could be laid over them.
    nowhere = sum(not plane.frame_of_reference for plane in planes)
    if nowhere:
        raise NotAVolume(Defect.NO_UID, f"{nowhere} of {len(planes)} slices have no Frame of Reference UID.")

    first = planes[order[0]]
    spacing_mm = float((along[-1] - along[0]) / (len(along) - 1))
    try:
        geometry = hd.VolumeGeometry.from_attributes(
            image_position=first.position,
            image_orientation=first.orientation,
            rows=first.rows,
            columns=first.columns,
            pixel_spacing=first.pixel_spacing,
            spacing_between_slices=spacing_mm,
            number_of_frames=len(planes),
            coordinate_system=hd.CoordinateSystemNames.PATIENT,
            frame_of_reference_uid=first.frame_of_reference,
        )
    except ValueError as error:
        raise NotAVolume(
            Defect.NOT_FINITE, f"The geometry of {first.name} cannot be used: {error}"
        ) from error
    return Stack(order=tuple(order), spacing_mm=spacing_mm, geometry=geometry)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _check_numbers(plane: Plane) -> None:
    numbers = (*plane.position, *plane.orientation, *plane.pixel_spacing)
    if not np.isfinite(numbers).all():
        raise NotAVolume(
            Defect.NOT_FINITE, f"The geometry of {plane.name} holds a number that is not finite."
        )
    if min(plane.pixel_spacing) <= 0:
        down, across = plane.pixel_spacing
        raise NotAVolume(Defect.NOT_FINITE, f"The pixel spacing of {plane.name} is {down:g} × {across:g} mm.")
    row_cosine, column_cosine = np.array(plane.orientation).reshape(2, 3)
    lengths = np.linalg.norm(row_cosine), np.linalg.norm(column_cosine)
    # highdicom's own tolerance of a right angle. Cosines with four decimals pass; worse ones would move the
    # last of 300 mm of slices by more than 0.06 mm.
    if max(abs(length - 1) for length in lengths) > 1e-4 or abs(row_cosine @ column_cosine) > 1e-4:
        raise NotAVolume(
            Defect.NOT_FINITE,
            f"The row and column directions of {plane.name} are not two unit vectors at a right angle: "
            f"{', '.join(f'{cosine:g}' for cosine in plane.orientation)}.",
        )


def _check_alike(planes: Sequence[Plane]) -> None:
    """All slices share what a grid can have only once."""
    orientations = np.array([plane.orientation for plane in planes])
    other = np.abs(orientations - orientations[0]).max(axis=1) > COSINE_TOLERANCE
    if other.any():
        turned = _angle(orientations[0], orientations[other][0])
        raise NotAVolume(
            Defect.MIXED_ORIENTATION,
            f"The series mixes orientations: {int((~other).sum())} of {len(planes)} slices lie one way, "
            f"{int(other.sum())} are turned, the first of them by {turned:.1f} degrees.",
        )
    frames_of_reference = Counter(plane.frame_of_reference for plane in planes)
    if len(frames_of_reference) > 1:
        raise NotAVolume(
            Defect.MIXED_FRAME_OF_REFERENCE,
            f"The series holds {len(frames_of_reference)} frames of reference; positions cannot be compared.",
        )
    sizes = Counter((plane.rows, plane.columns) for plane in planes)
    if len(sizes) > 1:
        raise NotAVolume(
            Defect.MIXED_SIZE,
            "The series mixes image sizes: "
            + ", ".join(
                f"{n} × ({rows} rows, {columns} columns)" for (rows, columns), n in sizes.most_common(4)
            )
            + ".",
        )
    spacings = np.array([plane.pixel_spacing for plane in planes])
    # 1e-4 of a pixel's size is 0.05 pixels across 512 of them: rounding of the text, no other matrix.
    other = (np.abs(spacings - spacings[0]) > 1e-4 * spacings[0]).any(axis=1)
    if other.any():
        a, b = spacings[0], spacings[other][0]
        raise NotAVolume(
            Defect.MIXED_SPACING,
            f"The series mixes pixel spacings: {a[0]:g} × {a[1]:g} mm and {b[0]:g} × {b[1]:g} mm.",
        )


def _angle(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The angle in degrees by which the planes of two orientations are turned against each other."""
    rotation = _frame(one).T @ _frame(other)
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))


def _frame(orientation: NDArray[np.float64]) -> NDArray[np.float64]:
    row_cosine, column_cosine = orientation.reshape(2, 3)
    return np.stack([row_cosine, column_cosine, np.cross(row_cosine, column_cosine)], axis=1)


def _check_duplicates(along: NDArray[np.float64]) -> None:
    places = np.split(along, np.flatnonzero(np.diff(along) > SAME_POSITION_MM) + 1)
    doubled = [place for place in places if len(place) > 1]
    if doubled:
        raise NotAVolume(
            Defect.DUPLICATE,
            f"{len(doubled[0])} images at the same position ({doubled[0][0]:.1f} mm along the stack), and so "
            f"at {len(doubled)} of {_count(len(places), 'position')}: two phases or kernels in one series?",
        )


def _check_sideways(
    positions: NDArray[np.float64],
    along: NDArray[np.float64],
    normal: NDArray[np.float64],
    *,
    pixel_mm: float,
) -> None:
    """Every slice stands straight above the first one."""
    depth = along - along[0]
    unit = normal / np.linalg.norm(normal)
    sideways = positions - positions[0] - depth[:, None] * unit  # (slice, LPS) in mm, within the plane
    distance = np.linalg.norm(sideways, axis=1)
    # The second bound is highdicom's own, so that what is accepted here is a volume there.
    leaning = 1 - depth[1:] / np.hypot(depth[1:], distance[1:])
    if distance.max() <= SIDEWAYS_TOLERANCE * pixel_mm and leaning.max() < 1e-3:
        return
    slope = (depth @ sideways) / (depth @ depth)  # mm sideways per mm along the normal
    rest = np.linalg.norm(sideways - depth[:, None] * slope, axis=1)
    if rest.max() <= SIDEWAYS_TOLERANCE * pixel_mm:
        angle = float(np.degrees(np.arctan(np.linalg.norm(slope))))
        raise NotAVolume(
            Defect.TILT,
            f"The gantry is tilted by {angle:.1f} degrees: the last slice lies {distance[-1]:.1f} mm aside.",
        )
    worst = int(distance.argmax())
    raise NotAVolume(
        Defect.SHIFTED,
        f"Slice {worst + 1} of {len(along)} lies {distance[worst]:.1f} mm beside the first one: "
        "the slices do not stand straight above each other.",
    )


def _check_spacing(along: NDArray[np.float64]) -> None:
    steps = np.diff(along)
    mean, usual = float(steps.mean()), float(np.median(steps))
    if np.abs(steps - mean).max() <= SPACING_TOLERANCE * mean:
        return
    gaps = np.flatnonzero(steps > 1.5 * usual)
    regular = np.delete(steps, gaps)
    # One value for the rest, and multiples of it for the gaps: slices are missing. Anything else is uneven.
    whole = np.abs(steps[gaps] / usual - np.round(steps[gaps] / usual)) <= 0.1
    if len(gaps) and whole.all() and np.abs(regular - usual).max() <= SPACING_TOLERANCE * usual:
        missing = int((np.round(steps[gaps] / usual) - 1).sum())
        more = f"; {len(gaps)} gaps in all" if len(gaps) > 1 else ""
        raise NotAVolume(
            Defect.GAP,
            f"A gap of {steps[gaps[0]]:.1f} mm after slice {gaps[0] + 1}, others are {usual:.1f} mm: "
            f"{_count(missing, 'slice')} missing{more}.",
        )
    raise NotAVolume(
        Defect.UNEVEN,
        f"The slices are unevenly spaced: {steps.min():.3f} to {steps.max():.3f} mm apart, widest after "
        f"slice {int(steps.argmax()) + 1} of {len(along)}; {SPACING_TOLERANCE:.0%} is accepted.",
    )
