"""Which images may go? The archive has them; the spool is a working copy, and disks are finite.

Rule 1: nothing is deleted before the ledger says that it is finished with: the study is closed, every job
of it has ended, and every result is proven to be where it was to go. A parked job or delivery keeps its
images for ever, until an operator has decided. Rule 2: rows first, then files. A crash between the two
leaves files without rows, which the next start removes. The other way round would leave rows that promise
files.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from dicom_node.settings import RetentionSettings
from dicom_node.spool import Room, Spool
from ledger.identifiers import StudyId
from ledger.store.ledger import Ledger
from ledger.study import StudyRecord
from ledger.transition import IllegalTransition

log = structlog.get_logger()

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Expiry:
    """A study whose images may go now, and why."""

    study: StudyRecord
    because: str


def oldest_expired(
    finished: Iterable[StudyRecord], *, now_s: float, room: Room, keep: RetentionSettings
) -> Expiry | None:
    """The study to delete next: the one whose last image is oldest, if it may go at all.

    `finished` are studies that the ledger is done with. While the disk has room they stay for `keep_days`;
    above the soft mark only for `keep_at_least_days`.
    """
    oldest = min(finished, key=lambda study: (study.last_arrival_at, study.id), default=None)
    if oldest is None:
        return None
    age_days = (now_s - oldest.last_arrival_at) / _DAY_S
    if age_days >= keep.keep_days:
        return Expiry(
            oldest,
            f"the last image came {age_days:.1f} days ago; images are kept for {keep.keep_days:g} days",
        )
    if room is not Room.OK and age_days >= keep.keep_at_least_days:
        return Expiry(
            oldest,
            f"the disk is above its {room} mark; the last image came {age_days:.1f} days ago, "
            f"and images are kept for at least {keep.keep_at_least_days:g} days",
        )
    return None


class HouseKeeper:
    """Deletes one study at a time, so that nobody who wants in waits for long."""

    def __init__(self, ledger: Ledger, spool: Spool, keep: RetentionSettings) -> None:
        """Nothing is deleted before the first `tidy`."""
        self._ledger = ledger
        self._spool = spool
        self._keep = keep
        self.every_s = keep.every_s

    def tidy(self) -> StudyId | None:
        """Delete the images and results of the oldest expired study; None where there is none.

        Raises `SiteError` where ledger or spool cannot be used.
        """
        now_s = self._ledger.now()
        room = self._spool.room()
        sooner_days = min(self._keep.keep_days, self._keep.keep_at_least_days)
        days = self._keep.keep_days if room is Room.OK else sooner_days
        finished = self._ledger.purgeable_studies(older_than=now_s - days * _DAY_S)
        expired = oldest_expired(finished, now_s=now_s, room=room, keep=self._keep)
        if expired is None:
            self._empty_quarantine(now_s)
            return None
        study = expired.study
        with self._spool.deleting():
            try:
                paths = self._ledger.purge_study(study.id, expired.because)
            except IllegalTransition as error:
                # A late instance, or an operator who wants a job again, was faster.
                log.info("study.kept", study=str(study.study), because=str(error))
                return None
            removed = self._spool.remove(paths)
        log.info("study.purged", study=str(study.study), files=removed, because=expired.because)
        return study.id

    def _empty_quarantine(self, now_s: float) -> None:
        with self._spool.deleting():
            paths = self._ledger.forget_quarantined(older_than=now_s - self._keep.quarantine_days * _DAY_S)
            removed = self._spool.remove(paths)
        if removed:
            log.info("quarantine.purged", files=removed)
