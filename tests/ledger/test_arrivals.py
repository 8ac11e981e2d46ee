import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ledger.identifiers import AETitle, Digest, Uid
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from ledger.study import ArrivalKind, StudyState
from tests.ledger.site import close, digest, new_job, pass_by, receive, slice_of
from tests.patience import patient


def kinds(receipts) -> list[str]:
    return [receipt.kind.value for receipt in receipts]


def test_a_batch_is_recorded_as_one_study_with_its_series(ledger: Ledger) -> None:
    headers = {
        "PatientID": " 4711 ",
        "PatientName": "Doe^Jane",
        "AccessionNumber": "A1",
        "StudyDate": "20240301",
        "StudyDescription": "CHEST",
        "SeriesDescription": "Lung 1.0",
        "ImagePositionPatient": "-100.5\\20\\3e1",
        "ImageOrientationPatient": "1\\0\\0\\0\\1\\0",
    }
    receipts = ledger.record_arrivals(
        [slice_of("1.2.3", 1, **headers), slice_of("1.2.3", 2), slice_of("1.2.3", 1, series=2)]
    )

    assert kinds(receipts) == ["new", "new", "new"]
    assert not any(receipt.reopened for receipt in receipts)
    (study,) = ledger.open_studies()
    assert (study.study, study.state, study.instances, study.series) == (Uid("1.2.3"), StudyState.OPEN, 3, 2)
    assert (study.patient_id, study.patient_name, study.accession_number) == ("4711", "Doe^Jane", "A1")
    assert (study.study_date, study.description, study.calling) == ("20240301", "CHEST", AETitle("SCANNER"))
    first, second = ledger.series_of(study.id)
    assert (first.series, first.modality, len(first.instances)) == (Uid("1.2.3.1"), "CT", 2)
    assert first.headers["SeriesDescription"] == "Lung 1.0"
    assert len(second.instances) == 1
    assert first.instances[0].position == (-100.5, 20.0, 30.0)
    assert first.instances[0].orientation == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    assert first.instances[1].position is None
    assert first.instances[1].instance_number == 2


def test_headers_that_make_no_sense_are_absent_and_stop_nothing(ledger: Ledger) -> None:
    nonsense = {
        "InstanceNumber": "99999999999999999999",
        "NumberOfFrames": "-3",
        "ImagePositionPatient": "nan\\0\\0",
        "ImageOrientationPatient": "1\\0",
        "PatientName": "Müller\0^\udcffx",
        "StudyDescription": "\0",
    }
    ledger.record_arrivals([slice_of("1.2.3", 1, **nonsense)])

    (study,) = ledger.open_studies()
    ((instance,),) = (series.instances for series in ledger.series_of(study.id))
    assert (instance.instance_number, instance.frames) == (None, 1)
    assert (instance.position, instance.orientation) == (None, None)
    assert (study.patient_name, study.description) == ("Müller^?x", "")


def test_the_same_bytes_again_are_one_instance(ledger: Ledger) -> None:
    receive(ledger, "1.2.3")
    again = ledger.record_arrivals([slice_of("1.2.3", 1), slice_of("1.2.3", 4), slice_of("1.2.3", 4)])

    assert kinds(again) == ["again", "new", "again"]
    assert ledger.study(again[0].study_id).instances == 4
    assert ledger.counts().instances == 4


def test_other_bytes_under_a_known_uid_are_a_conflict_and_the_first_are_kept(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3", [1])
    receipts = ledger.record_arrivals(
        [slice_of("1.2.3", 1, content="x"), slice_of("1.2.3", 2), slice_of("1.2.3", 2, content="y")]
    )

    assert kinds(receipts) == ["conflict", "new", "conflict"]
    (series,) = ledger.series_of(study_id)
    assert [i.digest for i in series.instances] == [digest("1.2.3.1.1"), digest("1.2.3.1.2")]
    conflicts = [event for event in ledger.history(study_id=study_id) if event.event == "conflict"]
    assert [event.detail["sop_instance"] for event in conflicts] == ["1.2.3.1.1", "1.2.3.1.2"]
    assert conflicts[1].detail["kept"] == str(digest("1.2.3.1.2"))


def test_a_uid_that_another_study_holds_is_a_conflict_of_that_study(ledger: Ledger) -> None:
    holder = receive(ledger, "1.2.3", [1])
    stray = slice_of("1.2.9", 1)
    stray = type(stray)(
        **{name: getattr(stray, name) for name in stray.__slots__} | {"sop_instance": Uid("1.2.3.1.1")}
    )

    (receipt,) = ledger.record_arrivals([stray])

    assert (receipt.kind, receipt.study_id) == (ArrivalKind.CONFLICT, holder)
    assert [str(study.study) for study in ledger.studies()] == ["1.2.3"]


def test_a_late_instance_opens_the_study_again(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    close(ledger, study_id, [new_job(ledger, study_id)])

    receipts = ledger.record_arrivals([slice_of("1.2.3", 3), slice_of("1.2.3", 4), slice_of("1.2.3", 5)])

    assert [receipt.reopened for receipt in receipts] == [False, True, True]
    study = ledger.study(study_id)
    assert (study.state, study.instances, study.generation) == (StudyState.OPEN, 5, 1)
    assert study.opened_at > study.first_arrival_at
    reopened = [e for e in ledger.history(study_id=study_id) if (e.before, e.after) == ("closed", "open")]
    assert [(e.event, e.because) for e in reopened] == [("arrived", "late instance from SCANNER")]


def test_a_repetition_does_not_open_a_closed_study(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    close(ledger, study_id)
    before = ledger.study(study_id)

    receipts = ledger.record_arrivals([slice_of("1.2.3", 1), slice_of("1.2.3", 2, content="x")])

    assert kinds(receipts) == ["again", "conflict"]
    assert ledger.study(study_id) == before


def test_whoever_sends_again_keeps_an_open_study_waiting(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    before = ledger.study(study_id)
    pass_by(ledger, 0.01)
    ledger.record_arrivals([slice_of("1.2.3", 1)])
    assert ledger.study(study_id).last_arrival_at > before.last_arrival_at


def test_three_hundred_slices_do_not_make_three_hundred_events(ledger: Ledger) -> None:
    for start in range(0, 300, 32):
        receive(ledger, "1.2.3", range(start, min(start + 32, 300)))
    assert [event.event for event in ledger.history()] == ["arrived"]


def test_a_batch_of_many_studies_and_an_empty_batch(ledger: Ledger) -> None:
    assert ledger.record_arrivals([]) == []
    receipts = ledger.record_arrivals([slice_of(f"1.2.{n}", 1) for n in range(510)])
    assert len({receipt.study_id for receipt in receipts}) == 510
    assert ledger.counts().studies[StudyState.OPEN] == 510


@given(order=st.permutations(range(8)), cuts=st.sets(st.integers(1, 7)))
@hypothesis_settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_order_of_arrival_and_the_batches_make_no_difference(tmp_path, order, cuts) -> None:
    arrivals = [slice_of("1.2.3", n, series=1 + n % 2) for n in range(8)] + [slice_of("1.2.3", 0)]
    arrivals = [arrivals[index] for index in order]
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.sqlite"
    with Ledger.open(LedgerSettings(url=f"sqlite:///{path}")) as ledger:
        edges = [0, *sorted(cuts), 8]
        for start, end in pairwise(edges):
            ledger.record_arrivals(arrivals[start:end])
        (study,) = ledger.open_studies()
        held = {(s.series, i.sop_instance, i.digest) for s in ledger.series_of(study.id) for i in s.instances}
    assert held == {(a.series, a.sop_instance, a.digest) for a in arrivals}
    assert (study.instances, study.series) == (8, 2)


def test_the_ledger_can_be_rebuilt_from_what_the_spool_holds(ledger: Ledger, tmp_path) -> None:
    arrivals = [slice_of(f"1.2.{study}", n) for study in (3, 4) for n in range(5)]
    ledger.record_arrivals(arrivals)
    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/rebuilt.sqlite")) as rebuilt:
        rebuilt.record_arrivals(arrivals[::-1])
        rebuilt.record_arrivals(arrivals)  # a rebuilding that was interrupted is begun again
        assert set(rebuilt.known_paths()) == set(ledger.known_paths()) == {a.path for a in arrivals}
        assert rebuilt.counts().instances == 10


def test_what_is_set_aside_is_listed_once(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3", [1])
    for _ in range(2):
        ledger.record_quarantine(
            sop_instance="../../etc/passwd",
            digest=Digest("a" * 64),
            path="quarantine/1.dcm",
            because="the UID is none",
            calling="SCANNER",
            address="127.0.0.1",
            study_id=study_id,
        )
    (record,) = ledger.quarantined()
    assert (record.sop_instance, record.path, record.study_id) == (
        "../../etc/passwd",
        "quarantine/1.dcm",
        study_id,
    )
    assert [e.event for e in ledger.history(study_id=study_id)] == ["arrived", "quarantined"]
    assert "quarantine/1.dcm" in set(ledger.known_paths())
    assert ledger.unknown_paths(["quarantine/1.dcm", "instances/none.dcm"]) == ["instances/none.dcm"]


def test_many_that_receive_the_same_at_once_record_it_once(ledger: Ledger) -> None:
    start = threading.Barrier(6)

    def record(shift: int) -> list[str]:
        start.wait(patient(10))
        numbers = [(n + shift) % 12 for n in range(8)]
        return kinds(ledger.record_arrivals([slice_of(f"1.2.{1 + n % 3}", n) for n in numbers]))

    with ThreadPoolExecutor(6) as pool:
        told = [kind for batch in pool.map(record, range(6)) for kind in batch]
    assert sorted(set(told)) == ["again", "new"]
    assert told.count("new") == ledger.counts().instances == 12
    assert sum(study.instances for study in ledger.studies()) == 12
    assert [study.series for study in ledger.studies()] == [1, 1, 1]
