"""Messages that were waiting go on when the table of them is made anew."""

from pathlib import Path

from ledger.notification import NewNotification, NotificationEvent, NotificationState, Occasion, Wish
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.ledger.site import claim, finish, queued_job, send
from tests.ledger.test_migration_0002 import at_revision

RIS = Wish(receiver="RIS", occasions=tuple(Occasion))


def test_a_message_that_waits_goes_on_and_its_number_is_never_given_again(
    settings: LedgerSettings, tmp_path: Path
) -> None:
    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/newest.sqlite")) as newest:
        newest.owed_notifications([RIS])
        job_id = queued_job(newest)
        for one in finish(newest, claim(newest, job_id)):
            send(newest, one)
            newest.confirm_delivery(one, "found")
        (owed,) = newest.owed_notifications([RIS])
        number = newest.open_notification(owed, NewNotification(control_id="W1", body="MSH|…"))
        assert number is not None
        before = newest.notifications()
        at_revision(settings, "0013", like=newest)

    with Ledger.open(settings) as ledger:
        assert ledger.notifications() == before
        assert ledger.owed_notifications([RIS]) == []
        held = ledger.claim_notification(number, owner="sender-1", lease_s=60)
        assert held is not None
        assert held.body == "MSH|…"
        state = ledger.record_notification(held, NotificationEvent.ACCEPTED, because="it answered AA")
        assert state is NotificationState.TAKEN
