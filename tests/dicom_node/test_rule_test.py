"""A tester tells every condition, and nothing of the patient; a dry run tells what would change, and ends."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from dicom_node.dropped import read_dropped
from dicom_node.limits import DataSetSettings
from dicom_node.long_headers import LongHeaders
from dicom_node.routing import without_values
from dicom_node.rule_dry_run import dry_run
from dicom_node.rule_test import RuleTried, tried
from ledger.identifiers import AETitle
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from ledger.usage import Usage
from tests.dicom_node.test_routing import instance, series
from tests.dicom_node.test_rule_book import rule
from tests.ledger.site import claim, close, finish, new_job, receive
from tests.worker.series import Series

CANARY = "ZZPHI^CANARY"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/ledger.sqlite")) as opened:
        yield opened


@pytest.fixture(scope="module")
def readers() -> Iterator[LongHeaders]:
    opened = LongHeaders(DataSetSettings())
    yield opened
    opened.close()


def only(facts: object, **changes: object) -> RuleTried:
    (of_series,) = tried([facts], [rule(**changes)])
    (of_rule,) = of_series.rules
    return of_rule


def test_every_condition_is_told_and_not_only_the_first_that_fails() -> None:
    said = only(
        series(images=50, spacing_mm=5.0),
        modality="MR",
        body_part="CHEST",
        description="lung",
        at_least=60,
        spacing_max_mm=3,
        attributes={"ConvolutionKernel": "B70"},
        ranges={"KVP": [100, float("inf")]},
        contrast=True,
        calling="OTHER",
    )
    assert not said.taken
    assert said.because == "modality is CT, rule asks MR"
    assert [(one.condition, one.asked, one.found, one.holds) for one in said.conditions] == [
        ("modality", "MR", "CT", False),
        ("body_part", "CHEST", "CHEST", True),
        ("description", "/lung/", "it does not match", False),
        ("attributes.ConvolutionKernel", "/B70/", "B40f", False),
        ("ranges.KVP", "at least 100", "not given", False),
        ("contrast", "one", "not named", False),
        ("calling", "OTHER", "SCANNER", False),
        ("at_least", "at least 60", "50 images", False),
        ("spacing_max_mm", "at most 3 mm", "5.00 mm", False),
    ]


def test_what_no_rule_is_asked_about_says_so_beside_the_conditions() -> None:
    said = only(series(ours=True))
    assert said.never == "a result of our own is never an input"
    assert [one.holds for one in said.conditions] == [True]


def test_each_input_of_a_rule_tells_its_own_conditions() -> None:
    inputs = [{"name": "thin", "spacing_max_mm": 2}, {"name": "thick", "spacing_min_mm": 3}]
    said = only(series(spacing_mm=1.0), inputs=inputs)

    assert [(one.name, one.holds) for one in said.inputs] == [("thin", True), ("thick", False)]
    assert said.because == "it would be thin, but no series is thick"


def test_a_rule_about_images_tells_for_how_many_of_them_a_condition_holds() -> None:
    facts = series(*(instance(n, frames=n, orientation=None) for n in (1, 2, 3)))
    said = only(facts, each="image", at_least=2)

    (modality, count) = said.conditions
    assert (modality.found, count.found, count.holds) == ("CT", "it holds for 2 of 3 images", True)
    assert said.taken


@pytest.mark.parametrize(
    "asked",
    [
        {"description": "x"},
        {"study_description": "x"},
        {"protocol": "x"},
        {"attributes": {"PatientComments": "x", "PatientName": "x"}},
        {"ranges": {"PatientWeight": [0, 10]}},
        {"inputs": [{"name": "a", "description": "x"}, {"name": "b", "ranges": {"PatientWeight": [0, 1]}}]},
    ],
)
def test_nothing_that_somebody_typed_is_in_the_answer(asked: dict[str, object]) -> None:
    typed = ("SeriesDescription", "StudyDescription", "ProtocolName", "PatientComments", "PatientName")
    facts = series(**dict.fromkeys(typed, CANARY), PatientWeight="81.5")
    shown = list(_told(tried([facts], [rule(**asked)])))
    assert len(shown) > 4
    assert not any("CANARY" in text or "81.5" in text for text in shown)


def _told(answers: object) -> Iterator[str]:
    """All that a page would show of them."""
    for of_series in answers:
        for of_rule in of_series.rules:
            yield from (of_rule.because, of_rule.never)
            inner = (one for each in of_rule.inputs for one in each.conditions)
            for one in (*of_rule.conditions, *inner):
                yield from (one.asked, one.found)


def test_numbers_about_people_are_taken_out_of_reasons_and_those_about_images_are_not() -> None:
    assert without_values("PatientWeight is 81.5, rule asks at most 10") == (
        "PatientWeight is outside, rule asks at most 10"
    )
    assert without_values("EchoTime is 90 and 30, rule asks 0 to 30") == (
        "EchoTime is 90 and 30, rule asks 0 to 30"
    )


def test_dropped_files_are_judged_as_if_they_had_been_sent(tmp_path: Path, readers: LongHeaders) -> None:
    paths = _stack(tmp_path)
    (tmp_path / "letter.txt").write_text("Dear colleague")
    dropped = read_dropped([*paths, tmp_path / "letter.txt"], readers, calling=AETitle("CT1"))

    (facts,) = dropped.series
    assert (facts.images, facts.stack, facts.spacing_mm, facts.callings) == (30, 30, 2.5, {"CT1"})
    assert [(one.number, one.because) for one in dropped.unread] == [(31, "this is no DICOM file (PS3.10)")]
    assert tried([facts], [rule(at_least=30, calling="CT1", spacing_max_mm=2.5)])[0].rules[0].taken


def _stack(folder: Path) -> list[Path]:
    return Series(np.zeros((30, 8, 8), np.int16), step=(0.0, 0.0, 2.5)).write(folder)


@pytest.mark.fault
def test_dropped_files_that_are_broken_or_hostile_are_told_and_kill_nothing(
    tmp_path: Path, readers: LongHeaders
) -> None:
    paths = _stack(tmp_path)[:4]
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[:400])
    paths[1].write_bytes(b"")
    deep = Dataset()
    for _ in range(80):
        outer = Dataset()
        outer.RequestAttributesSequence = [deep]
        deep = outer
    nested = pydicom.dcmread(paths[2])
    nested.RequestAttributesSequence = [deep]
    nested.save_as(paths[2])
    nameless = pydicom.dcmread(paths[3])
    del nameless.SeriesInstanceUID
    nameless.save_as(paths[3])

    dropped = read_dropped(paths, readers, calling=AETitle("CT1"))
    assert dropped.series == ()
    assert [one.number for one in dropped.unread] == [1, 2, 3, 4]
    assert "nested more than" in dropped.unread[2].because
    assert dropped.unread[3].because == "SeriesInstanceUID is missing, or is no UID"


def here(ledger: Ledger, count: int) -> None:
    for n in range(count):
        close(ledger, receive(ledger, f"1.2.{n}"))


def test_a_dry_run_tells_which_studies_gain_and_lose_work(ledger: Ledger) -> None:
    here(ledger, 3)
    before = [rule("kept"), rule("gone", model="other")]
    after = [rule("kept", deliver_to=["archive"]), rule("new", model="cxr", at_least=3)]
    told = dry_run(ledger, before, after)

    assert (told.studies, told.there, told.purged, told.changed, told.stopped) == (3, 3, 0, 3, "")
    assert [(one.rule, one.model, one.before, one.after) for one in told.load] == [
        ("gone", "other", 3, 0),
        ("kept", "lung_ct", 3, 3),
        ("new", "cxr", 0, 3),
    ]
    change = told.changes[0]
    assert (change.gains, change.loses, change.differs) == (
        ("new: cxr on series 1",),
        ("gone: other on series 1",),
        ("kept: lung_ct on series 1",),
    )
    assert told.jobs == (6, 6)
    assert told.unmeasured == ("cxr", "lung_ct", "other")
    assert ledger.rule_sets() == []


def test_the_same_rules_change_nothing(ledger: Ledger) -> None:
    here(ledger, 2)
    told = dry_run(ledger, [rule()], [rule()])
    assert (told.studies, told.changed, told.changes) == (2, 0, ())


def test_purged_studies_are_counted_and_not_judged(ledger: Ledger) -> None:
    here(ledger, 2)
    ledger.purge_study(ledger.studies()[0].id, "no room")
    told = dry_run(ledger, [], [rule()])
    assert (told.studies, told.purged, told.there) == (1, 1, 2)


def test_a_dry_run_ends_after_so_many_studies_and_after_so_long(ledger: Ledger) -> None:
    here(ledger, 4)
    few = dry_run(ledger, [], [rule()], studies_max=2)
    assert (few.studies, few.stopped) == (2, "the newest 2 of 4 studies were looked at")

    ticks = itertools.count(step=5.0)
    slow = dry_run(ledger, [], [rule()], within_s=12, clock=lambda: next(ticks))
    assert slow.studies == 2
    assert slow.stopped == "after 12 s, 2 of 4 studies were looked at, the newest first"


def test_the_expected_load_comes_from_runs_that_were_measured(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.77")
    (job_id,) = close(ledger, study_id, [new_job(ledger, study_id)])
    held = claim(ledger, job_id)
    seconds = {"queue": 99.0, "load": 600.0, "wait": 50.0, "model": 3000.0}
    used = Usage(model="lung_ct@1.0.0", device="cpu", voxels=1000, seconds=seconds)
    ledger.record_usage(job_id, "lung_ct@1.0.0", used)
    finish(ledger, held)

    told = dry_run(ledger, [], [rule(), rule("twice")])
    assert told.hours_a_day == (0.0, 2.0)
    assert told.unmeasured == ()
