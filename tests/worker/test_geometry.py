"""Which planes make one grid, which do not, and what the sentence says."""

import pickle

import highdicom as hd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.worker.series import AXIAL, CORONAL, SAGITTAL
from worker.defects import Defect, NotAVolume
from worker.geometry import Plane, stack


def planes(
    positions: np.ndarray,
    orientation=AXIAL,
    spacing=(0.8, 0.7),
    size=(6, 7),
    frame_of_reference="2.25.9",
) -> list[Plane]:
    return [
        Plane(
            position=tuple(map(float, position)),
            orientation=tuple(map(float, orientation)),
            pixel_spacing=spacing,
            rows=size[0],
            columns=size[1],
            frame_of_reference=frame_of_reference,
            name=f"image {k}",
        )
        for k, position in enumerate(positions, 1)
    ]


def column(*heights_mm: float) -> np.ndarray:
    """Axial positions straight above each other."""
    return np.array([(-100.0, -90.0, height) for height in heights_mm])


def refusal(*args, **kwargs) -> NotAVolume:
    with pytest.raises(NotAVolume) as caught:
        stack(*args, **kwargs)
    return caught.value


orientations = st.tuples(*[st.floats(-1, 1, allow_nan=False)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)


@given(
    quaternion=orientations,
    first=st.tuples(*[st.floats(-500, 500)] * 3),
    step_mm=st.floats(0.3, 10),
    count=st.integers(3, 12),
    backwards=st.booleans(),
    order=st.randoms(use_true_random=False),
)
def test_any_oblique_stack_in_any_order_has_highdicoms_geometry_and_an_affine_that_can_be_undone(  # noqa: PLR0917
    quaternion, first, step_mm, count, backwards, order
):
    rotation = Rotation.from_quat(quaternion).as_matrix()
    row, col = rotation[:, 0], rotation[:, 1]
    normal = np.cross(row, col) * (-1 if backwards else 1)
    positions = [np.array(first) + k * step_mm * normal for k in range(count)]
    order.shuffle(positions)
    orientation = (*row, *col)

    found = stack(planes(np.array(positions), orientation))

    spacing, places = hd.spatial.get_volume_positions(positions, orientation)
    assert found.spacing_mm == pytest.approx(spacing, rel=1e-9)
    assert [places[k] for k in found.order] == list(range(count))
    geometry = found.geometry
    assert geometry.spatial_shape == (count, 6, 7)
    voxels = np.array([[0, 0, 0], [count - 1, 5, 6], [1, 2, 3]])
    in_mm = geometry.map_indices_to_reference(voxels)
    np.testing.assert_allclose(in_mm[0], positions[found.order[0]], atol=1e-6)
    there_and_back = np.linalg.solve(geometry.affine, np.c_[in_mm, np.ones(3)].T).T[:, :3]
    np.testing.assert_allclose(there_and_back, voxels, atol=1e-6)
    for k, index in enumerate(found.order):
        np.testing.assert_allclose(
            geometry.map_indices_to_reference(np.array([[k, 0, 0]]))[0], positions[index], atol=1e-6
        )


@pytest.mark.parametrize(
    ("orientation", "step", "first_is"),
    [
        (AXIAL, (0, 0, 2.0), -1),  # right-handed slice, row, column: a supine axial CT begins at the head
        ((-1, 0, 0, 0, -1, 0), (0, 0, 2.0), -1),  # prone
        ((-1, 0, 0, 0, 1, 0), (0, 0, 2.0), 0),  # feet first supine
        ((1, 0, 0, 0, -1, 0), (0, 0, 2.0), 0),  # feet first prone
        (SAGITTAL, (2.0, 0, 0), 0),
        (CORONAL, (0, 2.0, 0), -1),
    ],
)
def test_the_axes_slice_row_column_are_right_handed_whichever_way_the_patient_lies(
    orientation, step, first_is
):
    positions = np.array([np.multiply(k, step) for k in range(4)])
    found = stack(planes(positions, orientation))
    assert found.order[0] == range(4)[first_is]
    assert np.linalg.det(found.geometry.affine[:3, :3]) > 0


def test_a_missing_slice_is_named_with_the_gap_and_what_is_usual():
    error = refusal(planes(column(0, 5, 10, 15, 25, 30)))
    assert error.defect is Defect.GAP
    # Counted from the head, where the volume begins: 30, 25, then nothing at 20.
    assert str(error) == "A gap of 10.0 mm after slice 2, others are 5.0 mm: 1 slice missing."


def test_several_gaps_are_counted():
    error = refusal(planes(column(0, 5, 10, 25, 30, 35, 40, 45, 55)))
    assert error.defect is Defect.GAP
    assert "3 slices missing; 2 gaps in all" in str(error)


def test_two_images_at_one_position_are_two_phases_or_kernels():
    error = refusal(planes(column(0, 0, 5, 5, 10, 10)))
    assert error.defect is Defect.DUPLICATE
    assert str(error).startswith(
        "2 images at the same position (-10.0 mm along the stack), and so at 3 of 3 positions"
    )


def test_all_images_at_one_position_are_no_volume():
    assert refusal(planes(column(7, 7, 7, 7))).defect is Defect.DUPLICATE


@pytest.mark.parametrize("degrees", [0.5, 2.0, 12.5, -14.0, 30.0])
def test_a_tilted_gantry_is_refused_with_its_angle(degrees):
    shear = np.tan(np.radians(degrees))
    positions = np.array([(0.0, k * 5.0 * shear, k * 5.0) for k in range(20)])
    error = refusal(planes(positions))
    assert error.defect is Defect.TILT
    assert f"tilted by {abs(degrees):.1f} degrees" in str(error)


def test_a_tilt_too_small_to_move_a_voxel_is_accepted():
    positions = np.array([(0.0, k * 0.005, k * 5.0) for k in range(20)])  # 0.1 mm in the end
    assert stack(planes(positions)).spacing_mm == pytest.approx(5.0)


def test_a_slice_pushed_sideways_is_not_called_a_tilt():
    positions = column(0, 5, 10, 15, 20)
    positions[2, 0] += 4.0
    error = refusal(planes(positions))
    assert error.defect is Defect.SHIFTED
    assert "Slice 3 of 5 lies 4.0 mm beside" in str(error)


@pytest.mark.parametrize(("off_mm", "accepted"), [(0.04, True), (0.06, False)])
def test_spacing_may_vary_by_one_percent(off_mm, accepted):
    heights = column(0, 5, 10, 15 + off_mm, 20, 25)
    if accepted:
        assert stack(planes(heights)).spacing_mm == pytest.approx(5.0)
    else:
        error = refusal(planes(heights))
        assert error.defect is Defect.UNEVEN
        assert "4.940 to 5.060 mm apart" in str(error)


def test_slices_of_two_spacings_are_uneven_and_not_a_gap():
    assert refusal(planes(column(0, 1, 2, 3, 5.5, 8, 10.5))).defect is Defect.UNEVEN


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_slices_have_no_spacing_that_could_be_checked(count):
    error = refusal(planes(column(*range(count))))
    assert error.defect is Defect.TOO_FEW
    assert "at least 3" in str(error)


def test_a_caller_may_ask_for_more_slices_or_for_two():
    assert refusal(planes(column(0, 1, 2)), minimum=4).defect is Defect.TOO_FEW
    assert stack(planes(column(0, 1)), minimum=2).spacing_mm == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("other", "defect", "says"),
    [
        ({"orientation": SAGITTAL}, Defect.MIXED_ORIENTATION, "3 of 6 slices lie one way, 3 are turned"),
        ({"size": (8, 7)}, Defect.MIXED_SIZE, "3 × (6 rows, 7 columns), 3 × (8 rows, 7 columns)"),
        ({"spacing": (0.8, 0.9)}, Defect.MIXED_SPACING, "0.8 × 0.7 mm and 0.8 × 0.9 mm"),
        ({"frame_of_reference": "2.25.10"}, Defect.MIXED_FRAME_OF_REFERENCE, "2 frames of reference"),
    ],
)
def test_what_a_grid_can_have_only_once_must_be_alike(other, defect, says):
    error = refusal(planes(column(0, 5, 10)) + planes(column(15, 20, 25), **other))
    assert error.defect is defect
    assert says in str(error)


def test_rounded_cosines_are_the_same_orientation():
    a = planes(column(0, 5, 10))
    b = planes(column(15, 20), orientation=(1, 0.00001, 0, 0, 1, 0))
    assert len(stack(a + b).order) == 5


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"orientation": (1, 0, 0, 0.5, 0.8, 0)}, "right angle"),
        ({"orientation": (2, 0, 0, 0, 1, 0)}, "right angle"),
        ({"orientation": (0, 0, 0, 0, 0, 0)}, "right angle"),
        ({"orientation": (1, 0, 0, 0, float("nan"), 0)}, "not finite"),
        ({"spacing": (0.0, 1.0)}, "0 × 1 mm"),
        ({"spacing": (1.0, -1.0)}, "1 × -1 mm"),
    ],
)
def test_impossible_numbers_are_refused(changed, says):
    error = refusal(planes(column(0, 5, 10), **changed))
    assert error.defect is Defect.NOT_FINITE
    assert says in str(error)


def test_slices_without_a_frame_of_reference_cannot_carry_a_result():
    assert refusal(planes(column(0, 5, 10), frame_of_reference="")).defect is Defect.NO_UID


def test_a_refusal_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(NotAVolume(Defect.TILT, "tilted")))
    assert (error.defect, str(error)) == (Defect.TILT, "Tilted")
