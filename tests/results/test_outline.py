"""The outline of a lesion holds its pixels and no others, and its axes are those a caliper would find."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from results.check_lesions import fill, largest_part
from results.grid import Grid, Plane, grid_of
from results.occupied import drawn_segments
from results.outline import POINTS_MAX, Outline, lesions, outline_of
from tests.results.images import image_findings, image_source
from tests.results.lesions import lesions as lesion_findings
from tests.results.series import KINDS, SPACING, source

ROW_MM, COLUMN_MM = SPACING[1:]


def grid(rows: int, columns: int) -> Grid:
    """Planes of that size with the spacing of the test series: pixels are higher than wide."""
    place = grid_of(source(KINDS["axial CT"])).place
    return Grid(rows=rows, columns=columns, planes=(Plane("1.2", "1.3", None),), place=place)


def outline(mask: NDArray[np.bool_]) -> Outline:
    slab = mask if mask.ndim == 3 else mask[np.newaxis]
    box = (slice(0, len(slab)), slice(0, slab.shape[1]), slice(0, slab.shape[2]))
    return outline_of(slab, box, grid(*slab.shape[1:]))


def picture(text: str) -> NDArray[np.bool_]:
    return np.array([[one == "#" for one in line.strip()] for line in text.strip().splitlines()])


@settings(max_examples=80, deadline=None)
@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_39_whatever_its_shape_the_outline_filled_is_the_largest_part_with_its_holes(
    mask: NDArray[np.bool_],
) -> None:
    if not mask.any():
        mask[0, 0] = True
    found = outline(mask)
    assert (fill(found.points, mask.shape) == largest_part(mask)).all()
    assert (found.points[0] == found.points[-1]).all()
    assert found.points.min() >= 0
    assert (found.points <= mask.shape[::-1]).all()
    assert found.short is not None
    assert found.long is not None
    assert found.short.length_mm <= found.long.length_mm + 1e-9
    along, across = (
        np.diff(axis.ends, axis=0)[0] * (COLUMN_MM, ROW_MM) for axis in (found.long, found.short)
    )
    assert along @ across == pytest.approx(0, abs=1e-6)


def test_the_short_axis_of_a_large_ragged_lesion_is_its_widest_place() -> None:
    rows, columns = np.indices((600, 600)) - 300.0
    angle, chance = np.arctan2(rows, columns), np.random.default_rng(19)
    radius = 220 * (1 + 0.15 * np.cos(2 * angle))
    for waves in range(3, 60):
        height, turn = chance.normal() * 12 / np.sqrt(waves), chance.uniform(0, 6.3)
        radius = radius + height * np.cos(waves * angle + turn)
    found = outline(np.hypot(rows, columns) < radius)
    assert found.long is not None
    assert found.short is not None
    points = found.points * (COLUMN_MM, ROW_MM)
    along = np.diff(found.long.ends, axis=0)[0] * (COLUMN_MM, ROW_MM) / found.long.length_mm
    u, v = points @ along, points @ np.array([-along[1], along[0]])
    for at in np.linspace(u.min(), u.max(), 2001)[1:-1]:
        crossed = (u[:-1] < at) != (u[1:] < at)
        share = (at - u[:-1][crossed]) / np.diff(u)[crossed]
        across = np.ptp(v[:-1][crossed] + share * np.diff(v)[crossed])
        assert across <= found.short.length_mm + 1e-6


def test_a_single_pixel_is_as_long_as_its_longer_side() -> None:
    found = outline(np.ones((1, 1), np.bool_))
    assert found.long is not None
    assert found.short is not None
    assert (found.long.length_mm, found.short.length_mm) == (ROW_MM, COLUMN_MM)


def test_pixels_that_are_higher_than_wide_turn_the_long_axis() -> None:
    # A cross of as many rows as columns is higher than wide in millimetres.
    cross = np.zeros((9, 9), np.bool_)
    cross[4] = cross[:, 4] = True
    found = outline(cross)
    assert found.long is not None
    assert found.short is not None
    assert found.long.length_mm == pytest.approx(9 * ROW_MM)
    assert found.short.length_mm == pytest.approx(9 * COLUMN_MM)
    assert found.long.ends.tolist() == [[4.5, 0.0], [4.5, 9.0]]


def test_the_axes_of_an_ellipse_are_its_own() -> None:
    rows, columns = np.indices((120, 160))
    x, y = (columns - 80) * COLUMN_MM, (rows - 60) * ROW_MM
    turned = np.deg2rad(30)
    u, v = x * np.cos(turned) + y * np.sin(turned), y * np.cos(turned) - x * np.sin(turned)
    found = outline((u / 30) ** 2 + (v / 12) ** 2 < 1)
    assert found.long is not None
    assert found.short is not None
    assert found.long.length_mm == pytest.approx(60, abs=0.8)
    assert found.short.length_mm == pytest.approx(24, abs=0.8)
    dx, dy = np.diff(found.long.ends, axis=0)[0] * (COLUMN_MM, ROW_MM)
    assert np.rad2deg(np.arctan2(dy, dx)) % 180 == pytest.approx(30, abs=2)


def test_parts_that_touch_at_a_corner_are_two_and_the_larger_is_drawn() -> None:
    mask = picture("""
        ##..
        ##..
        ..##
        ...#
    """)
    found = outline(mask)
    assert found.parts == 2
    assert fill(found.points, mask.shape).sum() == 4


def test_a_hole_that_is_open_at_a_corner_is_outside_and_a_closed_one_is_filled() -> None:
    closed = picture("""
        ####
        #.##
        ####
    """)
    open_ = picture("""
        .###
        #.##
        ####
    """)
    assert fill(outline(closed).points, (3, 4)).all()
    assert (fill(outline(open_).points, (3, 4)) == open_).all()


def test_the_slice_is_the_one_with_most_pixels_and_the_first_of_several() -> None:
    slab = np.zeros((4, 3, 3), np.bool_)
    slab[1, 0, :2] = slab[2, 1, :2] = slab[3, 0, 0] = True
    assert outline(slab).plane == 1


def test_an_outline_too_long_for_graphic_data_becomes_its_hull() -> None:
    comb = np.zeros((3000, 5), np.bool_)
    comb[:, 0] = comb[::2] = True
    found = outline(comb)
    assert len(found.points) < 50
    assert fill(found.points, comb.shape)[comb].all()
    short = outline(comb[:100])
    assert POINTS_MAX > len(short.points) > 100


def test_an_image_without_a_place_has_an_outline_and_no_millimetres() -> None:
    said = image_findings()
    found = [*lesions(said, drawn_segments(said), grid_of(image_source("CR")))]
    assert [(one.outline.long, one.outline.short) for one in found] == [(None, None)] * 2


def test_organs_have_none() -> None:
    said = lesion_findings()
    found = [*lesions(said, drawn_segments(said), grid_of(source()))]
    assert [one.drawn.segment.label for one in found] == ["Nodule 1", "Nodule 2"]
    assert [(one.outline.plane, one.outline.parts) for one in found] == [(4, 1), (1, 2)]
