"""
A report for every run that was given up: NOT ANALYSED, and why, in plain words.

Silence in the archive looks like "not processed yet". So where a job is parked, its destinations get a report
that says so, made from the headers of its images alone: without torch, without the model, and in a process
with limits, for headers that nobody could use may be what killed the run. Where even that cannot be made, the
job is parked as it is and nothing goes.

The report supersedes nothing, and the results that the job has after all supersede it.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog
from pydantic import ValidationError

from dicom_node.spool import Spool
from ledger.errors import ModelError, SiteError
from ledger.failpoint import failpoint
from ledger.given_up import GivenUp
from ledger.job import EARLIER
from ledger.notification import Fault
from ledger.result import NewResult
from ledger.store.ledger import Ledger
from worker.compute import complete_at, own_file
from worker.exchange import ResultFile
from worker.settings import WorkerSite
from worker.workplace import Workplace

log = structlog.get_logger()

_WHOSE: Mapping[Fault, str] = {
    Fault.IMAGES: "These images cannot be used",
    Fault.MODEL: "The fault is the model's, not that of the images",
    Fault.SITE: "The fault is that of this installation, not of the images",
    Fault.UNKNOWN: "It was tried as often as it may be",
}
_LIMIT_S = 60.0
_ANSWER_BYTES_MAX = 1 << 16


class StandInNotMade(ModelError):
    """No report could be made of the images' headers that says that their run was given up."""


class StandIns:
    """Where such reports are made. One is enough; several do no harm."""

    def __init__(self, ledger: Ledger, spool: Spool, site: WorkerSite, workplace: Workplace) -> None:
        self._ledger, self._spool, self._site, self._workplace = ledger, spool, site, workplace

    def open(self) -> None:
        """Make every report that is owed now, and open its deliveries. Trouble with one holds up no other."""
        try:
            for owed in self._ledger.owed_stand_ins():
                self._settle(owed)
        except SiteError as error:  # The ledger is away, or the disk is full: the next round tries again.
            log.warning("stand_in.postponed", because=str(error))

    def _settle(self, owed: GivenUp) -> None:
        peers = [name for name in owed.destinations if self._wants(name)]
        if not peers:
            self._ledger.settle_given_up(owed, "nothing: no destination wants such reports")
            return
        folder = self._workplace.file(f"stand-in-{owed.id}")
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            made = self._made(owed, folder)
        except ModelError as error:
            self._ledger.settle_given_up(owed, f"nothing: {error}")
            log.error("stand_in.failed", job=owed.job_id, because=str(error))  # noqa: TRY400 - the sentence says it all
            return
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        failpoint("stand_in_kept")
        opened = self._ledger.settle_given_up(owed, "a report that says so", made=made, peers=peers)
        log.info("stand_in.opened", job=owed.job_id, deliveries=len(opened))

    def _wants(self, name: str) -> bool:
        peer = self._site.peer(name)
        return peer is not None and peer.send and peer.given_up

    def _made(self, owed: GivenUp, folder: Path) -> NewResult:
        """The report, kept in the spool. Raises `ModelError` where it cannot be made, `SiteError`."""
        paths = [self._spool.absolute(one.path) for one in owed.inputs if not one.name.startswith(EARLIER)]
        if not paths:
            raise StandInNotMade("the images were purged")
        name, _, version = owed.model.partition("@")
        order = {
            # Enough to find one whose headers can be read.
            "paths": [str(path) for path in dict.fromkeys((paths[len(paths) // 2], paths[0], paths[-1]))],
            "inputs": [str(one.sop_instance) for one in owed.inputs],
            "out": str(folder),
            "at": complete_at([self._spool.absolute(one.path) for one in owed.inputs]),
            "time_zone": self._site.time_zone,
            "model": name,
            "version": version,
            "settings": dict(owed.settings),
            "because": because_of(owed),
        }
        one = _asked(order)
        return one.kept(*self._spool.keep_result(own_file(Path(one.path), folder)))


def because_of(owed: GivenUp) -> str:
    """What the report says: that it was given up, why, and whose fault it is."""
    reason = owed.because.strip().rstrip(".")
    said = f": {reason}" if reason else ""
    return f"The analysis could not be run{said}. {_WHOSE[owed.fault]}."


def _asked(order: Mapping[str, object]) -> ResultFile:
    """What the process made. It sees nothing of our environment, and is killed where it takes too long."""
    command = [sys.executable, "-m", "worker.stand_in_process"]
    environment = {"PYTHONPATH": ":".join(entry or "." for entry in sys.path), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            input=json.dumps(order, default=str).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise StandInNotMade("the images' headers take longer to read than any should") from None
    if done.returncode or len(done.stdout) > _ANSWER_BYTES_MAX:
        raise StandInNotMade("the images' headers cannot be read")
    try:
        return ResultFile.model_validate_json(done.stdout)
    except ValidationError:
        raise StandInNotMade("the images' headers cannot be read") from None
