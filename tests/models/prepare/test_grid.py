import itertools

import highdicom as hd
import nibabel
import numpy as np
import pytest
from hypothesis import assume, given

from models.contract import Image
from models.prepare.grid import Grid, NoSuchOrientation
from models.training.phantoms import grid as phantom_grid
from tests.models.prepare.grids import CODES, TO_RAS, grids


@given(grid=grids(), codes=CODES)
def test_turning_moves_no_voxel_of_the_patient(grid: Grid, codes: str) -> None:
    turned = grid.oriented(codes)
    every = np.argwhere(np.ones(grid.shape))

    places = {tuple(np.round(point, 4)) for point in grid.points_at(every)}
    there = {tuple(np.round(point, 4)) for point in turned.points_at(np.argwhere(np.ones(turned.shape)))}

    assert len(places ^ there) <= 0.1 * len(places)  # rounding at the fourth digit
    assert np.sort(turned.points_at(np.argwhere(np.ones(turned.shape))), 0) == pytest.approx(
        np.sort(grid.points_at(every), 0), abs=1e-6
    )


@given(grid=grids(max_tilt_deg=30), codes=CODES)
def test_axes_run_where_nibabel_says(grid: Grid, codes: str) -> None:
    assert grid.codes == "".join(nibabel.aff2axcodes(TO_RAS @ grid.affine))
    assert "".join(nibabel.aff2axcodes(TO_RAS @ grid.oriented(codes).affine)) == codes


@given(grid=grids(), codes=CODES)
def test_left_stays_left(grid: Grid, codes: str) -> None:
    turned = grid.oriented(codes)
    axis = next(n for n, letter in enumerate(codes) if letter in "LR")
    assume(turned.shape[axis] > 1)
    first, last = np.zeros(3), np.zeros(3)
    last[axis] = turned.shape[axis] - 1

    towards_left = (turned.points_at([last]) - turned.points_at([first]))[0, 0]

    assert (towards_left > 0) == ("L" in codes)


@given(grid=grids())
def test_a_point_comes_back_to_where_it_was(grid: Grid) -> None:
    indices = np.random.default_rng(0).uniform(-5, 50, (20, 3))

    assert grid.indices_at(grid.points_at(indices)) == pytest.approx(indices, abs=1e-6)


def test_head_first_and_feet_first_are_told_apart_by_the_affine() -> None:
    head_first = Grid((2, 3, 4), np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]]))
    feet_first = Grid((2, 3, 4), np.array([[0, 0, -1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1.0]]))

    assert (head_first.codes, feet_first.codes) == ("SPL", "IPR")


@pytest.mark.parametrize(("edges", "shape", "first_mm"), [(False, (6, 5, 9), 0.0), (True, (7, 5, 10), 0.5)])
def test_a_spacing_keeps_the_first_centre_or_the_faces(edges: bool, shape, first_mm: float) -> None:
    grid = Grid((14, 5, 20), np.diag([1.0, 3.0, 1.0, 1.0]))

    coarse = grid.spaced((2.0, None, 2.0), edges=edges)

    assert coarse.shape == (shape if edges else (8, 5, 10))
    assert coarse.spacing_mm == (2.0, 3.0, 2.0)
    assert coarse.affine[:3, 3] == pytest.approx([first_mm, 0, first_mm])


def test_a_resized_grid_covers_the_same_millimetres() -> None:
    grid = Grid((10, 20, 30), np.diag([2.0, 1.0, 0.5, 1.0]))

    resized = grid.with_shape((7, 11, 60))

    faces = [grid.points_at([[-0.5] * 3, [n - 0.5 for n in grid.shape]])]
    faces += [resized.points_at([[-0.5] * 3, [n - 0.5 for n in resized.shape]])]
    assert faces[0] == pytest.approx(faces[1])


def test_a_box_is_held_by_its_box_on_another_grid() -> None:
    grid, tilted = Grid.of(phantom_grid((20, 30, 40))), Grid.of(phantom_grid((20, 30, 40), tilt_deg=25))

    low, high = grid.box_into(tilted, (2, 3, 4), (8, 9, 12))

    inside = np.array(list(itertools.product((2, 5, 8), (3, 6, 9), (4, 8, 12))))
    there = tilted.indices_at(grid.points_at(inside))
    assert (there >= low - 1e-9).all()
    assert (there <= high + 1e-9).all()


@pytest.mark.parametrize("codes", ["RAX", "RLS", "RA", "RASL"])
def test_axes_that_no_patient_has_are_refused(codes: str) -> None:
    with pytest.raises(NoSuchOrientation):
        Grid((2, 2, 2), np.eye(4)).oriented(codes)


def test_nothing_can_be_cropped_to_nothing() -> None:
    with pytest.raises(ValueError, match="nothing lies"):
        Grid((4, 4, 4), np.eye(4)).cropped((2, 2, 2), (2, 4, 4))


def test_a_volume_and_an_image_have_a_grid() -> None:
    geometry = phantom_grid((3, 4, 5), tilt_deg=10)
    volume = hd.Volume.from_attributes(
        array=np.zeros((3, 4, 5)),
        image_position=(1, 2, 3),
        image_orientation=(1, 0, 0, 0, 1, 0),
        pixel_spacing=(0.5, 0.6),
        spacing_between_slices=2.0,
        coordinate_system="PATIENT",
    )

    assert Grid.of(geometry).spacing_mm == pytest.approx(geometry.spacing)
    assert Grid.of(volume).spacing_mm == pytest.approx((2.0, 0.5, 0.6))
    image = Grid.of(Image(array=np.zeros((7, 9), np.float32), spacing_mm=(0.2, 0.3)))
    assert (image.shape, image.spacing_mm[1:]) == ((1, 7, 9), pytest.approx((0.2, 0.3)))


def test_grids_are_equal_where_their_voxels_are() -> None:
    grid = Grid((10, 10, 10), np.eye(4))
    nudged = grid.affine.copy()
    nudged[0, 3] += 1e-4
    moved = grid.affine.copy()
    moved[0, 3] += 0.5

    assert grid == Grid(grid.shape, nudged)
    assert grid != Grid(grid.shape, moved)
    assert grid != Grid((10, 10, 11), grid.affine)
