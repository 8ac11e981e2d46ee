import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers.utils import _get_scan_interval
from torch.nn import functional

from models.prepare.tiling import Padding, Tiling, gaussian, monai_starts, nnunet_starts

SHAPES = st.tuples(*[st.integers(1, 40)] * 3)
WINDOWS = st.tuples(*[st.integers(1, 32)] * 3)
OVERLAPS = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.625, 0.75])


@given(size=st.integers(1, 300), window=st.integers(1, 160), overlap=OVERLAPS)
def test_windows_lie_where_monai_puts_them(size: int, window: int, overlap: float) -> None:
    size = max(size, window)
    interval = _get_scan_interval((size,), (window,), 1, (overlap,))
    theirs = tuple(where[0].start for where in dense_patch_slices((size,), (window,), interval))

    assert monai_starts(size, window, overlap) == theirs


@given(size=st.integers(1, 300), window=st.integers(1, 160), overlap=OVERLAPS)
def test_windows_of_nnunet_are_evenly_spread_from_the_first_voxel_to_the_last(size, window, overlap) -> None:
    size = max(size, window)

    starts = nnunet_starts(size, window, overlap)

    steps = np.diff(starts)
    assert (starts[0], starts[-1]) == (0, size - window)
    assert all(0 < step <= max(1, np.ceil(window * (1 - overlap))) for step in steps)
    assert not len(steps) or np.ptp(steps) <= 1


@pytest.mark.parametrize(
    ("size", "window", "overlap", "expected"),
    [
        # Worked out by nnunetv2 2.8.1, compute_steps_for_sliding_window.
        (110, 64, 0.5, (0, 23, 46)),
        (128, 128, 0.5, (0,)),
        (200, 128, 0.5, (0, 36, 72)),
        (96, 64, 0.5, (0, 32)),
    ],
)
def test_windows_lie_where_nnunet_puts_them(size, window, overlap, expected) -> None:
    assert nnunet_starts(size, window, overlap) == expected


@given(window=WINDOWS, sigma=st.sampled_from([0.05, 0.125, 0.5]))
def test_a_voxel_counts_as_much_as_in_monai(window: tuple[int, ...], sigma: float) -> None:
    theirs = compute_importance_map(window, mode="gaussian", sigma_scale=sigma)

    assert torch.allclose(gaussian(window, sigma), theirs, rtol=1e-6, atol=0)


@given(
    shape=SHAPES,
    window=st.tuples(*[st.integers(6, 20)] * 3),
    overlap=OVERLAPS,
    starts=st.sampled_from([monai_starts, nnunet_starts]),
)
def test_every_voxel_is_owned_by_one_window_that_covers_it(shape, window, overlap, starts) -> None:
    tiling = Tiling.of(shape, window, max(overlap, 0.25), starts)
    owners = np.zeros(tiling.size, int)

    for place in tiling.places():
        owned = tiling.owned(place)
        assert all(
            first <= part.start and part.stop <= first + side
            for first, part, side in zip(place, owned, tiling.window, strict=True)
        )
        owners[owned] += 1

    assert (owners == 1).all()


@given(shape=SHAPES, window=WINDOWS)
def test_a_small_volume_is_padded_as_monai_does(shape, window) -> None:
    tiling = Tiling.of(shape, window, 0.5, monai_starts)
    volume = torch.arange(float(np.prod(shape))).reshape(1, *shape)
    # As in sliding_window_inference.
    edges: list[int] = []
    for axis in (2, 1, 0):
        lacking = max(window[axis] - shape[axis], 0)
        edges += [lacking // 2, lacking - lacking // 2]

    padded = tiling.pad(volume, Padding(value=-1000.0))

    assert torch.equal(padded, functional.pad(volume, edges, value=-1000.0))
    assert torch.equal(padded[(0, *tiling.unpadded(shape))], volume[0])


def test_windows_never_go_back_along_the_axis_that_is_streamed() -> None:
    tiling = Tiling.of((20, 30, 90), (16, 16, 16), 0.5, monai_starts)

    assert tiling.long_axis == 2
    assert [place[2] for place in tiling.places(2)] == sorted(place[2] for place in tiling.places(2))
    assert set(tiling.places(2)) == set(tiling.places(0))
    assert len(tiling.places()) == tiling.count


def test_a_side_that_is_not_given_takes_the_whole_axis() -> None:
    assert Tiling.of((20, 30, 90), (-1, 16, 0), 0.5, monai_starts).window == (20, 16, 90)


@pytest.mark.parametrize("overlap", [1.0, -0.1])
def test_an_overlap_that_no_run_can_have_is_refused(overlap: float) -> None:
    with pytest.raises(ValueError, match="overlap"):
        Tiling.of((20, 20, 20), (8, 8, 8), overlap, monai_starts)


def test_a_window_of_two_sides_does_not_fit_a_volume() -> None:
    with pytest.raises(ValueError, match="3 axes"):
        Tiling.of((20, 20, 20), (8, 8), 0.5, monai_starts)
