import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Spacing
from scipy import ndimage
from skimage.transform import resize

from models.prepare.grid import Grid
from models.prepare.reducers import above, labels
from models.prepare.sample import labels_onto, reduced_onto, resample
from tests.models.prepare.grids import CODES, TO_RAS, grids
from tests.models.prepare.networks import smooth


def positions(grid: Grid) -> torch.Tensor:
    """(3, …): where every voxel of `grid` is, LPS mm."""
    every = np.argwhere(np.ones(grid.shape))
    return torch.from_numpy(grid.points_at(every).T.reshape(3, *grid.shape).astype(np.float32))


@given(grid=grids(), codes=CODES)
def test_turning_there_and_back_is_exact_and_moves_nothing_in_the_patient(grid: Grid, codes: str) -> None:
    turned = grid.oriented(codes)

    there = resample(positions(grid), grid, turned, "nearest")
    back = resample(there, turned, grid, "nearest")

    assert torch.allclose(there, positions(turned), atol=1e-3)
    assert torch.equal(back, positions(grid))


@settings(max_examples=60, deadline=None)
@given(source=grids(most=9), target=grids(most=9))
def test_what_is_looked_up_is_what_is_there(source: Grid, target: Grid) -> None:
    # A field that is linear in the patient has one right answer anywhere within the source.
    target = Grid(target.shape, target.affine.copy())
    middle = source.points_at([[(n - 1) / 2 for n in source.shape]])[0]
    target.affine[:3, 3] += middle - target.points_at([[(n - 1) / 2 for n in target.shape]])[0]
    at = source.indices_at(positions(target).reshape(3, -1).T.numpy())
    within = torch.from_numpy(((at >= 0) & (at <= np.array(source.shape) - 1)).all(1)).reshape(target.shape)

    linear = resample(positions(source), source, target, "linear")
    nearest = resample(positions(source), source, target, "nearest")

    assert torch.allclose(linear[:, within], positions(target)[:, within], atol=0.02)
    off = (nearest - positions(target))[:, within].numpy()
    in_voxels = np.linalg.solve(source.affine[:3, :3], off) if off.size else off
    assert (np.abs(in_voxels) <= 0.51).all()


@given(grid=grids(), target=grids())
def test_labels_never_change_sides(grid: Grid, target: Grid) -> None:
    # 1 to the patient's right of the middle, 2 to the left of it.
    x = positions(grid)[0]
    sides = torch.where(x < x.mean(), 1, 2).to(torch.uint8)
    moved = labels_onto(sides, grid, target)

    there = positions(target)[0]
    reach = float(np.abs(grid.affine[0, :3]).sum()) / 2 + 0.01  # half a voxel, however it lies
    assert (there[moved == 1] <= float(x.mean()) + reach).all()
    assert (there[moved == 2] >= float(x.mean()) - reach).all()


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (0.7, 2.0, 3.1)])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "ILA"])
def test_linear_is_monais_spacing(spacing, codes: str) -> None:
    start = Grid((20, 24, 17), np.diag([-1.0, -1.1, 2.0, 1.0])).oriented(codes)
    values = smooth(2, *start.shape)
    theirs = Spacing(spacing, mode="bilinear")(MetaTensor(values, affine=TO_RAS @ start.affine))

    target = start.spaced(spacing)
    ours = resample(values, start, target)

    assert ours.shape == theirs.shape
    assert TO_RAS @ target.affine == pytest.approx(np.asarray(theirs.affine), abs=1e-5)
    assert torch.allclose(ours, theirs.as_tensor(), atol=2e-4)


def test_an_oblique_lookup_is_scipys() -> None:
    source, target = Grid((15, 16, 17), np.eye(4)), Grid((14, 13, 12), np.eye(4))
    angle = np.deg2rad(30)
    target.affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    target.affine[0, 3] = 4.0
    values = smooth(1, *source.shape)
    at = source.indices_at(positions(target).reshape(3, -1).T.numpy()).T

    theirs = ndimage.map_coordinates(values[0].numpy(), at, order=1, mode="nearest").reshape(target.shape)
    ours = resample(values, source, target)[0].numpy()
    empty = resample(values, source, target, outside=-99.0)[0].numpy()

    assert ours == pytest.approx(theirs, abs=1e-4)
    outside = ((at < -0.5) | (at > np.array([[14.5], [15.5], [16.5]]))).any(0).reshape(target.shape)
    assert 0.05 < outside.mean() < 0.9
    assert (empty[outside] == -99).all()
    assert empty[~outside] == pytest.approx(theirs[~outside], abs=1e-4)


@pytest.mark.parametrize("shape", [(9, 30, 31), (30, 12, 40), (1, 20, 20)])
def test_cubic_is_scikit_images_and_so_nnunets(shape) -> None:
    values = smooth(1, 15, 24, 19)
    grid = Grid((15, 24, 19), np.eye(4))

    ours = resample(values, grid, grid.with_shape(shape), "cubic")[0].numpy()

    theirs = resize(values[0].numpy(), shape, order=3, mode="edge", anti_aliasing=False, clip=False)
    assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("how", ["linear", "cubic"])
def test_antialiasing_is_scikit_images(how) -> None:
    values = torch.randn(1, 30, 28, 26)
    grid = Grid((30, 28, 26), np.eye(4))

    ours = resample(values, grid, grid.with_shape((10, 14, 26)), how, antialias=True)[0].numpy()

    order = {"linear": 1, "cubic": 3}[how]
    theirs = resize(values[0].numpy(), (10, 14, 26), order=order, mode="edge", anti_aliasing=True, clip=False)
    assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int64, torch.bool])
def test_labels_of_every_type_come_back_as_they_went(dtype: torch.dtype) -> None:
    grid = Grid((12, 10, 14), np.diag([1.0, 1.0, 1.0, 1.0]))
    names = torch.arange(12 * 10 * 14).reshape(12, 10, 14) % 60_000
    source = (names % 2 == 0) if dtype == torch.bool else names.to(dtype)

    there = labels_onto(source, grid, grid.oriented("SLP").cropped((-3, 0, 0), (20, 9, 11)))
    back = labels_onto(there, grid.oriented("SLP").cropped((-3, 0, 0), (20, 9, 11)), grid)

    assert back.dtype == dtype
    kept = labels_onto(labels_onto(torch.ones(grid.shape, dtype=torch.uint8), grid, grid), grid, grid)
    assert kept.all()
    same = back.to(torch.int64) == source.to(torch.int64)
    assert same.float().mean() > 0.6
    assert (back.to(torch.int64)[~same] == 0).all()  # cropped away


@pytest.mark.parametrize("slab_bytes", [1, 60_000, 1 << 30])
def test_labels_of_looked_up_scores_do_not_depend_on_the_slab(slab_bytes: int) -> None:
    grid = Grid((10, 12, 14), np.diag([2.0, 1.5, 1.5, 1.0]))
    target = grid.spaced((0.9, 0.9, 0.9)).oriented("IAR")
    scores = smooth(4, *grid.shape)

    drawn = reduced_onto(scores, grid, target, labels, at_most_bytes=slab_bytes)
    masks = reduced_onto(scores, grid, target, above, at_most_bytes=slab_bytes)

    whole = resample(scores, grid, target)
    assert torch.equal(drawn.long(), whole.argmax(0))
    assert torch.equal(masks, whole.sigmoid() >= 0.5)


def test_values_of_another_shape_are_refused() -> None:
    grid = Grid((4, 4, 4), np.eye(4))
    with pytest.raises(ValueError, match="do not lie on a grid"):
        resample(torch.zeros(1, 4, 4, 5), grid, grid)


def test_cubic_lookup_of_oblique_grids_is_refused() -> None:
    grid = Grid((4, 4, 4), np.eye(4))
    oblique = np.eye(4)
    oblique[0, 1] = 0.3
    with pytest.raises(ValueError, match="parallel"):
        resample(torch.zeros(1, 4, 4, 4), grid, Grid((4, 4, 4), oblique), "cubic")


@settings(max_examples=30, deadline=None)
@given(low=st.tuples(*[st.integers(-4, 4)] * 3), more=st.tuples(*[st.integers(1, 9)] * 3))
def test_a_crop_takes_voxels_and_pads_where_there_are_none(low, more) -> None:
    grid = Grid((6, 7, 8), np.diag([1.0, 2.0, 3.0, 1.0]))
    values = smooth(1, 6, 7, 8)
    padded = torch.nn.functional.pad(values, (20, 20) * 3, value=-5.0)
    high = tuple(a + b for a, b in zip(low, more, strict=True))

    cropped = resample(values, grid, grid.cropped(low, high), "nearest", outside=-5.0)

    assert torch.equal(cropped, padded[:, *(slice(20 + a, 20 + b) for a, b in zip(low, high, strict=True))])
