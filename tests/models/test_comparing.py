"""Then and now: only what the model says, of the images that it was given."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from ledger.identifiers import Uid
from ledger.job import Outcome
from models.comparing import compared, same_as
from models.contract import BrokenModel, Earlier, Timeline
from results import codes
from results.findings import Comparison, Findings, Measurement, Segment
from results.uids import segment_tracking_uid, tracking_uid
from tests.models.making import volume_of
from tests.models.manifests import manifest
from tests.results.series import NODULE, a_run, source

CT = Uid("1.2.840.10008.5.1.4.1.1.2")
THEN = Earlier(
    acquired=date(2025, 6, 1),
    study=Uid("1.2.3"),
    series=Uid("1.2.4"),
    images=tuple((CT, Uid(f"1.2.5.{k}")) for k in range(4)),
    volume=volume_of(np.zeros((4, 5, 6), np.float32)),
    headers={},
)
NOW = Timeline(current=THEN.volume, headers={"AcquisitionDate": "20260102"}, earlier=(THEN,))


def change(now: float, then: float, **more: object) -> Comparison:
    said = {"name": codes.VOLUME, "unit": codes.MILLILITRE, "now": now, "then": then}
    return compared(NOW, THEN, **(said | more))


def test_a_change_is_a_share_of_what_was_and_has_the_days_between() -> None:
    one = change(1.25, 1.0)
    assert (one.change_percent, one.days) == (25.0, 215)
    assert one.prior.images == ((CT, Uid("1.2.5.2")),)
    assert change(1.0, 2.0, plane=0).prior.images == ((CT, Uid("1.2.5.0")),)


@pytest.mark.parametrize("then", [0.0, -850.0])
def test_of_nothing_and_of_what_is_below_zero_there_is_no_share(then: float) -> None:
    assert change(1.0, then).change_percent is None


def test_a_value_that_is_no_number_is_no_comparison() -> None:
    with pytest.raises(ValueError, match="leave the comparison out"):
        change(float("nan"), 1.0)


def test_an_earlier_examination_without_images_is_not_compared_with() -> None:
    with pytest.raises(BrokenModel):
        compared(NOW, replace(THEN, images=()), name=codes.VOLUME, unit=codes.MILLILITRE, now=1.0, then=1.0)


def test_one_quantity_is_not_compared_twice_with_one_examination() -> None:
    with pytest.raises(ValueError, match="compared twice"):
        Findings(outcome=Outcome.FOUND, comparisons=(change(1.0, 2.0), change(1.0, 3.0)))


def lesion(number: int, tracked_as: Uid | None) -> Segment:
    return Segment(
        number=number,
        label=f"Nodule {number}",
        category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
        kind=NODULE,
        colour_rgb=(200, 90, 90),
        measurements=(Measurement(name=codes.VOLUME, value=1.0, unit=codes.MILLILITRE),),
        tracked_as=tracked_as,
    )


def test_38_a_match_of_the_model_gives_the_tracking_uid_that_the_earlier_result_had() -> None:
    run = a_run(source())
    model = manifest(name=run.provenance.name, version=run.provenance.version)
    before = replace(run, series=THEN.series)
    named = same_as(model, THEN, "Nodule 2")
    assert named == tracking_uid(before, "Nodule 2")
    assert segment_tracking_uid(run, lesion(1, named)) == named
    assert segment_tracking_uid(run, lesion(1, None)) == tracking_uid(run, "Nodule 1") != named


def test_38_two_findings_are_not_both_one_of_an_earlier_result() -> None:
    labels = np.zeros((1, 3, 3), np.uint8)
    both = (lesion(1, Uid("2.25.7")), lesion(2, Uid("2.25.7")))
    with pytest.raises(ValueError, match="one and the same"):
        Findings(outcome=Outcome.FOUND, label_map=labels, segments=both)
    assert both[0].is_lesion
