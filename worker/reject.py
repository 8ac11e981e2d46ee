"""
What an archive has and should no longer show: a rejection note for it, once the newer result is committed
there.

Each round asks the ledger what is owed. So it does not matter when the newer result was committed, by whom,
or who died in between: what is owed and not yet opened is found again, and makes the same bytes under the
same UIDs.
"""

from pathlib import Path

import pydicom
import structlog
from pydicom.errors import InvalidDicomError

from dicom_node.spool import Spool
from ledger.errors import ModelError, SiteError, WetreadError
from ledger.failpoint import failpoint
from ledger.implementation import software_version
from ledger.rejection import OwedNote
from ledger.result import NewResult, Role
from ledger.store.ledger import Ledger
from results.check_rejection import check_rejection
from results.codes import REJECTED_FOR_QUALITY, RETENTION_EXPIRED
from results.rejection import build_rejection
from results.write import write
from worker.exchange import ResultFile
from worker.settings import WorkerSite
from worker.workplace import Workplace

log = structlog.get_logger()

_TITLES = {"reject": REJECTED_FOR_QUALITY, "replace": RETENTION_EXPIRED}


class ReportUnreadable(ModelError):
    """The report that a rejection note would be in favour of is damaged or gone from the spool."""


class Rejections:
    """Where rejection notes are made. One is enough; several do no harm."""

    def __init__(self, ledger: Ledger, spool: Spool, site: WorkerSite, workplace: Workplace) -> None:
        self._ledger = ledger
        self._spool = spool
        self._policies = {
            peer.name: peer.superseded for peer in site.peers if peer.send and peer.superseded != "keep"
        }
        self._workplace = workplace
        self._told: set[tuple[int, str]] = set()

    def open(self) -> None:
        """Make every note that is owed now, and open its delivery. Trouble with one holds up no other."""
        if not self._policies:
            return
        try:
            owed = self._ledger.owed_notes(self._policies)
            for one in owed:
                try:
                    self._open(one)
                except ModelError as error:
                    self._trouble(one, error)
        except SiteError as error:  # The ledger is away, or the disk is full: the next round tries again.
            log.warning("rejection.postponed", because=str(error))

    def _open(self, owed: OwedNote) -> None:
        policy = self._policies[owed.peer]
        path = self._workplace.file(f"note-{owed.job_id}.dcm")
        try:
            made = self._made(owed, policy, path)
            failpoint("note_kept")
            delivery = self._ledger.open_note(owed, made, policy)
        finally:
            path.unlink(missing_ok=True)
        failpoint("note_opened")
        if delivery is not None:
            log.info(
                "rejection.opened",
                delivery=delivery,
                job=owed.job_id,
                peer=owed.peer,
                policy=policy,
                rejects=len(owed.superseded),
            )

    def _made(self, owed: OwedNote, policy: str, path: Path) -> NewResult:
        """The note, checked and kept in the spool."""
        title = _TITLES[policy]
        superseded = [one.result for one in owed.superseded]
        try:
            report = pydicom.dcmread(self._spool.absolute(owed.report.path))
        except (OSError, InvalidDicomError, EOFError) as error:
            raise ReportUnreadable(f"result {owed.report.id} cannot be read from the spool") from error
        version = software_version()
        note = build_rejection(report, superseded, title=title, software_version=version)
        write(note, path)
        check_rejection(path, report, superseded, title=title, software_version=version)
        return ResultFile.of(note, Role.REJECTION_NOTE, path).kept(*self._spool.keep_result(path))

    def _trouble(self, owed: OwedNote, error: WetreadError) -> None:
        """It would end the same way in every round: said once."""
        if (key := (owed.job_id, owed.peer)) not in self._told:
            self._told.add(key)
            log.error("rejection.failed", job=owed.job_id, peer=owed.peer, because=str(error))
