"""After a crash: make spool and ledger say the same again, without losing anything and without inventing.

A crash can leave five things behind, and each has one answer:

- instances in the daybook, which were answered with Success: they get their files and rows (`carry_forward`);
- a file that was being written: nobody was promised anything, so it is deleted;
- a whole instance without a row. It is recorded now, as if it had just arrived. It was never acknowledged, so
  its sender will send it again, which is then the same arrival; and should the ledger have been replaced by
  an older one, nothing is lost. The exception is a study that the ledger has purged: there the deletion was
  cut short, and is finished;
- an old result without a row: its job has long made it again, or was parked;
- a row without a file, which no crash of ours can leave: somebody deleted it, or the disk lost it. That is
  written into the study's history, where whoever looks for the images will find it.
"""

import hashlib
import mmap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from dicom_node.carry_forward import arrival_of, carry_forward
from dicom_node.daybook import Daybook
from dicom_node.headers import HeaderUnreadable
from dicom_node.part10 import NotOurFile, read_file_meta
from dicom_node.receive import CannotFile
from dicom_node.spool import INSTANCES, QUARANTINE, RESULTS, Spool, Staged
from ledger.errors import StudyError
from ledger.identifiers import Digest
from ledger.store.ledger import Ledger
from ledger.study import Arrival, ArrivalKind, StudyRecord, StudyState

log = structlog.get_logger()

_BATCH = 100
_RESULT_ABANDONED_S = 86_400.0  # longer than any job takes between keeping a result and recording it
_NOWHERE = "reconciliation"  # the address of an arrival that came from the spool itself


class FileDamaged(StudyError):
    """The content of a spooled file is not what its name says."""


@dataclass(slots=True)
class Reconciliation:
    """What was found and done."""

    temporary_removed: int = 0  #: files that were being written
    recorded: int = 0  #: instances that had no row
    purged: int = 0  #: instances of purged studies, now deleted
    quarantined: int = 0  #: files that contradict a row, or cannot be read any more
    missing: int = 0  #: rows whose file is gone
    results_removed: int = 0  #: results that no job ever claimed


def reconcile(spool: Spool, ledger: Ledger) -> Reconciliation:
    """Run once at start, before anything is received. Raises `SpoolBroken` or the ledger's `SiteError`."""
    found = Reconciliation(temporary_removed=spool.sweep_incoming())
    found.recorded = _carry_forward(spool, ledger)
    known = set(ledger.known_paths())
    # What lies in quarantine first: the next line may put more there, with their rows.
    _list_quarantine(spool, ledger, (path for path in spool.files(QUARANTINE) if path not in known), found)
    _record(spool, ledger, (path for path in spool.files(INSTANCES) if path not in known), found)
    found.results_removed = spool.remove(_abandoned_results(spool, known))
    for path in known:
        if not spool.absolute(path).is_file():
            found.missing += 1
            _flag_missing(ledger, path)
    log.info("spool.reconciled", **{name: getattr(found, name) for name in found.__slots__})
    return found


def rebuild(spool: Spool, ledger: Ledger) -> Reconciliation:
    """Fill an empty ledger from the spool alone. Doing it twice is doing it once."""
    found = Reconciliation(recorded=_carry_forward(spool, ledger))
    known = set(ledger.known_paths())
    _list_quarantine(spool, ledger, (path for path in spool.files(QUARANTINE) if path not in known), found)
    _record(spool, ledger, spool.files(INSTANCES), found)
    log.info("ledger.rebuilt", recorded=found.recorded, quarantined=found.quarantined)
    return found


def _carry_forward(spool: Spool, ledger: Ledger) -> int:
    """First of all: what the daybook holds may be the only whole copy of a file that is judged below."""
    daybook = Daybook(spool.path)
    try:
        return carry_forward(daybook, spool, ledger)
    finally:
        daybook.close()


def read_arrival(spool: Spool, path: str) -> Arrival:
    """The arrival that the file at spool path `path` is. Raises a `StudyError` where it cannot be one."""
    with _mapped(spool.absolute(path)) as contents:
        meta, start = read_file_meta(contents)
        data_set = contents[start:]
        try:
            digest = Digest(hashlib.sha256(data_set).hexdigest())
            if digest.value != Path(path).stem:
                raise FileDamaged("the file's content is not what its name says: the disk changed it")
            return arrival_of(meta, data_set, digest, path, _NOWHERE)
        finally:
            data_set.release()


def _record(spool: Spool, ledger: Ledger, paths: Iterator[str], found: Reconciliation) -> None:
    batch: list[Arrival] = []
    for path in paths:
        try:
            arrival = read_arrival(spool, path)
        except (NotOurFile, FileDamaged, HeaderUnreadable, CannotFile) as error:
            found.quarantined += 1
            _set_aside(spool, ledger, path, because=str(error))
            continue
        study = ledger.find(str(arrival.study))
        if isinstance(study, StudyRecord) and _was_purged_with(study, spool.absolute(path)):
            found.purged += spool.remove([path])
            continue
        batch.append(arrival)
        if len(batch) >= _BATCH:
            _commit(spool, ledger, batch, found)
            batch = []
    if batch:
        _commit(spool, ledger, batch, found)


def _was_purged_with(study: StudyRecord, file: Path) -> bool:
    """Whether the purge of `study` was about to delete `file`. What came after the last instance that the
    ledger knows of may have been answered with Success, and then the study is opened again.
    """
    return study.state is StudyState.PURGED and file.stat().st_mtime <= study.last_arrival_at


def _commit(spool: Spool, ledger: Ledger, batch: list[Arrival], found: Reconciliation) -> None:
    spool.sync_folders(str(Path(arrival.path).parent) for arrival in batch)
    for arrival, receipt in zip(batch, ledger.record_arrivals(batch), strict=True):
        if receipt.kind is ArrivalKind.CONFLICT:
            found.quarantined += 1
            because = "this SOP Instance UID is already here with other bytes: the first is kept"
            _set_aside(spool, ledger, arrival.path, because=because, arrival=arrival)
        elif receipt.kind is ArrivalKind.NEW:
            found.recorded += 1


def _set_aside(
    spool: Spool, ledger: Ledger, path: str, *, because: str, arrival: Arrival | None = None
) -> None:
    absolute = spool.absolute(path)
    with _mapped(absolute) as contents:
        digest = Digest(hashlib.sha256(contents).hexdigest())
    size = absolute.stat().st_size
    # A name that is no digest was not given by us; the digest of the whole file serves as well.
    named = Digest(Path(path).stem) if len(Path(path).stem) == 64 else digest
    kept = spool.move_to_quarantine(Staged(named, size, path))
    ledger.record_quarantine(
        sop_instance=str(arrival.sop_instance) if arrival else "",
        digest=named,
        path=kept.path,
        because=because,
        calling=str(arrival.calling) if arrival else "",
        address=_NOWHERE,
        study_id=None,
    )
    log.warning("instance.quarantined", because=because)


def _list_quarantine(spool: Spool, ledger: Ledger, paths: Iterator[str], found: Reconciliation) -> None:
    """Quarantined files whose row was lost: the file is the proof, the row makes it visible."""
    for path in paths:
        with _mapped(spool.absolute(path)) as contents:
            try:
                meta, start = read_file_meta(contents)
                told, calling = str(meta.sop_instance), str(meta.sending)
            except NotOurFile:
                told, calling, start = "", "", 0
            with contents[start:] as data_set:
                digest = Digest(hashlib.sha256(data_set).hexdigest())
        found.quarantined += 1
        ledger.record_quarantine(
            sop_instance=told,
            digest=digest,
            path=path,
            because="found in quarantine without a record of why",
            calling=calling,
            address=_NOWHERE,
            study_id=None,
        )


def _abandoned_results(spool: Spool, known: set[str]) -> Iterator[str]:
    """Results without a row; only old ones, for a worker may be about to record what it kept just now."""
    before = time.time() - _RESULT_ABANDONED_S
    for path in spool.files(RESULTS):
        if path not in known and spool.absolute(path).stat().st_mtime < before:
            yield path


def _flag_missing(ledger: Ledger, path: str) -> None:
    because = f"the file {path} is gone from the spool: the images have to be sent again"
    log.error("file.missing", because=because)
    ledger.record_event("instance", "file_missing", because=because, detail={"path": path})


class _mapped:  # noqa: N801 (a context manager that is used as a function)
    """The bytes of a file without reading them into memory; an empty file has none."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        size = path.stat().st_size
        self._map = mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ) if size else None
        self._view = memoryview(self._map) if self._map is not None else memoryview(b"")

    def __enter__(self) -> memoryview:
        return self._view

    def __exit__(self, *_: object) -> None:
        self._view.release()
        if self._map is not None:
            self._map.close()
        self._file.close()
