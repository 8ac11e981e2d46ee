import highdicom as hd
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.prepare.morphology import box_of, close, components, dilate, fill_cavities
from models.prepare.orientation import Canonical
from models.prepare.resample import enlarge, means, reduce_volume, working_shape
from models.training.phantoms import grid

CPU = torch.device("cpu")


@given(
    axes=st.permutations([0, 1, 2]),
    signs=st.tuples(*[st.sampled_from([1, -1])] * 3),
    spacing=st.tuples(*[st.floats(0.5, 5.0)] * 3),
)
def test_a_canonical_view_runs_towards_head_back_and_left(axes, signs, spacing) -> None:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for source, (lps, sign, step) in enumerate(zip(axes, signs, spacing, strict=True)):
        affine[lps, source] = sign * step
    shape = (4, 5, 6)
    geometry = hd.VolumeGeometry(affine, shape, "PATIENT")
    where = geometry.map_indices_to_reference(np.argwhere(np.ones(shape)))  # (n, LPS)

    canonical = Canonical.of(geometry)

    for lps, axis in ((2, 0), (1, 1), (0, 2)):
        position = canonical.view(where[:, lps].reshape(shape))
        assert (np.diff(position, axis=axis) > 0).all()
        assert np.diff(position, axis=axis).ravel() == pytest.approx(canonical.spacing_mm[axis])


def test_what_is_written_into_a_canonical_view_is_in_the_source() -> None:
    canonical = Canonical.of(grid((6, 7, 8), plane="coronal", tilt_deg=20))
    source = np.zeros((6, 7, 8), np.uint8)

    canonical.view(source)[-1] = 1  # the plane nearest to the head

    assert source[:, 0, :].all()  # is the first row of a coronal image
    assert source.sum() == 6 * 8


@given(many=st.integers(1, 60), share=st.floats(0.05, 1.0))
def test_means_take_every_voxel_once(many: int, share: float) -> None:
    few = max(1, round(many * share))

    weights = means(many, few)

    assert weights.sum(1) == pytest.approx(1, abs=1e-5)
    assert weights.sum(0) == pytest.approx(few / many, abs=1e-5)


def test_a_ramp_stays_where_it_is_on_the_way_down_and_up() -> None:
    z, y, x = np.mgrid[:40, :50, :60].astype(np.float32)
    ramp = 3 * z + 2 * y - x

    reduced = reduce_volume(ramp, (13, 21, 30), CPU)
    back = np.concatenate(
        [planes.numpy()[:, 0] for _, planes in enlarge(reduced[None], ramp.shape, slice(0, 40), CPU)]
    )

    inner = (slice(3, -3),) * 3  # at the faces there is nothing to interpolate towards
    assert abs(back - ramp)[inner].max() < 0.15  # a twentieth of the step from voxel to voxel


def test_a_grid_that_is_coarse_already_is_left_alone() -> None:
    assert working_shape((30, 512, 512), (8.0, 0.65, 0.65), 2.0) == (30, 166, 166)
    assert working_shape((79, 64, 64), (3.99, 4.17, 4.17), 2.0) == (79, 64, 64)


def test_closing_fills_what_the_ball_cannot_enter_and_nothing_else() -> None:
    block = np.zeros((30, 30, 30), bool)
    block[5:25, 5:25, 5:25] = True
    notched = block.copy()
    notched[5:12, 14:16, 14:16] = False  # two voxels wide
    cut = block.copy()
    cut[5:25, 10:20, 12:25] = False  # ten wide

    closed = close(notched, 3.0, (1.0, 1.0, 1.0))
    assert closed[6:].tolist() == block[6:].tolist()  # but for the rim of the notch
    assert not (closed & ~block).any()
    assert close(cut, 3.0, (1.0, 1.0, 1.0))[15, 15, 20] == np.False_


def test_closing_keeps_a_mask_that_runs_out_of_the_array() -> None:
    mask = np.zeros((10, 20, 20), bool)
    mask[:, 5:15, 5:15] = True

    assert (close(mask, 4.0, (1.0, 1.0, 1.0)) == mask).all()


def test_dilation_counts_millimetres_not_voxels() -> None:
    mask = np.zeros((11, 11, 11), bool)
    mask[5, 5, 5] = True

    grown = dilate(mask, 2.0, (2.0, 1.0, 0.5))

    assert [np.ptp(np.argwhere(grown)[:, axis]) for axis in range(3)] == [2, 4, 8]


def test_a_cavity_is_filled_and_a_ring_in_one_plane_is_not() -> None:
    shell = np.ones((9, 9, 9), bool)
    shell[3:6, 3:6, 3:6] = False
    tube = np.ones((9, 9, 9), bool)
    tube[:, 3:6, 3:6] = False

    assert fill_cavities(shell).all()
    assert (fill_cavities(tube) == tube).all()


def test_nothing_stays_nothing() -> None:
    nothing = np.zeros((4, 5, 6), bool)

    assert not dilate(nothing, 3, (1, 1, 1)).any()
    assert not close(nothing, 3, (1, 1, 1)).any()
    assert not fill_cavities(nothing).any()
    assert components(nothing)[1].tolist() == [0]


def test_a_box_holds_the_mask_and_its_margin_within_the_array() -> None:
    mask = np.zeros((10, 10, 10), bool)
    mask[1:3, 4, 8] = True

    assert box_of(mask) == (slice(1, 3), slice(4, 5), slice(8, 9))
    assert box_of(mask, 2.0, (1, 1, 1)) == (slice(0, 6), slice(1, 8), slice(5, 10))
