"""
What people and programs are told in words: ends of runs and alarms, each once, and not too many in an hour.

Who may not know the patient is told nothing that only somebody who treats the patient should know: no name,
no number, no UID, no finding, and no reason in the words of a run. Job, rule and model say where to look.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import structlog

from dicom_node.receivers import ReceiverSettings
from ledger.errors import ModelError
from ledger.failpoint import failpoint
from ledger.feedback_link import VALID_S, link_path
from ledger.notification import NewNotification, Occasion, OwedAlarm, OwedNotification
from ledger.store.ledger import Ledger
from results.notification import Notice
from results.notification_text import Happened, TemplateUnusable, Text, Who, mail_of, samples, webhook_body
from worker.settings import WorkerSite

log = structlog.get_logger()

HOUR_S = 3600.0
_GATHERED_MOST = 500  # In one digest; what is beyond comes with the next.
_UID = re.compile(r"\b[0-9]+(?:\.[0-9]+){4,}\b")
_SAID = {
    Occasion.FOUND: "{model} has findings, and the archive has the report.",
    Occasion.NOTHING: "{model} found nothing, and the archive has the report.",
    Occasion.REFUSED: "{model} did not analyse the images: they are not for it, or failed quality control.",
    Occasion.GIVEN_UP: "A run of {model} was given up: it waits for somebody to decide.",
}

Owed = OwedNotification | OwedAlarm


class Words:
    """Where messages in words are made."""

    def __init__(
        self, ledger: Ledger, site: WorkerSite, notice: Callable[[OwedNotification], Notice]
    ) -> None:
        """`notice` reads what a report says. It raises `ModelError` where that cannot be read."""
        self._ledger, self._notice = ledger, notice
        self._zone, self._console_url = ZoneInfo(site.time_zone), site.console_url
        self._told: set[tuple[str, str]] = set()  # Of which trouble was logged: receiver and event.

    def open(self, receiver: ReceiverSettings) -> None:
        """Make every message that is owed to `receiver` now, as many as it may get.

        One that its template cannot be filled with goes in our own words. Trouble with one holds up no other.
        """
        owed = self._owed(receiver)
        if not owed:
            return
        room = receiver.at_most - self._ledger.opened_lately(receiver.name, within_s=HOUR_S)
        if room <= 0:
            return
        single = owed if len(owed) <= room else owed[: room - 1]
        for one in single:
            self._open(receiver, one)
        if gathered := owed[len(single) :]:
            self._gather(receiver, gathered)

    def _owed(self, receiver: ReceiverSettings) -> list[Owed]:
        owed: list[Owed] = [*self._ledger.owed_notifications([receiver.wish], limit=_GATHERED_MOST)]
        if (wish := receiver.alarm_wish) is not None:
            owed += self._ledger.owed_alarms([wish], limit=_GATHERED_MOST)
        return sorted(owed, key=lambda one: one.at)

    def _open(self, receiver: ReceiverSettings, owed: Owed) -> None:
        new = self._message(receiver, self._happened(receiver, owed), owed.at)
        if new is None:
            return
        failpoint("notification_made")
        if isinstance(owed, OwedAlarm):
            opened = self._ledger.open_alarm(owed, new)
        else:
            opened = self._ledger.open_notification(owed, new)
        failpoint("notification_opened")
        if opened is not None:
            log.info(
                "notification.opened", notification=opened, receiver=receiver.name, occasion=owed.occasion
            )

    def _gather(self, receiver: ReceiverSettings, owed: Sequence[Owed]) -> None:
        counts = Counter(_kind(one) for one in owed)
        last = owed[-1].at
        happened = Happened(
            id=_number(receiver.name, "digest", *(_named(one) for one in owed)),
            event="digest",
            at=self._time(last),
            receiver=receiver.name,
            sentence=(
                f"{len(owed)} more things happened than are told one by one: at most {receiver.at_most} "
                "messages go out in an hour."
            ),
            many=len(owed),
            counts=dict(counts),
        )
        new = self._message(receiver, happened, last)
        if new is None:
            return
        opened = self._ledger.open_digest(owed, new)
        if opened is not None:
            log.info("notification.gathered", notification=opened, receiver=receiver.name, many=len(owed))

    def _message(self, receiver: ReceiverSettings, happened: Happened, at: float) -> NewNotification | None:
        """By the template of the receiver, or ours where that one cannot be filled; None: neither can."""
        moment = datetime.fromtimestamp(at, self._zone)
        for one in (receiver, receiver.model_copy(update={"template": None})):
            try:
                return NewNotification(control_id=happened.id, body=text_body(one, happened, moment))
            except TemplateUnusable as error:
                self._trouble(receiver, happened, error)
        return None

    def _trouble(self, receiver: ReceiverSettings, happened: Happened, error: TemplateUnusable) -> None:
        """Said once of each receiver and event; without its words where they may quote a patient's name."""
        if (key := (receiver.name, happened.event)) not in self._told:
            self._told.add(key)
            because = "the template cannot be filled" if receiver.patient else str(error)
            log.error(
                "notification.template", receiver=receiver.name, occasion=happened.event, because=because
            )

    def _happened(self, receiver: ReceiverSettings, owed: Owed) -> Happened:
        if isinstance(owed, OwedAlarm):
            alarm = owed.alarm
            return Happened(
                id=_number(receiver.name, _named(owed)),
                event=owed.occasion,
                at=self._time(owed.at),
                receiver=receiver.name,
                sentence=alarm.words if receiver.patient else _UID.sub("…", alarm.words),
                alarm=alarm.kind,
                about=alarm.about,
                urgent=alarm.urgent,
                since=self._time(alarm.opened_at),
            )
        common = {
            "id": _number(receiver.name, _named(owed)),
            "event": str(owed.occasion),
            "at": self._time(owed.at),
            "receiver": receiver.name,
        }
        said = _SAID[owed.occasion].format(model=owed.model)
        of_run = {
            "rule": owed.rule,
            "model": owed.model,
            "job": int(owed.job_id),
            "corrects": owed.corrects,
            "feedback": self._feedback(owed),
        }
        if not receiver.patient:
            return Happened(**common, **of_run, sentence=said)  # type: ignore[arg-type]
        study = self._ledger.study(owed.study_id)
        notice = self._read(owed)
        return Happened(
            **common,  # type: ignore[arg-type]
            **of_run,  # type: ignore[arg-type]
            sentence=f"{said} {owed.because}".strip(),
            findings=notice.text if notice else (),
            link=receiver.link(
                study=str(study.study),
                series=notice.report_series if notice else "",
                report=notice.report if notice else "",
                accession=study.accession_number,
            ),
            patient=Who(
                name=study.patient_name,
                id=study.patient_id,
                accession=study.accession_number,
                study=str(study.study),
                study_date=study.study_date,
            ),
        )

    def _feedback(self, owed: OwedNotification) -> str | None:
        """Where a reader says what the result is worth; the same whenever the message is made."""
        if self._console_url is None or owed.occasion is Occasion.GIVEN_UP:
            return None
        path = link_path(self._ledger.feedback_key(), owed.job_id, owed.at + VALID_S)
        return f"{self._console_url.rstrip('/')}{path}"

    def _read(self, owed: OwedNotification) -> Notice | None:
        """What the report says; None where it cannot be read any more: that it is there is told anyway."""
        try:
            return self._notice(owed)
        except ModelError as error:
            log.warning("notification.without_findings", job=owed.job_id, because=str(error))
            return None

    def _time(self, at: float) -> str:
        return datetime.fromtimestamp(at, self._zone).isoformat(timespec="seconds")


def text_body(receiver: ReceiverSettings, happened: Happened, at: datetime) -> str:
    """The message as it goes. Raises `TemplateUnusable`."""
    text = Text.read(receiver.template, receiver.kind)
    if receiver.kind == "webhook":
        return webhook_body(text, happened, content_type=receiver.content_type)
    assert receiver.sender is not None
    return mail_of(text, happened, sender=receiver.sender, recipients=receiver.recipients, at=at)


def check_templates(receivers: Iterable[ReceiverSettings], at: datetime) -> None:
    """Try every template on all that its receiver may hear of. Raises `TemplateUnusable`."""
    for receiver in receivers:
        if not receiver.tells_text:
            continue
        for sample in samples(receiver.events, alarms=bool(receiver.alarms), patient=receiver.patient):
            try:
                text_body(receiver, sample, at)
            except TemplateUnusable as error:
                raise TemplateUnusable(
                    f"[[notify]] {receiver.name!r}, at {sample.event!r}: {error}"
                ) from None


def _kind(owed: Owed) -> str:
    if not isinstance(owed, OwedAlarm):
        return str(owed.occasion)
    over = " over" if owed.occasion is Occasion.CLEARED else ""
    return f"alarm{over}: {owed.alarm.kind}"


def _named(owed: Owed) -> str:
    if isinstance(owed, OwedAlarm):
        return f"{owed.occasion} {owed.alarm.id}"
    return f"{owed.job_id} {owed.job_epoch}"


def _number(*parts: str) -> str:
    """What names a message to its receiver: the same for whoever makes it again."""
    return f"W{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:19]}".upper()
