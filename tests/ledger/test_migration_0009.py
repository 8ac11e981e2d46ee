"""A site with work of every kind under way takes up profiles, notifications and workitems, and goes on."""

from dataclasses import replace
from pathlib import Path

from ledger.delivery import DeliveryEvent, DeliveryState
from ledger.identifiers import JobId
from ledger.job import JobState, Outcome
from ledger.notification import Occasion, Wish
from ledger.result import Role
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.ledger.site import (
    OPERATOR,
    claim,
    close,
    finish,
    new_job,
    queued_job,
    receive,
    result,
    send,
    slice_of,
)
from tests.ledger.test_migration_0002 import at_revision

BOTH = ("PACS", "RESEARCH")


def _known(ledger: Ledger, jobs: list[JobId]) -> list[object]:
    """All that is told of jobs."""
    ids = [ledger.job(job_id).study_id for job_id in jobs]
    return [
        [ledger.job(job_id) for job_id in jobs],
        [ledger.results_of(job_id) for job_id in jobs],
        [ledger.deliveries_of(job_id) for job_id in jobs],
        [ledger.study(study_id) for study_id in ids],
        ledger.history(),
    ]


def test_queued_running_and_done_jobs_of_an_earlier_version_go_on(
    settings: LedgerSettings, tmp_path: Path
) -> None:
    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/newest.sqlite")) as newest:
        queued = queued_job(newest, "1.2.1", to=BOTH)
        running = queued_job(newest, "1.2.2", to=BOTH)
        held = claim(newest, running)
        done = queued_job(newest, "1.2.3", to=BOTH)
        finish(newest, claim(newest, done))
        # The leaves have arrived; one root was refused, and one is still to go.
        by = {(one.peer, one.result.role): one.id for one in newest.deliveries_of(done)}
        for peer in BOTH:
            send(newest, by[peer, Role.SEGMENTATION])
            newest.confirm_delivery(by[peer, Role.SEGMENTATION], "found")
        send(newest, by["RESEARCH", Role.REPORT], DeliveryEvent.REFUSED, status=0xA900)
        before = _known(newest, [queued, running, done])
        at_revision(settings, "0008", like=newest)

    with Ledger.open(settings) as ledger:
        assert _known(ledger, [queued, running, done]) == before
        assert [one.peers for one in ledger.results_of(done)] == [None, None]
        assert [one.instead_of for one in ledger.results_of(done)] == [None, None]

        # The root that waited goes; the one that was refused is sent again when an operator says so.
        send(ledger, by["PACS", Role.REPORT])
        ledger.retry_delivery(by["RESEARCH", Role.REPORT], "allowed there now", by=OPERATOR)
        send(ledger, by["RESEARCH", Role.REPORT])
        assert {one.state for one in ledger.deliveries_of(done)} == {
            DeliveryState.COMMITTED,
            DeliveryState.SENT,
        }
        # The run that was under way is recorded; what it made before profiles were known is for all.
        assert len(finish(ledger, held)) == 4
        assert ledger.job(running).state is JobState.DONE
        # The one that waited is run, and each destination gets its own.
        taken = claim(ledger, queued)
        reports = [
            replace(result(Role.REPORT, number, "2.25.9"), peers=(peer,))
            for number, peer in enumerate(BOTH, start=1)
        ]
        ledger.finish_job(
            taken, outcome=Outcome.FOUND, because="", model_identity="lungs@1", results=reports, timings={}
        )
        assert [(one.peer, one.result.peers) for one in ledger.deliveries_of(queued)] == [
            (peer, (peer,)) for peer in BOTH
        ]


def test_a_job_that_waited_names_the_one_predecessor_to_all_and_the_next_one_to_each_its_own(
    settings: LedgerSettings, tmp_path: Path
) -> None:
    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/newest.sqlite")) as newest:
        first = queued_job(newest, "1.2.3", to=BOTH)
        for one in finish(newest, claim(newest, first)):
            send(newest, one)
        newest.record_arrivals([slice_of("1.2.3", 4)])
        study_id = newest.studies()[0].id
        (second,) = close(newest, study_id, [new_job(newest, study_id, to=BOTH)])
        at_revision(settings, "0008", like=newest)

    with Ledger.open(settings) as ledger:
        (report,) = [one for one in ledger.results_of(first) if one.role is Role.REPORT]
        held = claim(ledger, second)
        assert held.predecessors == dict.fromkeys(BOTH, report)
        ledger.finish_job(
            held,
            outcome=Outcome.FOUND,
            because="",
            model_identity="lungs@1",
            results=[
                replace(result(Role.REPORT, number, "2.25.9"), peers=(peer,))
                for number, peer in enumerate(BOTH, start=1)
            ],
            timings={},
        )
        for delivery in ledger.deliveries_of(second):
            send(ledger, delivery.id)
        receive(ledger, "1.2.3", [5])
        (third,) = close(ledger, study_id, [new_job(ledger, study_id, to=BOTH)])
        theirs = {one.peer: one.result for one in ledger.deliveries_of(second)}
        assert theirs["PACS"] != theirs["RESEARCH"]
        assert claim(ledger, third).predecessors == theirs


def _arrive(ledger: Ledger, job_id: JobId) -> None:
    for one in finish(ledger, claim(ledger, job_id)):
        send(ledger, one)
        ledger.confirm_delivery(one, "found")


def test_who_wants_to_be_told_hears_of_what_ends_from_now_on(
    settings: LedgerSettings, tmp_path: Path
) -> None:
    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/newest.sqlite")) as newest:
        _arrive(newest, queued_job(newest, "1.2.3"))
        waiting = queued_job(newest, "1.2.4")
        at_revision(settings, "0008", like=newest)

    with Ledger.open(settings) as ledger:
        ris = [Wish(receiver="RIS", occasions=tuple(Occasion))]
        assert ledger.owed_notifications(ris) == []
        _arrive(ledger, waiting)
        assert [one.job_id for one in ledger.owed_notifications(ris)] == [waiting]
