"""A task manager's workitem is claimed, followed and ended by what the site's own rules make of its study."""

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicom_node.peers import PeerSettings
from dicom_node.settings import SpoolSettings
from ledger import failpoint
from ledger.delivery import DeliveryEvent
from ledger.fetch import Purpose
from ledger.identifiers import JobId, Uid
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from ledger.workitem import WorkitemRecord, WorkitemState
from tests.ledger.site import claim, close, finish, new_job, receive, send
from tests.patience import patient
from tests.peers.task_manager import TaskManager, task_manager
from worker.perform import Performer
from worker.settings import QueueSettings, WorkerSite

WORK, STUDY = "2.25.1001", "1.2.3"


@dataclass
class Performing:
    """A site that performs what `manager` lists, step by step as the test says."""

    manager: TaskManager
    ledger: Ledger
    site: WorkerSite

    def look(self) -> WorkitemState:
        """One round of a performer that was just started; the state of its workitem."""
        Performer(self.ledger, self.site).round()
        return self.workitem.state

    @property
    def workitem(self) -> WorkitemRecord:
        (one,) = self.ledger.workitems()
        return one

    def committed(self, job_id: JobId) -> set[str]:
        """Have everything of the job sent and proved; the SOP Instance UIDs."""
        for one in sorted(
            self.ledger.deliveries_of(job_id), key=lambda one: (one.result.role.is_root, one.id)
        ):
            send(self.ledger, one.id)
            self.ledger.confirm_delivery(one.id, "found")
        return {str(one.result.sop_instance) for one in self.ledger.deliveries_of(job_id)}


def settings(folder: Path, manager: TaskManager, **worklist: object) -> WorkerSite:
    worklist = {"rules": {"113106^DCM": "lungs"}, **worklist}
    where = {"host": "127.0.0.1", "connect_s": patient(2), "deadline_s": patient(5)}
    peers = (
        PeerSettings(
            name="RIS", ae_title="MANAGER", port=manager.port, worklist=worklist, send=False, **where
        ),
        PeerSettings(name="PACS", ae_title="ARCHIVE", port=1, retrieve="move", **where),
    )
    return WorkerSite(
        ledger=LedgerSettings(url=f"sqlite:///{folder / 'ledger.sqlite'}"),
        spool=SpoolSettings(path=folder / "spool"),
        queue=QueueSettings(url="redis://127.0.0.1:1"),
        peers=peers,
    )


@contextmanager
def performing(folder: Path, **worklist: object) -> Iterator[Performing]:
    with task_manager() as manager:
        site = settings(folder, manager, **worklist)
        with Ledger.open(site.ledger) as ledger:
            yield Performing(manager, ledger, site)


def test_point_53_a_workitem_is_claimed_and_completed_only_when_the_archive_has_the_results(tmp_path) -> None:
    with performing(tmp_path) as site:
        site.manager.schedule(WORK, STUDY)
        assert site.look() is WorkitemState.IN_PROGRESS
        assert site.manager.locks[WORK] == str(site.workitem.transaction)

        study = receive(site.ledger, STUDY)
        site.look()
        [progress] = site.manager.items[WORK].ProcedureStepProgressInformationSequence
        assert (progress.ProcedureStepProgress, progress.ProcedureStepProgressDescription) == (
            10,
            "images are coming",
        )

        (job,) = close(site.ledger, study, [new_job(site.ledger, study)])
        assert site.look() is WorkitemState.IN_PROGRESS
        finish(site.ledger, claim(site.ledger, job))
        assert site.look() is WorkitemState.IN_PROGRESS
        assert site.manager.state(WORK) == "IN PROGRESS"

        site.committed(job)
        assert site.look() is WorkitemState.COMPLETED
        assert site.manager.state(WORK) == "COMPLETED"


def test_point_52_output_information_lists_exactly_what_is_committed(tmp_path) -> None:
    with performing(tmp_path) as site:
        study = receive(site.ledger, STUDY)
        (job,) = close(site.ledger, study, [new_job(site.ledger, study)])
        finish(site.ledger, claim(site.ledger, job))
        segmentation, report = sorted(
            site.ledger.deliveries_of(job), key=lambda one: (one.result.role.is_root, one.id)
        )
        # Leaves before the root, and this archive takes no such leaf.
        assert site.ledger.claim_delivery(report.id, owner="early", lease_s=60) is None
        held = site.ledger.claim_delivery(segmentation.id, owner="sender", lease_s=60)
        site.ledger.decline_delivery(held, status=0x0122, because="it takes none", instead=None)
        send(site.ledger, report.id)
        site.ledger.confirm_delivery(report.id, "found")

        site.manager.schedule(WORK, STUDY)
        site.look()
        assert site.look() is WorkitemState.COMPLETED
        [step] = site.manager.items[WORK].UnifiedProcedureStepPerformedProcedureSequence
        [output] = step.OutputInformationSequence
        assert (output.StudyInstanceUID, output.SeriesInstanceUID) == (STUDY, str(report.result.series))
        assert [str(one.ReferencedSOPInstanceUID) for one in output.ReferencedSOPSequence] == [
            str(report.result.sop_instance)
        ]
        assert output.DICOMRetrievalSequence[0].RetrieveAETitle == "ARCHIVE"
        assert step.PerformedWorkitemCodeSequence[0].CodeValue == "113106"


@pytest.mark.parametrize("point", ["workitem_listed", "workitem_answered", "workitem_ended"])
def test_point_53_killed_at_any_step_the_next_performer_goes_on_with_the_same_key(tmp_path, point) -> None:
    with performing(tmp_path) as site:
        site.manager.schedule(WORK, STUDY)
        study = receive(site.ledger, STUDY)
        (job,) = close(site.ledger, study, [new_job(site.ledger, study)])
        finish(site.ledger, claim(site.ledger, job))
        site.committed(job)
        if point == "workitem_ended":
            assert site.look() is WorkitemState.IN_PROGRESS

        victim = multiprocessing.get_context("spawn").Process(target=_killed_at, args=(site.site, point))
        victim.start()
        victim.join(patient(60))
        assert victim.exitcode == -signal.SIGKILL
        key = site.workitem.transaction

        while site.look() is not WorkitemState.COMPLETED:
            pass
        assert site.manager.state(WORK) == "COMPLETED"
        assert site.manager.locks[WORK] == str(key)


def _killed_at(site: WorkerSite, point: str) -> None:
    failpoint.arm(f"{point}:kill")
    with Ledger.open(site.ledger) as ledger:
        Performer(ledger, site).round()


def test_what_another_performer_took_is_left_to_it(tmp_path) -> None:
    with performing(tmp_path) as site:
        site.manager.schedule(WORK, STUDY)
        listed = site.manager.find

        def taken_after_it_was_listed(event):
            yield from list(listed(event))
            site.manager.items[WORK].ProcedureStepState = "IN PROGRESS"
            site.manager.locks[WORK] = "2.25.99"

        site.manager.find = taken_after_it_was_listed
        assert site.look() is WorkitemState.LOST
        heard = list(site.manager.heard)
        site.look()
        assert site.manager.heard == heard
        assert site.manager.locks[WORK] == "2.25.99"


def test_work_with_another_code_or_for_another_station_is_left_to_others(tmp_path) -> None:
    with performing(tmp_path, station="WETREAD1") as site:
        site.manager.schedule("2.25.1", STUDY, code="99999^99OTHER", station="WETREAD1")
        site.manager.schedule("2.25.2", STUDY, station="ANOTHER")
        Performer(site.ledger, site.site).round()
        assert site.ledger.workitems() == []
        assert site.manager.heard == []


def test_nothing_for_the_rule_is_said_with_the_reason_of_routing(tmp_path) -> None:
    with performing(tmp_path) as site:
        site.manager.schedule(WORK, STUDY)
        close(site.ledger, receive(site.ledger, STUDY))
        assert site.look() is WorkitemState.IN_PROGRESS
        assert site.look() is WorkitemState.CANCELED
        [progress] = site.manager.items[WORK].ProcedureStepProgressInformationSequence
        assert "no series of it is for the rule" in progress.ReasonForCancellation
        assert site.manager.state(WORK) == "CANCELED"


def test_a_job_that_was_given_up_cancels_the_workitem_with_its_reason(tmp_path) -> None:
    with performing(tmp_path) as site:
        site.manager.schedule(WORK, STUDY)
        study = receive(site.ledger, STUDY)
        (job,) = close(site.ledger, study, [new_job(site.ledger, study)])
        site.ledger.park_job(claim(site.ledger, job), "the model is broken")
        site.look()
        assert site.look() is WorkitemState.CANCELED
        [progress] = site.manager.items[WORK].ProcedureStepProgressInformationSequence
        assert progress.ReasonForCancellation == "its job was given up: the model is broken"


def test_a_refused_result_keeps_the_workitem_open_for_an_operator(tmp_path) -> None:
    with performing(tmp_path) as site:
        site.manager.schedule(WORK, STUDY)
        study = receive(site.ledger, STUDY)
        (job,) = close(site.ledger, study, [new_job(site.ledger, study)])
        finish(site.ledger, claim(site.ledger, job))
        for one in sorted(site.ledger.deliveries_of(job), key=lambda one: (one.result.role.is_root, one.id)):
            event = DeliveryEvent.REFUSED if one.result.role.is_root else DeliveryEvent.ACCEPTED
            send(site.ledger, one.id, event, status=0xA900 if one.result.role.is_root else 0)
            if not one.result.role.is_root:
                site.ledger.confirm_delivery(one.id, "found")
        site.look()
        assert site.look() is WorkitemState.IN_PROGRESS
        [progress] = site.manager.items[WORK].ProcedureStepProgressInformationSequence
        assert progress.ProcedureStepProgressDescription == "a result was refused by PACS"


def test_images_that_nobody_sends_are_fetched_once_and_not_waited_for_for_ever(tmp_path) -> None:
    with performing(tmp_path, fetch_from="PACS") as site:
        site.manager.schedule(WORK, STUDY)
        for _ in range(3):
            site.look()
        (fetch,) = site.ledger.fetches_of(Uid(STUDY))
        assert (fetch.purpose, fetch.peer) == (Purpose.WISH, "PACS")
        site.ledger.fetch_abandoned(fetch.id, "PACS does not have it")
        assert site.look() is WorkitemState.CANCELED
        [progress] = site.manager.items[WORK].ProcedureStepProgressInformationSequence
        assert progress.ReasonForCancellation == "its images could not be fetched: PACS does not have it"


def test_a_task_manager_that_is_away_loses_nothing(tmp_path) -> None:
    with performing(tmp_path) as site:
        site.manager.schedule(WORK, STUDY)
        close(site.ledger, receive(site.ledger, STUDY))
        site.look()
        manager = site.manager
    with Ledger.open(site.site.ledger) as ledger:
        Performer(ledger, site.site).round()
        (one,) = ledger.workitems()
        assert one.state is WorkitemState.IN_PROGRESS
        with task_manager(manager):
            Performer(ledger, site.site).round()
        assert manager.state(WORK) == "CANCELED"


def test_a_workitem_that_the_manager_took_back_is_let_go(tmp_path) -> None:
    with performing(tmp_path) as site:
        site.manager.schedule(WORK, STUDY)
        site.look()
        receive(site.ledger, STUDY)
        del site.manager.items[WORK]
        assert site.look() is WorkitemState.LOST
