"""
What a peer gets instead of what it does not take: as its profile says, and never without a word.

A peer that refuses a kind of object would refuse it again tomorrow, until somebody over there allows it.
Where its profile names something else, the delivery is declined, with the reason and with what goes instead,
and that goes as a result of its own: made from the one that was refused, checked against it, kept, and only
then recorded. Where it names nothing, the delivery is parked and an operator decides.

An object whose compression a peer does not take is another thing: it is the same object, written out. So it
goes at once and under its own UID, and the history says how.

What refers to a refused object goes after it. A report that refers to what was replaced is replaced as well,
before it goes: it names what lies there. So are key images, which also leave out what nothing came for, and a
blending without its map is nothing and does not go. A report names what nothing came for all the same: there
is more than lies here, and where it is made is said in it; the history says so too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from dicom_node.peers import PeerSettings
from dicom_node.send import Answer, AnswerKind, Objection
from dicom_node.spool import Spool
from ledger.delivery import DeliveryClaim, DeliveryState
from ledger.errors import ModelError
from ledger.result import NewResult, ResultRecord, Role
from ledger.store.ledger import Ledger
from results.in_place import SEGMENTATION_STORAGE, as_binary, check_as_binary
from results.older_report import OLDER_FORMS, check_older_report, older_report
from results.repointed import check_repointed, repointed
from results.uids import older_report_uid
from results.uncompressed import check_uncompressed, uncompressed
from results.write import write
from worker.exchange import ResultFile
from worker.workplace import Workplace

_ENABLE = "its administrator has to allow that there"
_WITHOUT = "the rest goes without it, as its profile says, and the report still names it"

#: What refers to other objects of its run, and goes after them.
_REFERRING = (Role.BLENDING, Role.KEY_IMAGES, Role.REPORT)


class OriginalGone(ModelError):
    """What another form would be made from is damaged or gone from the spool."""


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
    kind = str(role).replace(" ", "-")
    setting = {
        Role.REPORT: '; report = ["comprehensive", "enhanced"] in its [peer.profile.instead] would send an '
        "older form",
        Role.OLDER_REPORT: "; report in its [peer.profile.instead] may name another form",
        Role.REJECTION_NOTE: '; superseded = "keep" in its settings would send no such notes',
    }.get(role, f'; {kind} = ["nothing"] in its [peer.profile.instead] would do without')
    return f"{answer.because}: {_ENABLE}{setting}"


class Substitution:
    """Where it is decided, and made."""

    def __init__(self, ledger: Ledger, spool: Spool, workplace: Workplace) -> None:
        self._ledger, self._spool, self._workplace = ledger, spool, workplace

    def of(self, claim: DeliveryClaim, answer: Answer, peer: PeerSettings) -> Declined | None:
        """What `peer` gets instead; None where its profile says nothing.

        Raises `ModelError` where what it names cannot be made.
        """
        role, refused = claim.result.role, claim.result.sop_class
        named = peer.shows.instead.get(Role.REPORT if role is Role.OLDER_REPORT else role, ())
        if role in (Role.REPORT, Role.OLDER_REPORT):
            forms = [OLDER_FORMS[name] for name in named]
            tried = [form.sop_class for form in forms]
            left = forms[tried.index(refused) + 1 :] if refused in tried else forms
            if not left:
                return None
            form, report = left[0], self._report(claim)
            made = self._made(
                claim,
                report,
                Role.OLDER_REPORT,
                make=lambda original: older_report(original, form),
                check=lambda older, original: check_older_report(older, original, form),
            )
            return Declined(f"{answer.because}: {_ENABLE}; sent instead: {form.name}", made)
        if "binary" in named and refused != SEGMENTATION_STORAGE:
            made = self._made(claim, claim.result, Role.SEGMENTATION, make=as_binary, check=check_as_binary)
            return Declined(f"{answer.because}: {_ENABLE}; sent instead: a binary segmentation", made)
        if "nothing" not in named:
            return None
        if role is Role.MARKS:  # It says nothing that the report does not say.
            return Declined(
                f"{answer.because}: the report, which says the same in words, goes without it", None
            )
        enable = f" {_ENABLE};" if role is Role.SEGMENTATION else ""
        return Declined(f"{answer.because}:{enable} {_WITHOUT}", None)

    @contextmanager
    def uncompressed(self, claim: DeliveryClaim) -> Iterator[Path]:
        """The claimed object as a file that is not compressed, read back and checked, for as long as it takes
        to send it: the same instance, and the same bytes each time. Raises `ModelError`, `OSError`.
        """
        original = self._read(claim.result)
        path = self._workplace.file(f"uncompressed-{claim.delivery_id}.dcm")
        try:
            write(uncompressed(original), path)
            check_uncompressed(pydicom.dcmread(path), original)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def before(self, claim: DeliveryClaim) -> Declined | None:
        """What goes instead of what refers to something that the peer has in another form, or has not; None:
        it goes as it is. Raises `ModelError` where that cannot be made.
        """
        role = claim.result.role
        if role not in _REFERRING:
            return None
        replaced, gone = self._named_and_refused(claim)
        if role is Role.BLENDING and gone:
            return Declined(f"it shows a {gone[0].role} that was refused; {_WITHOUT}", None)
        left_out = gone if role is Role.KEY_IMAGES else []
        if not replaced and not left_out:
            return None
        pairs = [(self._read(old), self._read(new)) for old, new in replaced]
        without = [self._read(one) for one in left_out]
        made = self._made(
            claim,
            claim.result,
            role,
            make=lambda original: repointed(original, pairs, without),
            check=lambda other, original: check_repointed(other, original, pairs, without),
        )
        named = " and ".join(
            dict.fromkeys(str(one.role) for one in (*(old for old, _ in replaced), *left_out))
        )
        how = "the same, of what lies there" if replaced else "the same without it"
        return Declined(f"it refers to a {named} that was refused; sent instead: {how}", made)

    def missed(self, claim: DeliveryClaim) -> str:
        """What to say of a report that has arrived, where it names what the peer refused and got nothing for;
        empty where there is nothing of the kind.
        """
        if not claim.result.role.is_root:
            return ""
        _, gone = self._named_and_refused(claim)
        named = ", ".join(dict.fromkeys(str(one.role) for one in gone))
        return f"it names what was refused there: {named}" if named else ""

    def _named_and_refused(
        self, claim: DeliveryClaim
    ) -> tuple[list[tuple[ResultRecord, ResultRecord]], list[ResultRecord]]:
        """Of what the claimed object refers to: (declined, what went instead), and what nothing went for."""
        theirs = [one for one in self._ledger.deliveries_of(claim.job_id) if one.peer == claim.peer]
        declined = {
            one.result.id: one.result
            for one in theirs
            if one.state is DeliveryState.DECLINED and not one.result.role.is_root
        }
        if not declined:
            return [], []
        instead = {
            one.result.instead_of: one.result
            for one in theirs
            if one.result.instead_of in declined and one.result.id not in declined
        }
        dataset = self._read(claim.result)
        used = {str(e.value) for e in dataset.iterall() if e.keyword == "ReferencedSOPInstanceUID"}
        named = [one for one in declined.values() if str(one.sop_instance) in used]
        replaced = [(one, instead[one.id]) for one in named if one.id in instead]
        return replaced, [one for one in named if one.id not in instead]

    def _report(self, claim: DeliveryClaim) -> ResultRecord:
        """The report of this peer, as it was checked against the findings, also where an older form of it was
        refused too.
        """
        if claim.result.role is Role.REPORT:
            return claim.result
        # A job that was given up, and run again, has two.
        theirs = [one.result for one in self._ledger.deliveries_of(claim.job_id) if one.peer == claim.peer]
        reports = sorted((one for one in theirs if one.role is Role.REPORT), key=lambda one: one.id)
        return next((one for one in reports if _is_of(claim.result, one)), reports[-1])

    def _read(self, result: ResultRecord) -> Dataset:
        try:
            return pydicom.dcmread(self._spool.absolute(result.path))
        except (OSError, InvalidDicomError, EOFError) as error:
            raise OriginalGone(f"result {result.id} cannot be read from the spool") from error

    def _made(
        self,
        claim: DeliveryClaim,
        of: ResultRecord,
        role: Role,
        *,
        make: Callable[[Dataset], Dataset],
        check: Callable[[Dataset, Dataset], None],
    ) -> NewResult:
        """What `make` makes of the file of `of`, read back, checked and kept in the spool."""
        original = self._read(of)
        path = self._workplace.file(f"instead-{claim.delivery_id}.dcm")
        try:
            made = make(original)
            write(made, path)
            check(pydicom.dcmread(path), original)
            written = ResultFile.of(made, role, path)
            return written.kept(*self._spool.keep_result(path), instead_of=of.id)
        finally:
            path.unlink(missing_ok=True)


def _is_of(refused: ResultRecord, report: ResultRecord) -> bool:
    """Whether what was refused is this report, or an older form of it."""
    older = older_report_uid(report.sop_instance, refused.sop_class, "instance")
    return refused.sop_instance in (report.sop_instance, older)
