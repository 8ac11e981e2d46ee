import highdicom as hd
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    Orientation,
    ScaleIntensityRange,
    Spacing,
    SpatialPad,
)
from monai.transforms import (
    CropForeground as MonaiCropForeground,
)

from models.contract import BrokenModel
from models.prepare.grid import Grid
from models.prepare.reducers import labels
from models.prepare.transform import Chain, Prepared, Voxels, stacked
from tests.models.prepare.grids import CODES, TO_RAS, grids
from tests.models.prepare.networks import smooth

USUAL = [
    {"step": "orient", "codes": "RAS"},
    {"step": "space", "spacing_mm": (1.5, 1.5, 2.0)},
    {"step": "window", "low": -1.0, "high": 2.0},
    {"step": "crop_foreground", "above": 0.5, "margin": 1},
    {"step": "pad", "to": (24, 16, 16), "multiple": 8},
]


def prepared(steps, grid: Grid, values: torch.Tensor) -> Prepared:
    return Chain.of(steps).apply(Voxels(values, grid))


def a_grid(tilt: float = 0.1) -> Grid:
    affine = np.diag([-0.9, -0.9, 2.5, 1.0])
    affine[:3, :3] = np.array([[1, -tilt, 0], [tilt, 1, 0], [0, 0, 1]]) @ affine[:3, :3]
    affine[:3, 3] = 100, 150, -400
    return Grid((30, 28, 18), affine)


def test_the_usual_preparation_is_monais() -> None:
    grid = a_grid(tilt=0.0)
    values = smooth(1, *grid.shape)
    theirs = Compose(
        [
            Orientation("RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacing((1.5, 1.5, 2.0), mode="bilinear"),
            ScaleIntensityRange(-1.0, 2.0, 0.0, 1.0, clip=True),
            MonaiCropForeground(select_fn=lambda x: x > 0.5, margin=1, allow_smaller=True),
            SpatialPad((24, 16, 16)),
        ]
    )(MetaTensor(values, affine=TO_RAS @ grid.affine))

    ours = prepared([*USUAL[:4], {"step": "pad", "to": (24, 16, 16)}], grid, values)

    assert ours.voxels.values.shape == theirs.shape
    assert torch.allclose(ours.voxels.values, theirs.as_tensor(), atol=2e-4)
    assert TO_RAS @ ours.voxels.grid.affine == pytest.approx(np.asarray(theirs.affine), abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(grid=grids(most=12), codes=CODES, spacing=st.floats(0.8, 4), multiple=st.sampled_from([1, 4]))
def test_labels_come_back_to_the_side_that_they_were_drawn_on(grid, codes, spacing, multiple) -> None:
    every = np.argwhere(np.ones(grid.shape))
    x = torch.from_numpy(grid.points_at(every)[:, 0].reshape(grid.shape).astype(np.float32))
    chain = [
        {"step": "orient", "codes": codes},
        {"step": "space", "spacing_mm": (spacing, spacing, None)},
        {"step": "pad", "multiple": multiple},
    ]
    ready = prepared(chain, grid, x[None])
    here = ready.voxels.grid
    there = here.points_at(np.argwhere(np.ones(here.shape)))[:, 0].reshape(here.shape)
    # The network draws 1 on the patient's right of x = c and 2 on the left.
    middle = float(x.mean())
    drawn = torch.from_numpy(np.where(there < middle, 1, 2).astype(np.uint8))

    back = ready.labels_back(drawn)

    reach = float(np.abs(here.affine[0, :3]).sum()) / 2 + 0.01
    assert back.shape == grid.shape
    assert (back[(x < middle - reach)] != 2).all()
    assert (back[(x > middle + reach)] != 1).all()


def test_what_was_not_resampled_comes_back_voxel_for_voxel() -> None:
    grid = a_grid()
    names = (torch.arange(30 * 28 * 18) % 251).to(torch.uint8).reshape(grid.shape)

    ready = prepared(
        [{"step": "orient", "codes": "PSL"}, {"step": "pad", "multiple": 16}], grid, names[None].float()
    )

    assert ready.voxels.values.shape == (1, 32, 32, 32)
    assert torch.equal(ready.labels_back(ready.voxels.values[0].to(torch.uint8)), names)


def test_what_a_crop_left_out_comes_back_as_background() -> None:
    grid = a_grid()
    values = torch.zeros(1, *grid.shape)
    values[0, 5:20, 4:21, 3:15] = 1
    ready = prepared(USUAL[:4], grid, values)
    here = ready.voxels.grid

    back = ready.labels_back(torch.ones(here.shape, dtype=torch.uint8))
    scores = torch.stack([torch.zeros(here.shape), torch.ones(here.shape)])
    smooth_back = ready.scores_back(scores, labels)
    numbers = ready.values_back(torch.ones(here.shape))

    assert 0.2 < back.float().mean() < 0.9
    assert back[5:20, 4:21, 3:15].all()
    assert torch.equal(back, smooth_back)
    assert torch.equal(back.float(), numbers)


def test_scores_come_back_smoother_than_labels() -> None:
    grid = Grid((40, 40, 40), np.eye(4))
    z, y, x = np.indices(grid.shape)
    ball = torch.from_numpy(
        (14.2 - np.sqrt((z - 19.5) ** 2 + (y - 19.5) ** 2 + (x - 19.5) ** 2)).astype("f4")
    )
    ready = prepared([{"step": "space", "spacing_mm": (4.0, 4.0, 4.0), "edges": True}], grid, ball[None])
    field = ready.voxels.values[0]

    smooth_back = ready.scores_back(torch.stack([-field, field]), labels)
    blocky = ready.labels_back((field > 0).to(torch.uint8))

    truth = (ball > 0).to(torch.uint8)
    assert (smooth_back != truth).float().mean() < 0.4 * (blocky != truth).float().mean()


def test_300_labels_come_back_in_16_bits() -> None:
    grid = Grid((4, 4, 4), np.eye(4))
    ready = prepared([{"step": "orient", "codes": "RAS"}], grid, torch.zeros(1, 4, 4, 4))
    scores = torch.zeros(300, 4, 4, 4)
    scores[299] = 1

    assert ready.scores_back(scores, labels).to(torch.int32).unique().tolist() == [299]


@settings(max_examples=40, deadline=None)
@given(grid=grids(most=20), codes=CODES)
def test_points_and_boxes_come_back_to_where_they_are_in_the_patient(grid: Grid, codes: str) -> None:
    chain = [
        {"step": "orient", "codes": codes},
        {"step": "space", "spacing_mm": (2.0, None, 1.0)},
        {"step": "pad", "to": (9, 9, 9)},
    ]
    ready = prepared(chain, grid, torch.zeros(1, *grid.shape))
    found = np.array([[1.0, 2.0, 3.5], [4.25, 0.0, -0.5]])

    back = ready.points_back(found)
    boxes = ready.boxes_back([[1, 2, 3, 4, 5, 6.5]])

    assert grid.points_at(back) == pytest.approx(ready.voxels.grid.points_at(found), abs=1e-6)
    corner = ready.points_back([[1, 2, 3], [4, 5, 6.5], [1, 5, 3]])
    assert (boxes[0, :3] <= corner + 1e-9).all()
    assert (boxes[0, 3:] >= corner - 1e-9).all()


def test_a_model_without_boxes_gets_none_back() -> None:
    ready = prepared(USUAL, a_grid(), smooth(1, 30, 28, 18))

    assert ready.boxes_back([]).shape == (0, 6)


def test_phases_are_laid_onto_the_first_ones_grid() -> None:
    first, other = a_grid(), a_grid(tilt=0.0).cropped((4, 4, 2), (40, 30, 16)).spaced((2.0, 2.0, 3.0))

    def field(grid: Grid) -> torch.Tensor:
        at = grid.points_at(np.argwhere(np.ones(grid.shape)))
        return torch.from_numpy((at @ [1.0, 2.0, -1.0]).reshape(1, *grid.shape).astype(np.float32))

    both = stacked([Voxels(field(first), first), Voxels(field(other), other)], outside=-9999.0)

    assert both.grid is first
    seen = both.values[1] != -9999
    assert 0.2 < seen.float().mean() < 1
    inner = seen & torch.from_numpy(
        (
            (other.indices_at(first.points_at(np.argwhere(np.ones(first.shape)))) > 0)
            & (
                other.indices_at(first.points_at(np.argwhere(np.ones(first.shape))))
                < np.array(other.shape) - 1
            )
        )
        .all(1)
        .reshape(first.shape)
    )
    assert torch.allclose(both.values[0][inner], both.values[1][inner], atol=0.05)


def test_a_volume_becomes_one_channel_of_floats() -> None:
    volume = hd.Volume(np.full((3, 4, 5), -1000, np.int16), np.diag([1.0, 2, 3, 1]), "PATIENT")

    voxels = Voxels.of(volume)

    assert (voxels.values.dtype, tuple(voxels.values.shape)) == (torch.float32, (1, 3, 4, 5))
    assert voxels.grid.spacing_mm == pytest.approx((1, 2, 3))


def test_an_empty_foreground_crops_nothing() -> None:
    ready = prepared([{"step": "crop_foreground"}], a_grid(), torch.zeros(1, 30, 28, 18))

    assert ready.voxels.grid == a_grid()


def test_the_middle_of_an_axis_is_kept() -> None:
    values = torch.arange(10.0).reshape(1, 10, 1, 1).expand(1, 10, 3, 3)

    ready = prepared([{"step": "crop_centre", "to": (4, 8, 1)}], Grid((10, 3, 3), np.eye(4)), values)

    assert ready.voxels.values[0, :, 0, 0].tolist() == [3, 4, 5, 6]
    assert ready.voxels.values.shape == (1, 4, 3, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": "orient", "codes": "RAL"},
        {"step": "orient", "codes": "XYZ"},
        {"step": "space", "spacing_mm": (0.0, 1.0, 1.0)},
        {"step": "flip"},
        {"step": "pad", "colour": 3},
        {"step": "z_score", "deviation": 0},
        {},
    ],
    ids=str,
)
def test_a_step_that_nobody_knows_is_a_broken_model(wrong) -> None:
    with pytest.raises(BrokenModel, match="preparation"):
        Chain.of([wrong])
