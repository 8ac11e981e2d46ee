"""Two results of the same images are compared as a reader would: by what lies where, and by what is said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from results.difference import difference
from tests.results.made import Made, make
from tests.results.series import KINDS, a_run, findings, source


def altered(folder: Path, made: Made, label_map: np.ndarray) -> Made:
    return make(folder, said=replace(made.findings, label_map=label_map), of=made.source, run=made.run)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_result_is_no_different_from_itself(tmp_path: Path, kind: str) -> None:
    made = make(tmp_path, kind)
    found = difference(made.files, made.files)
    assert found.none
    assert [one.dice for one in found.segments] == [1.0] * len(found.segments)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 30))
def test_dice_and_volumes_are_those_of_the_masks(tmp_path: Path, seed: int) -> None:
    made = make(tmp_path / "first")
    said = made.findings.label_map
    random = np.random.default_rng(seed)
    other = np.where(random.random(said.shape) < 0.3, random.integers(0, 3, said.shape), said).astype(
        np.uint8
    )
    changed = altered(tmp_path / f"second{seed}", made, other)

    for one, segment in zip(
        difference(made.files, changed.files).segments, made.findings.segments, strict=True
    ):
        first, second = said == segment.number, other == segment.number
        assert one.voxels == (first.sum(), second.sum())
        assert one.dice == pytest.approx(2 * (first & second).sum() / (first.sum() + second.sum()))


def test_a_segment_that_only_one_of_them_drew_is_there_with_nothing_in_common(tmp_path: Path) -> None:
    made = make(tmp_path / "first")
    only_right = np.where(made.findings.label_map == 1, 1, 0).astype(np.uint8)
    segments = [replace(one, measurements=()) for one in made.findings.segments]
    other = make(
        tmp_path / "second",
        said=replace(made.findings, label_map=only_right, segments=tuple(segments)),
        of=made.source,
        run=made.run,
    )
    right, left = difference(made.files, other.files).segments
    assert right.dice == 1.0
    assert (left.dice, left.voxels[1]) == (0.0, 0)


def test_a_value_that_is_said_differently_is_named_with_both(tmp_path: Path) -> None:
    made = make(tmp_path / "first")
    first, *others = made.findings.segments
    volume, *rest = first.measurements
    changed = replace(first, measurements=(replace(volume, value=volume.value + 1), *rest))
    said = replace(made.findings, segments=(changed, *others))
    (value,) = difference(
        made.files, make(tmp_path / "second", said=said, of=made.source, run=made.run).files
    ).values
    assert first.label in value.about
    assert value.name.startswith(volume.name.meaning)
    assert value.first != value.second


def test_another_version_is_no_difference_by_itself(tmp_path: Path) -> None:
    kind = KINDS["axial CT"]
    of = source(kind)
    run = a_run(of)
    newer = replace(run, provenance=replace(run.provenance, version="9.9"))
    made = [
        make(tmp_path / str(n), of=of, run=one, said=findings(kind)) for n, one in enumerate((run, newer))
    ]
    assert difference(made[0].files, made[1].files).none


def test_who_vouches_for_a_model_stands_in_its_results_and_in_their_uids(tmp_path: Path) -> None:
    kind = KINDS["axial CT"]
    of = source(kind)
    run = a_run(of)
    signed = replace(run, provenance=replace(run.provenance, trust="signed by hospital"))
    plain, vouched = (make(tmp_path / str(n), of=of, run=one) for n, one in enumerate((run, signed)))
    for dataset in (vouched.seg, vouched.sr):
        assert "trust signed by hospital" in dataset.ContributingEquipmentSequence[-1].ContributionDescription
    assert "trust" not in plain.sr.ContributingEquipmentSequence[-1].ContributionDescription
    assert plain.seg.SOPInstanceUID != vouched.seg.SOPInstanceUID
    assert plain.sr.SOPInstanceUID != vouched.sr.SOPInstanceUID
    vouched.check()
