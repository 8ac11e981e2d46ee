"""A run that was given up is no silence: its destinations get a report that says NOT ANALYSED, and why."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom
import pytest
from sqlalchemy import text

from dicom_node.peers import PeerSettings
from dicom_node.receivers import ReceiverSettings
from dicom_node.settings import SpoolSettings
from dicom_node.spool import Spool
from ledger.delivery import DeliveryRecord, DeliveryState
from ledger.identifiers import JobId
from ledger.job import JobState, Outcome, Priority
from ledger.notification import Fault, NewNotification, NotificationState, Occasion
from ledger.result import ResultRecord, Role
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from results.notification_fhir import conditional_query
from tests.ledger.site import OPERATOR, claim, finish, pass_by, send, slice_of
from tests.peers.receivers import engine, field_of
from tests.results.dciodvfy import complaints
from tests.worker.site import close, receive
from tests.worker.test_notify import receiver
from worker.notify import Messenger, Notices
from worker.settings import QueueSettings, WorkerSite
from worker.stand_in import StandIns, because_of
from worker.workplace import Workplace

PACS = PeerSettings(name="PACS", ae_title="PACS", host="127.0.0.1", port=1, confirm="answer")


@dataclass
class Given:
    """One study with one job, and the parts of a worker that tell of jobs that were given up."""

    ledger: Ledger
    spool: Spool
    site: WorkerSite
    job: JobId
    stand_ins: StandIns

    @property
    def deliveries(self) -> list[DeliveryRecord]:
        return self.ledger.deliveries_of(self.job)

    @property
    def results(self) -> list[ResultRecord]:
        return self.ledger.results_of(self.job)

    def give_up(self, because: str = "the child died by signal 11 at its model", fault=Fault.UNKNOWN) -> None:
        self.ledger.park_job(claim(self.ledger, self.job), because, fault)

    def arrive(self) -> None:
        """The archive takes and proves all that is under way."""
        for one in self.deliveries:
            if one.state is DeliveryState.WAITING:
                send(self.ledger, one.id)
                self.ledger.confirm_delivery(one.id, "found")

    def report(self) -> pydicom.Dataset:
        (one,) = self.results
        return pydicom.dcmread(self.spool.absolute(one.path))


@contextmanager
def given(
    folder: Path, *peers: PeerSettings, to: Sequence[str] | None = None, receivers: tuple = ()
) -> Iterator[Given]:
    peers = peers or (PACS,)
    spool_settings = SpoolSettings(
        path=folder / "spool", reserve_bytes=0, soft_percent=100, hard_percent=100, resume_percent=100
    )
    site = WorkerSite(
        ledger=LedgerSettings(url=f"sqlite:///{folder}/ledger.sqlite"),
        spool=spool_settings,
        queue=QueueSettings(url="redis://127.0.0.1:1/0"),
        peers=peers,
        receivers=receivers,
    )
    with Ledger.open(site.ledger) as ledger:
        spool = Spool(spool_settings)
        study = receive(ledger, spool, folder / "scan", seed=1)
        named = [peer.name for peer in peers] if to is None else to
        Notices(ledger, spool, site).open()
        job = close(ledger, study, "lung_ct", settings={}, priority=Priority.ROUTINE, destinations=named)
        workplace = Workplace(folder / "work", "stand-ins")
        yield Given(ledger, spool, site, job, StandIns(ledger, spool, site, workplace))
        workplace.close()


def comments(report: pydicom.Dataset) -> str:
    texts = [report]
    said = []
    while texts:
        item = texts.pop()
        said.append(str(item.get("TextValue") or ""))
        texts += list(item.get("ContentSequence", []))
    return " ".join(said)


@pytest.mark.parametrize(
    ("fault", "whose"),
    [
        (Fault.IMAGES, "These images cannot be used."),
        (Fault.MODEL, "The fault is the model's, not that of the images."),
        (Fault.SITE, "The fault is that of this installation, not of the images."),
        (Fault.UNKNOWN, "It was tried as often as it may be."),
    ],
)
def test_it_is_said_whose_fault_it_is(tmp_path: Path, fault: Fault, whose: str) -> None:
    with given(tmp_path) as one:
        one.give_up("the model needs 9.3 GiB and there are 4.0", fault)
        (owed,) = one.ledger.owed_stand_ins()
        said = because_of(owed)
        assert said == f"The analysis could not be run: the model needs 9.3 GiB and there are 4.0. {whose}"


def test_the_destinations_of_a_job_that_was_given_up_get_a_report_that_says_so(tmp_path: Path) -> None:
    with given(tmp_path) as one:
        one.give_up("the model needs 9.3 GiB and there are 4.0")
        one.stand_ins.open()
        report = one.report()
        assert "NOT ANALYSED" in report.SeriesDescription
        assert "The analysis could not be run: the model needs 9.3 GiB and there are 4.0." in comments(report)
        assert "not verified" in comments(report)
        (delivery,) = one.deliveries
        assert (delivery.peer, delivery.state) == ("PACS", DeliveryState.WAITING)
        assert one.ledger.job(one.job).state is JobState.PARKED


def test_the_report_is_valid_and_about_the_same_patient_and_study(tmp_path: Path) -> None:
    with given(tmp_path) as one:
        one.give_up()
        one.stand_ins.open()
        (result,) = one.results
        path = one.spool.absolute(result.path)
        report, image = pydicom.dcmread(path), pydicom.dcmread(next((tmp_path / "scan").glob("*.dcm")))
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "AccessionNumber"):
            assert report.get(keyword) == image.get(keyword)
        assert complaints(path, "Comprehensive3DSR") == []
        # What is not known is not made up.
        (model,) = [
            item
            for item in report.ContributingEquipmentSequence
            if item.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        ]
        assert (model.ManufacturerModelName, model.SoftwareVersions) == ("lung_ct", "unknown")
        assert "code sha256" not in model.ContributionDescription
        assert "weights" not in model.ContributionDescription


def test_made_twice_it_is_the_same_report(tmp_path: Path) -> None:
    with given(tmp_path) as one:
        one.give_up()
        (owed,) = one.ledger.owed_stand_ins()
        folders = [tmp_path / "a", tmp_path / "b"]
        made = []
        for folder in folders:
            folder.mkdir()
            made.append(one.stand_ins._made(owed, folder))
        assert made[0] == made[1]
        one.stand_ins.open()
        one.stand_ins.open()
        assert [each.digest for each in one.results] == [made[0].digest]


def test_the_results_that_come_after_all_replace_it(tmp_path: Path) -> None:
    with given(tmp_path) as one:
        one.give_up()
        one.stand_ins.open()
        one.arrive()
        (stand_in,) = one.results
        assert one.ledger.owed_notes(["PACS"]) == []

        one.ledger.retry_job(one.job, "the driver was mended", by=OPERATOR)
        held = claim(one.ledger, one.job)
        assert held.predecessor is not None
        assert held.predecessor.sop_instance == stand_in.sop_instance
        finish(one.ledger, held)
        assert one.ledger.owed_notes(["PACS"]) == []  # Not before the archive has the better one.
        one.arrive()
        (note,) = one.ledger.owed_notes(["PACS"])
        assert [each.result.sop_instance for each in note.superseded] == [stand_in.sop_instance]
        assert note.report.sop_instance != stand_in.sop_instance


def test_a_report_that_has_not_left_yet_is_not_sent_once_there_are_results(tmp_path: Path) -> None:
    with given(tmp_path) as one:
        one.give_up()
        one.stand_ins.open()
        one.ledger.retry_job(one.job, "again", by=OPERATOR)
        finish(one.ledger, claim(one.ledger, one.job))
        states = {each.result.sop_class.value: each.state for each in one.deliveries}
        assert DeliveryState.CANCELLED in states.values()
        one.arrive()
        assert one.ledger.owed_notes(["PACS"]) == []


def test_it_never_replaces_a_result_of_fewer_images(tmp_path: Path) -> None:
    with given(tmp_path) as one:
        finish(one.ledger, claim(one.ledger, one.job))
        one.arrive()
        study = one.ledger.studies()[0].id

        record = one.ledger.study(study)
        series = one.ledger.series_of(study)[0]
        late = slice_of(str(record.study), 99)

        one.ledger.record_arrivals([replace(late, series=series.series)])
        second = close(
            one.ledger, study, "lung_ct", settings={}, priority=Priority.ROUTINE, destinations=["PACS"]
        )
        one.job = second
        one.give_up()
        one.stand_ins.open()
        one.arrive()
        assert [each.state for each in one.deliveries] == [DeliveryState.COMMITTED]
        assert one.ledger.owed_notes(["PACS"]) == []


def test_images_whose_headers_cannot_be_read_leave_the_job_parked_as_it_is(tmp_path: Path) -> None:
    with given(tmp_path) as one:
        for series in one.ledger.series_of(one.ledger.studies()[0].id):
            for instance in series.instances:
                path = one.spool.absolute(instance.path)
                path.chmod(0o600)
                path.write_bytes(b"no DICOM at all")
        one.give_up()
        one.stand_ins.open()
        one.stand_ins.open()
        assert (one.results, one.deliveries) == ([], [])
        assert one.ledger.job(one.job).state is JobState.PARKED
        assert one.ledger.owed_stand_ins() == []
        last = one.ledger.history(job_id=one.job)[-1]
        assert last.because == (
            "that it was given up, its destinations are told by nothing: the images' headers cannot be read"
        )


def test_one_readable_header_is_enough(tmp_path: Path) -> None:
    with given(tmp_path) as one:
        (series,) = one.ledger.series_of(one.ledger.studies()[0].id)
        for instance in series.instances[:-1]:
            path = one.spool.absolute(instance.path)
            path.chmod(0o600)
            path.write_bytes(b"no DICOM at all")
        one.give_up()
        one.stand_ins.open()
        assert one.report().Modality == "SR"


@pytest.mark.parametrize("to", [(), ("PACS",)])
def test_nobody_is_told_who_does_not_want_it(tmp_path: Path, to: tuple[str, ...]) -> None:
    quiet = PACS.model_copy(update={"given_up": False})
    with given(tmp_path, quiet, to=to) as one:
        one.give_up()
        one.stand_ins.open()
        assert (one.results, one.ledger.owed_stand_ins()) == ([], [])


def test_a_job_that_is_asked_for_again_meanwhile_gets_no_such_report(tmp_path: Path) -> None:
    with given(tmp_path) as one:
        one.give_up()
        one.ledger.retry_job(one.job, "again", by=OPERATOR)
        one.stand_ins.open()
        assert one.results == []


def test_a_job_that_used_its_attempts_is_reported_like_any_other(tmp_path: Path) -> None:
    with given(tmp_path) as one:
        claim(one.ledger, one.job, lease_s=0.001)

        pass_by(one.ledger, 0.01)
        one.ledger.sweep(republish_after_s=60, attempts_max=1, crash_backoff_s=0)
        assert one.ledger.job(one.job).state is JobState.PARKED
        one.stand_ins.open()
        assert "fell silent" in comments(one.report())


def test_whoever_waits_for_the_result_is_told_that_none_will_come(tmp_path: Path) -> None:
    with engine() as ris, given(tmp_path, receivers=(receiver(ris.url),)) as one:
        notices = Notices(one.ledger, one.spool, one.site)
        one.give_up("no GPU was found", Fault.SITE)
        notices.open()
        study = one.ledger.studies()[0].id
        assert one.ledger.notifications_of(study) == []  # The report is not made yet.
        one.stand_ins.open()
        notices.open()
        assert one.ledger.notifications_of(study) == []  # … and the archive does not have it.
        one.arrive()
        notices.open()
        (told,) = one.ledger.notifications_of(study)
        assert told.occasion is Occasion.GIVEN_UP
        Messenger(one.ledger, one.site, owner="teller").tell(told.id)
        message = ris.messages[0].decode()
        assert field_of(message, "OBR", 25) == "X"
        assert "no GPU was found" in message

        one.ledger.retry_job(one.job, "there is one now", by=OPERATOR)
        finish(one.ledger, claim(one.ledger, one.job))
        one.arrive()
        owed = one.ledger.owed_notifications([each.wish for each in one.site.receivers])
        # There was no result before, so this one corrects nothing.
        assert [(each.occasion, each.corrects) for each in owed] == [(Occasion.FOUND, False)]
        assert owed[0].report is not None
        assert owed[0].report.role is Role.REPORT
        assert one.ledger.job(one.job).outcome is Outcome.FOUND


def test_without_a_report_whoever_waits_is_told_what_the_ledger_knows(tmp_path: Path) -> None:
    quiet = PACS.model_copy(update={"given_up": False})
    with engine() as ris, given(tmp_path, quiet, receivers=(receiver(ris.url),)) as one:
        one.give_up("no GPU was found", Fault.SITE)
        one.stand_ins.open()
        Notices(one.ledger, one.spool, one.site).open()
        (told,) = one.ledger.notifications_of(one.ledger.studies()[0].id)
        Messenger(one.ledger, one.site, owner="teller").tell(told.id)
        assert one.ledger.notifications(states=[NotificationState.TAKEN]) != []
        assert "NOT ANALYSED" in ris.messages[0].decode()


@pytest.mark.parametrize("kind", ["hl7v2", "fhir"])
@pytest.mark.parametrize("wants", [True, False])
def test_what_a_receiver_was_told_stays_where_a_run_of_more_images_is_given_up(
    tmp_path: Path, kind: str, wants: bool
) -> None:
    told = ReceiverSettings(name="RIS", kind=kind, to={"url": "http://127.0.0.1:1"})
    with given(tmp_path, PACS.model_copy(update={"given_up": wants}), receivers=(told,)) as one:
        notices = Notices(one.ledger, one.spool, one.site)
        one.give_up()
        one.stand_ins.open()
        one.arrive()
        notices.open()  # What a result is told in place of: this line is that of the rule and its images.
        one.ledger.retry_job(one.job, "again", by=OPERATOR)
        finish(one.ledger, claim(one.ledger, one.job))
        one.arrive()
        (owed,) = one.ledger.owed_notifications([told.wish])
        assert (owed.occasion, owed.corrects, owed.beside) == (Occasion.FOUND, False, False)
        assert one.ledger.open_notification(owed, NewNotification(control_id="W1", body="told"))

        study = one.ledger.studies()[0]
        series = one.ledger.series_of(study.id)[0]
        one.ledger.record_arrivals([replace(slice_of(str(study.study), 99), series=series.series)])
        one.job = close(
            one.ledger, study.id, "lung_ct", settings={}, priority=Priority.ROUTINE, destinations=["PACS"]
        )
        one.give_up()
        one.stand_ins.open()
        one.arrive()
        notices.open()
        with one.ledger.read() as tx:
            bodies = tx.connection.execute(text("SELECT body FROM notification ORDER BY id")).scalars().all()
        first, _, later = bodies
        assert "died by signal 11" in later
        if kind == "fhir":
            names = [json.loads(body)["identifier"][0]["value"] for body in (first, later)]
            assert json.loads(later)["status"] == "cancelled"
            assert conditional_query(first) != conditional_query(later)
        else:
            names = [field_of(body, "OBR", 20) for body in (first, later)]
            assert field_of(later, "OBR", 25) == "X"
            assert field_of(later, "OBR", 3) == names[1] != field_of(first, "OBR", 3)
            assert field_of(later, "OBR", 18) == field_of(first, "OBR", 18)
        assert names[0] != names[1]
        assert not one.ledger.notifications_of(study.id)[2].corrects
