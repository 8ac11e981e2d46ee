"""A test message to one receiver, in the words of whoever has to mend it."""

import secrets
import time
from datetime import UTC, datetime
from difflib import get_close_matches

from pydicom.uid import generate_uid

from console.complaints import SettingsRefused
from console.settings import Site
from dicom_node.receivers import ReceiverSettings
from dicom_node.tell import Told
from ledger.audit import Actor
from ledger.notification import NotificationState
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from results.notification import bare_notice
from results.notification_text import Happened, Who
from worker.notify import body_of, send_message
from worker.words import check_templates, text_body

_TEST = "This is a test of the connection. There is no patient and no study"


def test_receiver(site: Site, name: str) -> tuple[bool, str]:
    """Whether the receiver called `name` took a message, and the sentence to show. Raises `SettingsRefused`
    for an unknown one.
    """
    receiver = next((one for one in site.receivers if one.name == name), None)
    if receiver is None:
        known = [one.name for one in site.receivers]
        close = get_close_matches(name, known, n=1)
        guess = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"
        raise SettingsRefused(f"there is no [[notify]] called {name!r}; {guess}")
    control_id = f"T{secrets.token_hex(9)}".upper()
    began = time.monotonic()
    if receiver.tells_text:
        check_templates([receiver], datetime.now(UTC))
        heard = send_message(receiver, control_id, _in_words(receiver, control_id))
    else:
        heard = send_message(receiver, control_id, _of_standard(receiver, control_id))
    where = f"{receiver.name} ({receiver.to.url.partition('?')[0]})"
    clear = (
        " Whoever listens on the way can read what is sent: it goes in the clear." * receiver.to.in_the_clear
    )
    if heard.told is Told.TAKEN:
        took_ms = (time.monotonic() - began) * 1000
        return True, f"{where} took a test message in {took_ms:.0f} ms: {heard.because}.{clear}"
    return False, f"{where} did not take a test message: {heard.because}.{clear}"


def retry_receiver(ledger: Ledger, name: str, because: str, *, by: Actor) -> str:
    """Send again what a receiver refused, or what was withdrawn. Returns what was done, as a sentence."""
    stopped = [NotificationState.PARKED, NotificationState.CANCELLED]
    mine = [one for one in ledger.notifications(states=stopped, limit=10_000) if one.receiver == name]
    again, last = 0, ""
    for one in reversed(mine):
        try:
            ledger.retry_notification(one.id, because, by=by)
            again += 1
        except IllegalTransition as error:
            last = str(error)
    if not mine:
        return f"Nothing for {name} is parked or withdrawn."
    left = f" {len(mine) - again} of them cannot: {last}." if again < len(mine) else ""
    messages = "1 message" if again == 1 else f"{again} messages"
    return f"{messages} to {name} will be sent again.{left}"


def _in_words(receiver: ReceiverSettings, control_id: str) -> str:
    now = datetime.now(UTC)
    test = Happened(
        id=control_id,
        event=receiver.events[0] if receiver.events else "alarm",
        at=now.isoformat(timespec="seconds"),
        receiver=receiver.name,
        sentence=f"{_TEST}.",
        rule="test",
        model="test",
        job=0,
        corrects=False,
        findings=(),
        patient=Who(name="Test^Wetread", id="WETREAD-TEST", accession="WETREAD-TEST", study="", study_date="")
        if receiver.patient
        else None,
        alarm=None if receiver.events else "test",
        about="",
        urgent=False,
        since=now.isoformat(timespec="seconds"),
        link="",
    )
    return text_body(receiver, test, now)


def _of_standard(receiver: ReceiverSettings, control_id: str) -> str:
    notice = bare_notice(
        rule="test",
        subject="test",
        model="test",
        because=_TEST,
        study=str(generate_uid(prefix=None)),
        patient_id="WETREAD-TEST",
        patient_name="Test^Wetread",
        accession="WETREAD-TEST",
        study_date="",
        at=datetime.now(UTC),
    )
    training = receiver if receiver.processing == "D" else receiver.model_copy(update={"processing": "T"})
    return body_of(training, notice, control_id)
