"""A site whose study is overtaken by late images, with real results, a real spool and real archives."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pydicom

from dicom_node.peers import PeerSettings
from dicom_node.readback import find_instance
from dicom_node.settings import SpoolSettings
from dicom_node.spool import Spool
from ledger.delivery import DeliveryRecord, DeliveryState
from ledger.identifiers import AETitle, JobId
from ledger.job import Outcome
from ledger.rejection import RejectionRecord
from ledger.result import Role
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from results.findings import Findings
from results.grid import grid_of
from results.making import Asked
from tests.ledger.site import claim, close, new_job, slice_of
from tests.results.notes import as_result
from tests.results.pictured import Ramp
from tests.results.series import a_run, findings, source
from worker.deliver import Post
from worker.encode import check, encode
from worker.plans import plans_of
from worker.proof import prove
from worker.reject import Rejections
from worker.run import for_whom
from worker.settings import DeliverySettings, QueueSettings, WorkerSite
from worker.workplace import Workplace


@dataclass
class Overtaken:
    """What the parts of a worker would do, one step at a time and when a test says so."""

    folder: Path
    ledger: Ledger
    spool: Spool
    site: WorkerSite
    slices: int = 0
    jobs: list[JobId] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.workplace = Workplace(self.folder / "work", "rejections")
        self.post = Post(self.ledger, self.spool, self.site, self.workplace, owner="sender")
        self.rejections = Rejections(self.ledger, self.spool, self.site, self.workplace)

    def result(self, said: Findings | None = None, *, rule: str = "lungs") -> JobId:
        """One more image, and the result of all images so far, made and recorded but not yet sent.

        It says `said`: two lungs, if left out.
        """
        self.slices += 1
        self.ledger.record_arrivals([slice_of("1.2.3", self.slices)])
        study_id = self.ledger.studies()[0].id
        to = tuple(peer.name for peer in self.site.peers)
        (job_id,) = close(self.ledger, study_id, [new_job(self.ledger, study_id, rule=rule, to=to)])
        held = claim(self.ledger, job_id)
        of = source()
        run = a_run(of)
        run = replace(run, inputs=run.inputs[: self.slices])
        plans = plans_of(held, self.site.peer)
        folder = self.folder / f"run{job_id}"
        folder.mkdir()
        asked = [
            Asked(
                findings=said or findings(),
                source=of,
                run=replace(run, predecessor=plan.predecessor),
                profile=plan.profile,
                pictures=Ramp(grid_of(of).shape),
            )
            for plan in plans
        ]
        made = encode(asked, folder)
        for one, files in zip(asked, made, strict=True):
            check(one, files)
        results = []
        for file in for_whom(plans, made):
            digest, size, kept = self.spool.keep_result(Path(file.path))
            new = replace(as_result(Path(file.path), file.role), peers=file.peers)
            results.append(replace(new, digest=digest, size=size, path=kept))
        self.ledger.finish_job(
            held,
            outcome=said.outcome if said else Outcome.FOUND,
            because="",
            model_identity=run.provenance.identity,
            results=results,
            timings={},
        )
        self.jobs.append(job_id)
        return job_id

    def deliver(self) -> None:
        """Send all that is due, and prove it."""
        for _ in range(4):
            for one in self.ledger.deliveries(states=[DeliveryState.WAITING]):
                self.post.deliver(one.id)
            self.prove()

    def prove(self) -> None:
        prove(self.ledger, self.site, self._found)

    def reject(self) -> None:
        """The round that makes the notes that are owed."""
        self.rejections.open()

    def turn(self) -> None:
        """One more image, its result sent and proved, and the note made that is owed then."""
        self.result()
        self.deliver()
        self.reject()

    def again(self) -> "Overtaken":
        """The same site after its processes died: nothing but ledger, spool and settings is left."""
        self.workplace.close()
        return Overtaken(self.folder, self.ledger, self.spool, self.site, self.slices, self.jobs)

    def notes(self) -> list[RejectionRecord]:
        return self.ledger.rejections_of(self.ledger.studies()[0].id)

    def made(self, job_id: JobId) -> set[str]:
        """The SOP Instance UIDs of a job's results."""
        made = self.ledger.results_of(job_id)
        return {str(one.sop_instance) for one in made if one.role is not Role.REJECTION_NOTE}

    def files_of_notes(self) -> list[Path]:
        """The rejection notes in the spool, whether the ledger knows them or not."""
        paths = (self.spool.path / "results").glob("*.dcm")
        return [path for path in paths if pydicom.dcmread(path, stop_before_pixels=True).Modality == "KO"]

    def _found(self, peer: PeerSettings, sent: DeliveryRecord) -> bool:
        return find_instance(
            peer,
            calling=AETitle("WETREAD"),
            study=sent.result.study,
            series=sent.result.series,
            sop_instance=sent.result.sop_instance,
            deadline_s=peer.deadline_s,
        )


@contextmanager
def overtaken(folder: Path, *peers: PeerSettings) -> Iterator[Overtaken]:
    """A site with `peers` as destinations and nothing received yet."""
    ledger_settings = LedgerSettings(url=f"sqlite:///{folder}/ledger.sqlite")
    spool_settings = SpoolSettings(
        path=folder / "spool", reserve_bytes=0, soft_percent=100, hard_percent=100, resume_percent=100
    )
    site = WorkerSite(
        ledger=ledger_settings,
        spool=spool_settings,
        queue=QueueSettings(url="redis://127.0.0.1:1/0"),
        delivery=DeliverySettings(first_s=0.001, longest_s=0.002, proof_after_s=0),
        peers=peers,
    )
    with Ledger.open(ledger_settings) as ledger:
        yield Overtaken(folder, ledger, Spool(spool_settings), site)
