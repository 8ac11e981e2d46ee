"""Outlines separate the centres inside from those outside, however the polygons are filled."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from results.contours import Ring, outlines
from results.keyholes import polygons

masks = hnp.arrays(
    np.bool_, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)), elements=st.booleans()
)


def _winding(ring: Ring, shape: tuple[int, int]) -> np.ndarray:
    """How often `ring` goes around the centre of each pixel, (row, column): by the angle that it turns, and
    so by another way than either encoder or check.
    """
    rows, columns = np.indices(shape)
    points = np.stack([columns, rows], axis=-1)[..., np.newaxis, :]
    to = np.concatenate([ring, ring[:1]]) - points  # (row, column, vertex, 2)
    angle = np.unwrap(np.arctan2(to[..., 1], to[..., 0]), axis=-1)
    return np.round((angle[..., -1] - angle[..., 0]) / (2 * np.pi)).astype(int)


@given(masks)
@settings(deadline=None)
def test_outlines_go_once_around_every_pixel_of_the_mask_and_around_no_other(mask) -> None:
    found = {one.plane: one for one in outlines(mask)}
    assert found.keys() == set(np.flatnonzero(mask.any(axis=(1, 2))).tolist())
    for k, outline in found.items():
        around = sum(_winding(ring, mask.shape[1:]) for ring in (*outline.around, *outline.holes))
        assert np.array_equal(around, mask[k].astype(int))  # holes run the other way


@given(masks)
@settings(deadline=None)
def test_a_polygon_with_keyholes_holds_the_same_pixels_alone(mask) -> None:
    for outline in outlines(mask):
        rings = polygons(outline)
        assert len(rings) == len(outline.around)
        around = np.array([_winding(ring, mask.shape[1:]) for ring in rings])
        # By the winding number and by odd and even crossings alike; no pixel belongs to two.
        assert set(np.unique(around).tolist()) <= {0, 1}
        assert np.array_equal(around.sum(axis=0), mask[outline.plane].astype(int))


@given(masks)
@settings(deadline=None)
def test_every_vertex_lies_half_way_between_a_pixel_inside_and_one_outside(mask) -> None:
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    for outline in outlines(mask):
        for x, y in np.concatenate([*outline.around, *outline.holes]):
            assert (x % 1, y % 1) in {(0.5, 0.0), (0.0, 0.5)}
            low = int(np.floor(y)) + 1, int(np.floor(x)) + 1
            high = int(np.ceil(y)) + 1, int(np.ceil(x)) + 1
            assert padded[outline.plane][low] != padded[outline.plane][high]


def test_what_runs_straight_is_one_edge() -> None:
    (outline,) = outlines(np.ones((1, 40, 30), np.bool_))
    (ring,) = outline.around
    assert len(ring) == 8  # four sides and four corners
    assert ring.min() == -0.5
    assert ring.max(axis=0).tolist() == [29.5, 39.5]


def test_pixels_that_touch_at_a_corner_have_an_outline_each() -> None:
    (outline,) = outlines(np.eye(3, dtype=np.bool_)[np.newaxis])
    assert len(outline.around) == 3
    assert not outline.holes


def test_a_large_mask_is_gone_through_in_parts_and_none_is_lost() -> None:
    mask = np.zeros((40, 500, 600), np.bool_)
    mask[::3, 100:400, 50:550] = True
    found = list(outlines(mask))
    assert [one.plane for one in found] == list(range(0, 40, 3))
    assert all(len(one.around) == 1 for one in found)


def test_nothing_has_no_outline() -> None:
    assert list(outlines(np.zeros((3, 4, 5), np.bool_))) == []


@pytest.mark.parametrize("spots", [1, 400])
def test_a_channel_leads_to_each_hole_and_back(spots: int) -> None:
    mask = np.ones((1, 60, 60), np.bool_)
    rows, columns = np.divmod(np.arange(spots), 20)
    mask[0, 1 + 2 * rows, 1 + 2 * columns] = False
    (outline,) = outlines(mask)
    (ring,) = polygons(outline)
    assert len(outline.holes) == spots
    corners = sum(len(one) for one in (*outline.around, *outline.holes))
    assert corners + spots < len(ring) <= corners + 3 * spots  # at each hole: there, and back
