"""
Telling a RIS, an interface engine or a FHIR server that a run has ended: opening what is owed, sending it.

Each round asks the ledger what is owed. So it does not matter when the archive proved that it has the
results, by whom that was recorded, or who died in between: what is owed and not yet opened is found again.
The message is made once and kept in the ledger; every attempt sends the same bytes under the same number.

People and programs that are told in words get so many messages in an hour (`worker.words`): what is beyond
goes together into one, so that a bad night is no thousand mails.
"""

import hashlib
from datetime import datetime
from zoneinfo import ZoneInfo

import pydicom
import structlog
from pydicom.errors import InvalidDicomError

from dicom_node.receivers import ReceiverSettings
from dicom_node.spool import Spool
from dicom_node.tell import Heard, Told, tell
from ledger.errors import ModelError, SiteError, WetreadError
from ledger.failpoint import failpoint
from ledger.job import LeaseLost
from ledger.notification import NewNotification, NotificationClaim, NotificationEvent, OwedNotification
from ledger.store.ledger import Ledger
from results.notification import Notice, bare_notice, notice_of
from results.notification_fhir import conditional_query, diagnostic_report
from results.notification_hl7 import Envelope, oru
from worker.deliver import backoff_s
from worker.errand import Errands
from worker.settings import WorkerSite
from worker.words import Words

log = structlog.get_logger()


class ReportNotThere(ModelError):
    """The report that a notification would repeat is damaged or gone from the spool."""


class Notices:
    """Where messages are made. One is enough; several do no harm."""

    def __init__(self, ledger: Ledger, spool: Spool, site: WorkerSite, *, at_once: int = 100) -> None:
        self._ledger, self._spool, self._site, self._at_once = ledger, spool, site, at_once
        self._told: set[tuple[int, str]] = set()
        self._words = Words(ledger, site, self._notice)

    def open(self) -> None:
        """Make every message that is owed now. Trouble with one holds up no other."""
        if not self._site.receivers:
            return
        try:
            # What cannot be made stays owed, and comes first in every round.
            at_once = self._at_once + len(self._told)
            for owed in self._ledger.owed_notifications(
                [one.wish for one in self._site.receivers if not one.tells_text], limit=at_once
            ):
                try:
                    self._open(owed)
                except ModelError as error:
                    self._trouble(owed, error)
            for receiver in self._site.receivers:
                if receiver.tells_text:
                    self._words.open(receiver)
        except SiteError as error:  # The ledger is away: the next round tries again.
            log.warning("notification.postponed", because=str(error))

    def _open(self, owed: OwedNotification) -> None:
        receiver = self._site.receiver(owed.receiver)
        assert receiver is not None
        new = message(receiver, self._notice(owed), owed)
        failpoint("notification_made")
        opened = self._ledger.open_notification(owed, new)
        failpoint("notification_opened")
        if opened is not None:
            log.info(
                "notification.opened",
                notification=opened,
                job=owed.job_id,
                receiver=owed.receiver,
                occasion=owed.occasion,
                corrects=owed.corrects,
            )

    def _notice(self, owed: OwedNotification) -> Notice:
        zone = ZoneInfo(self._site.time_zone)
        if owed.report is None:
            study = self._ledger.study(owed.study_id)
            return bare_notice(
                rule=owed.rule,
                subject=owed.subject,
                model=owed.model,
                because=owed.because,
                study=str(study.study),
                patient_id=study.patient_id,
                patient_name=study.patient_name,
                accession=study.accession_number,
                study_date=study.study_date,
                at=datetime.fromtimestamp(owed.at, zone),
                beside=owed.beside,
            )
        try:
            report = pydicom.dcmread(self._spool.absolute(owed.report.path))
            return notice_of(
                report,
                occasion=owed.occasion,
                corrects=owed.corrects,
                rule=owed.rule,
                subject=owed.subject,
                zone=zone,
                beside=owed.beside,
            )
        except (OSError, InvalidDicomError, EOFError, AttributeError, KeyError, ValueError) as error:
            raise ReportNotThere(f"result {owed.report.id} cannot be read from the spool") from error

    def _trouble(self, owed: OwedNotification, error: WetreadError) -> None:
        """It would end the same way in every round: said once."""
        if (key := (owed.job_id, owed.receiver)) not in self._told:
            self._told.add(key)
            log.error("notification.failed", job=owed.job_id, receiver=owed.receiver, because=str(error))


def message(receiver: ReceiverSettings, notice: Notice, owed: OwedNotification) -> NewNotification:
    """The message for `receiver`, and its number: the same for whoever makes it again."""
    named = f"{owed.receiver}|{notice.line}|{owed.job_id}|{owed.job_epoch}|{notice.report}"
    control_id = f"W{hashlib.sha256(named.encode()).hexdigest()[:19]}".upper()
    return NewNotification(control_id=control_id, body=body_of(receiver, notice, control_id))


def body_of(receiver: ReceiverSettings, notice: Notice, control_id: str) -> str:
    """The message in the form that `receiver` takes."""
    accession = notice.about.accession
    viewer = receiver.link(
        study=notice.about.uid,
        series=notice.report_series,
        report=notice.report,
        accession=accession.value if accession else "",
    )
    if receiver.kind == "fhir":
        return diagnostic_report(notice, correction=receiver.correction, viewer=viewer)
    return oru(
        notice,
        Envelope(
            control_id=control_id,
            sending_application=receiver.sending_application,
            sending_facility=receiver.sending_facility,
            receiving_application=receiver.receiving_application,
            receiving_facility=receiver.receiving_facility,
            processing=receiver.processing,
            correction=receiver.correction,
            viewer=viewer,
        ),
    )


def _is_for(receiver: ReceiverSettings, body: str) -> bool:
    """Whether a message was made for this kind of receiver: settings may have changed since."""
    begins = {"hl7v2": "MSH", "email": "Message-ID: ", "fhir": "{"}
    if receiver.kind == "webhook":
        return not body.startswith((begins["hl7v2"], begins["email"]))
    return body.startswith(begins[receiver.kind])


def send_message(receiver: ReceiverSettings, control_id: str, body: str) -> Heard:
    """One attempt at one message."""
    query = conditional_query(body) if receiver.kind == "fhir" else ""
    return tell(receiver, control_id, body, query=query)


class Messenger(Errands[NotificationClaim, Heard]):
    """Where messages are sent, several at a time."""

    def __init__(self, ledger: Ledger, site: WorkerSite, *, owner: str) -> None:
        super().__init__(site.delivery)
        self._ledger, self._site, self._owner = ledger, site, owner

    def tell(self, notification_id: int) -> None:
        """Make one attempt at a notification, if it is due and nobody else makes it."""
        self._run(notification_id, "notification")

    def _take(self, number: int) -> NotificationClaim | None:
        claim = self._ledger.claim_notification(number, owner=self._owner, lease_s=self._patience.lease_s)
        if claim is not None:
            failpoint("notification_claimed")
        return claim

    def _renew(self, claim: NotificationClaim) -> bool:
        return self._ledger.renew_notification(claim, lease_s=self._patience.lease_s)

    def _return(self, claim: NotificationClaim) -> None:
        self._record(claim, Heard(Told.RETRY, "the worker was stopped"), soon=True)

    def _attempt(self, claim: NotificationClaim) -> Heard:
        heard = self._tried(claim)
        failpoint("notification_sent")
        return heard

    def _tried(self, claim: NotificationClaim) -> Heard:
        receiver = self._site.receiver(claim.receiver)
        if receiver is None:
            return Heard(Told.REFUSED, f"this site's settings have no [[notify]] called {claim.receiver}")
        if not claim.body:
            return Heard(Told.REFUSED, "what it said was purged with its study")
        if not _is_for(receiver, claim.body):
            return Heard(
                Told.REFUSED, f"it was made before {claim.receiver} became a receiver of {receiver.kind}"
            )
        return send_message(receiver, claim.control_id, claim.body)

    def _record(self, claim: NotificationClaim, heard: Heard, *, soon: bool = False) -> None:
        patience = self._patience
        wait_s = backoff_s(claim.attempt, first_s=patience.first_s, longest_s=patience.longest_s)
        event = {
            Told.TAKEN: NotificationEvent.ACCEPTED,
            Told.REFUSED: NotificationEvent.REFUSED,
            Told.RETRY: NotificationEvent.POSTPONED,
        }[heard.told]
        retry_in_s = wait_s if event is NotificationEvent.POSTPONED and not soon else 0.0
        try:
            state = self._ledger.record_notification(
                claim, event, because=heard.because, retry_in_s=retry_in_s
            )
        except LeaseLost:
            # The receiver may have it, and will have it twice: the same message under the same number.
            log.warning("notification.lost", notification=claim.notification_id, epoch=claim.epoch)
            return
        level = log.info if event is NotificationEvent.ACCEPTED else log.warning
        level(
            "notification." + event,
            notification=claim.notification_id,
            job=claim.job_id,
            receiver=claim.receiver,
            attempt=claim.attempt,
            state=state,
            because=heard.because,
            retry_in_s=retry_in_s,
        )
        failpoint("notification_recorded")
