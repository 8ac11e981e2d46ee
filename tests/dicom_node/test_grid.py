"""The geometry of a series says whether anything is missing in its middle."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.grid import grid_of
from dicom_node.series_facts import SeriesFacts, facts_of
from ledger.identifiers import AETitle, Digest, InstanceId, SeriesId, StudyId, Uid
from ledger.study import InstanceRecord, SeriesRecord

CT = Uid("1.2.840.10008.5.1.4.1.1.2")
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def instance(
    number: int, z: float, *, named: int | None, orientation: tuple[float, ...] | None = AXIAL
) -> InstanceRecord:
    return InstanceRecord(
        id=InstanceId(number), sop_instance=Uid(f"1.2.{number + 1}"), sop_class=CT,
        transfer_syntax=Uid("1.2.840.10008.1.2.1"), digest=Digest("a" * 64), size=1, path="x",
        calling=AETitle("CT"), received_at=0.0, instance_number=named, position=(0.0, 0.0, z),
        orientation=orientation,
    )  # fmt: skip


def series(instances: list[InstanceRecord], **headers: str) -> SeriesFacts:
    record = SeriesRecord(
        id=SeriesId(1), study_id=StudyId(1), series=Uid("1.2"), modality="CT", headers=headers,
        instances=tuple(instances),
    )  # fmt: skip
    return facts_of(record)


def stack(count: int = 20, *, spacing: float = 1.25, without: tuple[int, ...] = (), numbers: bool = True):
    return [
        instance(n, -300.0 + n * spacing, named=n if numbers else None)
        for n in range(1, count + 1)
        if n not in without
    ]


def test_an_even_stack_is_regular() -> None:
    grid = grid_of(series(stack()))

    assert grid.regular
    assert grid.because == "20 slices stand evenly, 1.25 mm apart, numbered 1 to 20 without a gap"


def test_a_slice_that_is_missing_in_the_middle_is_a_gap() -> None:
    grid = grid_of(series(stack(without=(9, 10))))

    assert (grid.regular, grid.gap) == (False, True)
    assert grid.because == "there is a gap of 3.75 mm between slices 1.25 mm apart"


def test_what_is_missing_at_the_head_shows_in_the_numbers() -> None:
    grid = grid_of(series(stack(without=(1, 2))))

    assert not grid.regular
    assert grid.because.endswith("but of the instance numbers 1 to 20 only 18 are here")


def test_without_instance_numbers_the_positions_have_to_do() -> None:
    assert grid_of(series(stack(numbers=False))).because.endswith("and have no instance numbers")
    assert grid_of(series(stack(numbers=False))).regular


def test_two_phases_of_one_place_are_not_one_stack() -> None:
    twice = [
        *stack(),
        *(replace(one, id=InstanceId(one.id + 100), sop_instance=Uid(f"1.3.{one.id}")) for one in stack()),
    ]
    grid = grid_of(series(twice))

    assert (grid.regular, grid.because) == (False, "several slices stand at one place, or nearly")


def test_numbers_that_occur_twice_contradict() -> None:
    odd = [replace(one, instance_number=7) if one.instance_number == 8 else one for one in stack()]

    assert grid_of(series(odd)).because.endswith("but instance numbers occur twice or are left out")


SCOUT = instance(0, 0.0, named=0, orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
SILENT = {
    "fewer than 10 images: their geometry says nothing": series(stack(3)),
    "a localizer: its geometry says nothing": series(stack(), ImageType="ORIGINAL\\PRIMARY\\LOCALIZER"),
    "multi-frame: its slices came all at once": series([replace(one, frames=30) for one in stack()]),
    "20 of 20 images stand outside of one stack": series([replace(one, position=None) for one in stack()]),
    "1 of 21 images stand outside of one stack": series([*stack(), SCOUT]),
}


@pytest.mark.parametrize("because", SILENT)
def test_geometry_is_silent_where_it_cannot_know(because: str) -> None:
    grid = grid_of(SILENT[because])

    assert (grid.regular, grid.gap, grid.because) == (False, False, because)


def test_one_image_is_never_complete_by_geometry() -> None:
    assert not grid_of(series(stack(1))).regular


@given(
    count=st.integers(10, 60), spacing=st.floats(0.3, 10), data=st.data(), numbers=st.booleans()
)  # fmt: skip
def test_whatever_is_missing_between_first_and_last_is_found(
    count: int, spacing: float, data: st.DataObject, numbers: bool
) -> None:
    whole = stack(count + 2, spacing=spacing, numbers=numbers)
    assert grid_of(series(whole)).regular
    missing = data.draw(st.sets(st.integers(2, count + 1), min_size=1, max_size=2))
    left = series([one for one in whole if one.id not in missing])

    assert not grid_of(left).regular


@given(order=st.permutations(stack(12)))
def test_the_order_of_arrival_does_not_matter(order: list[InstanceRecord]) -> None:
    assert grid_of(series(order)) == grid_of(series(stack(12)))
