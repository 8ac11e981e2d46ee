"""Whoever wants to know is told that a run has ended: once the archive has the results, until it is taken."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from dicom_node.peers import PeerSettings
from dicom_node.receivers import ReceiverSettings
from ledger import failpoint
from ledger.delivery import DeliveryState
from ledger.identifiers import JobId
from ledger.job import Outcome
from ledger.notification import NewNotification, NotificationRecord, NotificationState
from results.findings import Findings, refused
from tests.ledger.site import OPERATOR, pass_by, send
from tests.patience import patient
from tests.peers.receivers import acknowledge, engine, field_of, framed, says, web
from tests.worker.overtaken import Overtaken, overtaken
from worker.notify import Messenger, Notices


def receiver(url: str, kind: str = "hl7v2", **more: object) -> ReceiverSettings:
    limits = {"connect_s": patient(2), "deadline_s": patient(2)}
    return ReceiverSettings(name="RIS", kind=kind, to={"url": url}, **limits, **more)


@contextmanager
def site(folder: Path, *receivers: ReceiverSettings) -> Iterator[Overtaken]:
    """One archive, of which the test says what it has; nobody listens there."""
    pacs = PeerSettings(name="PACS", ae_title="PACS", host="127.0.0.1", port=1, confirm="answer")
    with overtaken(folder, pacs) as made:
        made.site = made.site.model_copy(update={"receivers": receivers, "time_zone": "Europe/Berlin"})
        notices(made).open()  # The receivers are known from now on.
        yield made


def notices(made: Overtaken) -> Notices:
    return Notices(made.ledger, made.spool, made.site)


def arrive(made: Overtaken, job_id: JobId) -> None:
    """The archive takes and proves all that is under way of the job."""
    waiting = [one for one in made.ledger.deliveries_of(job_id) if one.state is DeliveryState.WAITING]
    for one in sorted(waiting, key=lambda one: (one.result.role.is_root, one.id)):
        send(made.ledger, one.id)
        made.ledger.confirm_delivery(one.id, "found")


def told(made: Overtaken) -> list[NotificationRecord]:
    return made.ledger.notifications_of(made.ledger.studies()[0].id)


def tell(made: Overtaken) -> list[NotificationRecord]:
    """One attempt at everything that is due."""
    messenger = Messenger(made.ledger, made.site, owner="teller")
    for one in told(made):
        messenger.tell(one.id)
    return told(made)


def test_nobody_is_told_before_the_archive_has_everything(tmp_path: Path) -> None:
    with engine() as ris, site(tmp_path, receiver(ris.url)) as made:
        job_id = made.result()
        notices(made).open()
        assert told(made) == []

        arrive(made, job_id)
        notices(made).open()
        notices(made).open()
        (one,) = tell(made)
        assert (one.state, one.occasion, one.corrects) == (NotificationState.TAKEN, "found", False)
        (message,) = ris.messages
        assert field_of(message.decode(), "MSH", 10) == one.control_id
        assert field_of(message.decode(), "OBR", 25) == "P"
        assert "not verified" in message.decode()


def test_a_result_that_replaces_one_is_a_correction_of_the_same_report(tmp_path: Path) -> None:
    with web() as server, site(tmp_path, receiver(server.url, "fhir")) as made:
        for _ in range(2):
            arrive(made, made.result())
            notices(made).open()
            tell(made)
        (report,) = server.reports
        assert report["status"] == "corrected"
        assert [json.loads(body)["status"] for *_, body in server.requests] == ["preliminary", "corrected"]


def test_a_correction_waits_for_what_it_corrects(tmp_path: Path) -> None:
    with engine(says("AE")) as ris, site(tmp_path, receiver(ris.url)) as made:
        for _ in range(2):
            arrive(made, made.result())
            notices(made).open()
        first, second = tell(made)
        assert (first.state, second.state) == (NotificationState.WAITING, NotificationState.WAITING)
        assert (first.attempts, second.attempts) == (1, 0)

        ris.behave = says("AA")
        pass_by(made.ledger, first.next_attempt_at - made.ledger.now())
        first, second = tell(made)
        assert {first.state, second.state} == {NotificationState.TAKEN}
        assert [field_of(one.decode(), "OBR", 25) for one in ris.messages] == ["P", "P", "C"]
        assert ris.messages[0] == ris.messages[1]  # The same bytes under the same number.


@pytest.mark.parametrize(
    ("said", "occasion"),
    [
        (Findings(outcome=Outcome.NOTHING, because="No nodule."), "nothing"),
        (refused("Slices are missing."), "refused"),
    ],
)
def test_nothing_and_a_refusal_are_answers_too(tmp_path: Path, said: Findings, occasion: str) -> None:
    with engine() as ris, site(tmp_path, receiver(ris.url)) as made:
        job_id = made.result(said)
        arrive(made, job_id)
        notices(made).open()
        (one,) = tell(made)
        assert (one.occasion, one.state) == (occasion, NotificationState.TAKEN)
        assert said.because.rstrip(".") in ris.messages[0].decode()


def test_a_receiver_hears_only_of_what_it_wants(tmp_path: Path) -> None:
    wanted = receiver("mllp://127.0.0.1:1", rules=("lungs",), models=("lung_ct",))
    others = [
        wanted.model_copy(update={"name": "other-rule", "rules": ("hearts",)}),
        wanted.model_copy(update={"name": "other-model", "models": ("lung",)}),
        wanted.model_copy(update={"name": "refusals", "events": ("refused",)}),
        wanted.model_copy(update={"name": "other-archive", "archive": "VNA"}),
    ]
    with site(tmp_path, wanted, *others) as made:
        arrive(made, made.result())
        notices(made).open()
        assert [one.receiver for one in told(made)] == ["RIS"]


def test_a_receiver_that_is_new_hears_of_what_ends_from_now_on(tmp_path: Path) -> None:
    with site(tmp_path) as made:
        arrive(made, made.result())
        made.site = made.site.model_copy(update={"receivers": (receiver("mllp://127.0.0.1:1"),)})
        notices(made).open()
        assert told(made) == []
        arrive(made, made.result())
        notices(made).open()
        assert [one.job_id for one in told(made)] == made.jobs[1:]


def test_a_receiver_that_is_away_is_told_when_it_is_back_however_long_that_takes(tmp_path: Path) -> None:
    with site(tmp_path, receiver("mllp://127.0.0.1:1")) as made:
        arrive(made, made.result())
        notices(made).open()
        (one,) = tell(made)
        assert one.state is NotificationState.WAITING
        assert "connection refused" in one.because
        with engine() as ris:
            made.site = made.site.model_copy(update={"receivers": (receiver(ris.url),)})
            pass_by(made.ledger, one.next_attempt_at - made.ledger.now())
            (one,) = tell(made)
            assert one.state is NotificationState.TAKEN


def test_what_is_refused_for_good_waits_for_an_operator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with engine(says("AR", text="Doe^Jane is not known")) as ris, site(tmp_path, receiver(ris.url)) as made:
        arrive(made, made.result())
        notices(made).open()
        (one,) = tell(made)
        assert one.state is NotificationState.PARKED
        assert "AR" in one.because
        assert "Doe" not in one.because  # Its own words stay its own.
        logged = "".join(capsys.readouterr())
        assert "notification.refused" in logged
        assert not [word for word in ("Doe", "Jane", "MRN-0815", "ACC-1", "19600229") if word in logged]
        history = str(made.ledger.history())
        assert not [word for word in ("Doe", "Jane", "MRN-0815", "ACC-1", "19600229") if word in history]

        made.ledger.retry_notification(one.id, "corrected at the RIS", by=OPERATOR)
        ris.behave = lambda message: framed(acknowledge(message, "CA"))
        (one,) = tell(made)
        assert one.state is NotificationState.TAKEN
        assert ris.messages[0] == ris.messages[1]


def test_a_receiver_that_left_the_settings_is_told_nothing(tmp_path: Path) -> None:
    with site(tmp_path, receiver("mllp://127.0.0.1:1")) as made:
        arrive(made, made.result())
        notices(made).open()
        made.site = made.site.model_copy(update={"receivers": ()})
        (one,) = tell(made)
        assert one.state is NotificationState.PARKED
        assert "no [[notify]] called RIS" in one.because


def test_a_worker_that_is_stopped_gives_back_what_is_on_its_way(tmp_path: Path) -> None:
    with site(tmp_path, receiver("mllp://127.0.0.1:1")) as made:
        arrive(made, made.result())
        notices(made).open()
        messenger = Messenger(made.ledger, made.site, owner="teller")
        (one,) = told(made)
        held = made.ledger.claim_notification(one.id, owner="teller", lease_s=60)
        assert held is not None
        messenger._on_their_way[one.id] = held
        messenger.stop()
        messenger.give_back()
        (one,) = told(made)
        assert (one.state, one.because) == (NotificationState.WAITING, "the worker was stopped")
        messenger.tell(one.id)
        assert told(made)[0].attempts == 1


def test_a_purged_study_keeps_no_message(tmp_path: Path) -> None:
    with engine() as ris, site(tmp_path, receiver(ris.url)) as made:
        arrive(made, made.result())
        notices(made).open()
        tell(made)
        study = made.ledger.studies()[0]
        made.ledger.purge_study(study.id, "its time is over")
        (one,) = told(made)
        with made.ledger.read() as tx:
            assert tx.connection.execute(text("SELECT body FROM notification")).scalars().all() == [""]
        assert one.state is NotificationState.TAKEN


@pytest.mark.parametrize("point", ["notification_made", "notification_opened"])
def test_a_round_that_ends_anywhere_leaves_the_message_to_the_next_one(tmp_path: Path, point: str) -> None:
    with site(tmp_path, receiver("mllp://127.0.0.1:1")) as made:
        arrive(made, made.result())
        failpoint.arm(f"{point}:raise")
        try:
            with pytest.raises(failpoint.FailpointReached):
                notices(made).open()
        finally:
            failpoint.disarm()
        notices(made).open()
        assert len(told(made)) == 1


@pytest.mark.parametrize("point", ["notification_claimed", "notification_sent", "notification_recorded"])
def test_a_worker_that_ends_anywhere_sends_nothing_but_the_same_again(tmp_path: Path, point: str) -> None:
    with engine() as ris, site(tmp_path, receiver(ris.url)) as made:
        made.site = made.site.model_copy(
            update={"delivery": made.site.delivery.model_copy(update={"lease_s": 0.3, "heartbeat_s": 0.2})}
        )
        arrive(made, made.result())
        notices(made).open()
        (one,) = told(made)
        failpoint.arm(f"{point}:raise")
        try:
            with pytest.raises(failpoint.FailpointReached):
                Messenger(made.ledger, made.site, owner="doomed").tell(one.id)
        finally:
            failpoint.disarm()
        pass_by(made.ledger, 0.4)
        made.ledger.sweep(republish_after_s=60, attempts_max=3, crash_backoff_s=0)
        (one,) = tell(made)
        assert one.state is NotificationState.TAKEN
        assert len(set(ris.messages)) == 1
        assert len(ris.messages) == (2 if point == "notification_sent" else 1)


def test_reports_that_are_gone_from_the_spool_hold_up_nobody_elses_message(tmp_path: Path) -> None:
    with site(tmp_path, receiver("mllp://127.0.0.1:1")) as made:
        first = made.result()
        arrive(made, first)
        for one in made.ledger.results_of(first):
            made.spool.absolute(one.path).unlink()
        second = made.result(rule="airways")
        arrive(made, second)
        one_by_one = Notices(made.ledger, made.spool, made.site, at_once=1)
        one_by_one.open()
        assert told(made) == []
        one_by_one.open()
        assert [one.job_id for one in told(made)] == [second]


def test_two_dispatchers_open_one_notification(tmp_path: Path) -> None:
    with site(tmp_path, receiver("mllp://127.0.0.1:1")) as made:
        arrive(made, made.result())
        owed = made.ledger.owed_notifications([one.wish for one in made.site.receivers])
        (one,) = owed
        new = NewNotification(control_id="W1", body="MSH|")
        assert made.ledger.open_notification(one, new) is not None
        assert made.ledger.open_notification(one, replace(new, control_id="W2")) is None
        assert [each.control_id for each in told(made)] == ["W1"]
