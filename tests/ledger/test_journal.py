"""No patient in the log, whatever is thrown at it."""

import io
import json
import logging
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID
from pydicom.valuerep import DSfloat, PersonName

from ledger import journal
from ledger.errors import StudyError
from ledger.identifiers import AETitle, Digest, Uid
from ledger.job import JobState
from ledger.journal import log

CANARY = "ZZPHI^CANARY"
KEYS = [
    "patient_name", "PatientName", "patient", "patient_id", "PatientID", "PatientBirthDate", "birth_date",
    "accession", "accession_number", "AccessionNumber", "Accession Number", "OtherPatientIDs", "person",
    "ReferringPhysicianName", "OperatorsName", "mrn", "MRN", "headers", "dataset", "ds", "StudyDescription",
    "PatientComments",
]  # fmt: skip


pytestmark = pytest.mark.usefixtures("journal_as_before")


@pytest.fixture(params=[True, False], ids=["json", "console"])
def written(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    for library in ("pydicom", "pynetdicom"):  # A node in the same process silences them for good.
        monkeypatch.setattr(logging.getLogger(library), "propagate", True)
    journal.configure(json=request.param, stream=stream)
    return stream


def a_dataset() -> Dataset:
    dataset = Dataset()
    dataset.PatientName = CANARY
    dataset.PatientID = CANARY
    item = Dataset()
    item.PersonName = CANARY
    dataset.PersonIdentificationCodeSequence = Sequence([item])
    return dataset


class Stranger:
    def __repr__(self) -> str:
        return CANARY

    __str__ = __repr__


secrets = st.sampled_from(
    [
        a_dataset(),
        PersonName(CANARY),
        a_dataset()["PatientName"],
        Stranger(),
        ValueError(CANARY),
        CANARY.encode(),
    ]
)
leaves = st.one_of(
    secrets, st.integers(), st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.none()
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.sampled_from(["a", "because", *KEYS]), inner, max_size=3),
        st.builds(lambda value: {"outer": {"PatientName": CANARY, "b": value}}, inner),
    ),
    max_leaves=8,
)


@given(key=st.sampled_from(["series", "detail", "because"]), value=values, named=st.sampled_from(KEYS))
@hypothesis_settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_patient_passes(written: io.StringIO, key, value, named) -> None:
    log.info("job.parked", **{key: value, named: CANARY, "job": 12})
    text = written.getvalue()
    assert "job.parked" in text
    assert "CANARY" not in text


def test_what_is_ours_is_written_plainly() -> None:
    stream = io.StringIO()
    journal.configure(json=True, stream=stream)
    log.info(
        "job.parked",
        job=12,
        study=Uid("1.2.3"),
        calling=AETitle("SCANNER"),
        digest=Digest("a" * 64),
        state=JobState.PARKED,
        sop_class=UID("1.2.840.10008.1.1"),
        path=Path("spool/a"),
        seconds=1.5,
        ok=True,
        nothing=None,
        because="slice spacing 7.5 mm, the model takes at most 3",
        counts={"a": [1, 2]},
        factor=DSfloat("1.5"),
    )
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "job.parked",
        "level": "info",
        "job": 12,
        "study": "1.2.3",
        "calling": "SCANNER",
        "digest": "a" * 64,
        "state": "parked",
        "sop_class": "1.2.840.10008.1.1",
        "path": "spool/a",
        "seconds": 1.5,
        "ok": True,
        "nothing": None,
        "because": "slice spacing 7.5 mm, the model takes at most 3",
        "counts": {"a": [1, 2]},
        "factor": "(withheld: DSfloat)",
    }


def test_an_error_says_where_and_what_kind_and_only_ours_say_what(written: io.StringIO) -> None:
    def read() -> None:
        try:
            int(CANARY)
        except ValueError as error:
            raise StudyError("instance 12 has no position") from error

    try:
        read()
    except StudyError:
        log.exception("job.failed", job=12)
    text = written.getvalue()
    assert "StudyError: instance 12 has no position at " in text
    assert "after ValueError at " in text
    assert "test_journal.py" in text
    assert "CANARY" not in text


def test_other_libraries_say_where_they_warned_but_not_about_what(written: io.StringIO) -> None:
    logging.getLogger("pydicom").warning("Invalid value for VR UI: %r", CANARY)
    logging.getLogger("pynetdicom.acse").error(f"odd name {CANARY}")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(CANARY, UserWarning, stacklevel=1)
    try:
        {}[CANARY]
    except KeyError:
        logging.getLogger("highdicom").exception("while reading %s", CANARY)
    text = written.getvalue()
    assert "CANARY" not in text
    assert text.count("library.warned") == 4
    assert "UserWarning" in text
    assert "KeyError at test_journal.py" in text


def test_celery_may_speak_and_chatter_is_not_heard(written: io.StringIO) -> None:
    logging.getLogger("celery.worker").warning("\nconnection to broker lost,\n   %s\n", "trying again")
    logging.getLogger("kombu").info("chatter")
    assert "connection to broker lost, trying again" in written.getvalue()
    assert "chatter" not in written.getvalue()


def test_a_peer_cannot_write_a_line_of_its_own(written: io.StringIO) -> None:
    log.warning("association.refused", because="AE title 'A\n2026-01-01 [info] all is well\x1b[2J\u2028'")
    text = written.getvalue()
    assert text.count("\n") == 1
    assert "\x1b[2J" not in text
    assert "\u2028" not in text


def test_what_is_below_the_level_is_not_written() -> None:
    stream = io.StringIO()
    journal.configure(json=True, level="warning", stream=stream)
    log.info("job.claimed", job=1)
    log.warning("job.parked", job=1)
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["job.parked"]
