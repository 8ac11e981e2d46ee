"""
What a peer gets instead of what it does not take: as its settings say, and never without a word.

A peer that refuses a kind of object would refuse it again tomorrow, until somebody over there allows it.
Where the settings name something else, the delivery is declined, with the reason and with what goes instead,
and that goes as a result of its own: made from the one that was refused, checked against it, kept, and only
then recorded. Where they name nothing, the delivery is parked and an operator decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from dicom_node.peers import PeerSettings
from dicom_node.send import Answer, AnswerKind, Objection
from dicom_node.spool import Spool
from ledger.delivery import DeliveryClaim
from ledger.errors import ModelError
from ledger.identifiers import Uid
from ledger.result import NewResult, ResultRecord, Role
from ledger.store.ledger import Ledger
from results.older_report import OLDER_FORMS, OlderForm, check_older_report, older_report
from results.write import write
from worker.workplace import Workplace

_ENABLE = "its administrator has to allow that there"


class ReportGone(ModelError):
    """The report that another form would be made from is damaged or gone from the spool."""


@dataclass(frozen=True, slots=True)
class Declined:
    """A refusal that the settings have an answer to."""

    because: str
    instead: NewResult | None  #: nothing, where the others go without it


def objected(answer: Answer) -> bool:
    """Whether the peer refuses the kind of object, and might take another."""
    return answer.kind is AnswerKind.REFUSED and answer.objects_to is Objection.SOP_CLASS


def unanswered(answer: Answer, role: Role) -> str:
    """Why a delivery is parked that the settings have no answer for, and what would be one."""
    setting = {
        Role.REPORT: "; report_instead in its settings would send it in an older form",
        Role.OLDER_REPORT: "; report_instead in its settings may name another form",
        Role.SEGMENTATION: "; without_segmentation in its settings would do without",
        Role.PARAMETRIC_MAP: "; without_maps in its settings would do without",
        Role.REJECTION_NOTE: '; superseded = "keep" in its settings would send no such notes',
    }.get(role, "")
    return f"{answer.because}: {_ENABLE}{setting}"


class Substitution:
    """Where it is decided, and made."""

    def __init__(self, ledger: Ledger, spool: Spool, workplace: Workplace) -> None:
        self._ledger, self._spool, self._workplace = ledger, spool, workplace

    def of(self, claim: DeliveryClaim, answer: Answer, peer: PeerSettings) -> Declined | None:
        """What `peer` gets instead; None where the settings say nothing.

        Raises `ModelError` where what they name cannot be made.
        """
        role = claim.result.role
        if role is Role.SEGMENTATION and peer.without_segmentation:
            return Declined(
                f"{answer.because}: {_ENABLE}; the report goes without it, as without_segmentation says", None
            )
        if role is Role.PARAMETRIC_MAP and peer.without_maps:
            return Declined(f"{answer.because}: the report goes without it, as without_maps says", None)
        if role is Role.MARKS:  # It says nothing that the report does not say.
            return Declined(
                f"{answer.because}: the report, which says the same in words, goes without it", None
            )
        if role not in (Role.REPORT, Role.OLDER_REPORT):
            return None
        form = next(_forms_after(claim.result.sop_class, peer), None)
        if form is None:
            return None
        report = next(
            one for one in self._ledger.results_of(claim.job_id) if one.role is Role.REPORT
        )  # the one that was checked against the findings, also where an older form was refused too
        made = self._made(report, form, self._workplace.file(f"instead-{claim.delivery_id}.dcm"))
        return Declined(f"{answer.because}: {_ENABLE}; sent instead: {form.name}", made)

    def _made(self, report: ResultRecord, form: OlderForm, path: Path) -> NewResult:
        try:
            original = pydicom.dcmread(self._spool.absolute(report.path))
        except (OSError, InvalidDicomError, EOFError) as error:
            raise ReportGone(f"result {report.id} cannot be read from the spool") from error
        try:
            older = older_report(original, form)
            write(older, path)
            check_older_report(pydicom.dcmread(path), original, form)
            digest, size, kept = self._spool.keep_result(path)
        finally:
            path.unlink(missing_ok=True)
        return NewResult(
            role=Role.OLDER_REPORT,
            sop_class=form.sop_class,
            sop_instance=Uid.parse(str(older.SOPInstanceUID)),
            study=report.study,
            series=Uid.parse(str(older.SeriesInstanceUID)),
            transfer_syntax=Uid.parse(str(older.file_meta.TransferSyntaxUID)),
            digest=digest,
            size=size,
            path=kept,
        )


def _forms_after(refused: Uid, peer: PeerSettings) -> Iterator[OlderForm]:
    """The forms that are left to try, in the order of the settings."""
    forms = [OLDER_FORMS[name] for name in dict.fromkeys(peer.report_instead)]
    tried = [form.sop_class for form in forms]
    yield from forms[tried.index(refused) + 1 :] if refused in tried else forms
