"""P9: whatever a bomb says of itself, the node does not read it, and who has to read it does so in a child.

A real node, a real worker and a real DICOMweb server over one spool and one ledger. Every bomb is sent by
C-STORE; those that the node can file are opened by a model, and looked at through the web. Lists that are
bombs come as requests for storage commitment.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import requests

from dicom_node.commitment_messages import PUSH_MODEL, PUSH_MODEL_INSTANCE
from dicom_node.peers import IMPLICIT_LITTLE_ENDIAN
from dicom_node.upper_layer import RELEASE_REQUEST, ProposedContext, command_set, data_header
from ledger.identifiers import Uid
from ledger.job import JobRecord, JobState, Outcome
from ledger.store.ledger import Ledger
from ledger.study import StudyRecord
from tests.dicom_node.dicomweb.test_web_process import web_process
from tests.dicom_node.node_process import NodeProcess, node_process
from tests.hostile.bombs import COMMITMENTS, Bomb, corpus, normal
from tests.hostile.verdict import Verdict, all_of, at_most, below, none_of
from tests.hostile.victim import (
    EXPLICIT,
    MIB,
    VERIFICATION,
    connect,
    forget_peak,
    read_pdu,
    request,
    status_of,
    store_message,
    stumbles,
    vitals,
)
from tests.peers.loopback import until
from tests.worker.site import Process, WorkerBench, model, worker_bench

GROWTH_MIB, SETTLED_S, COMMITMENT_S = 64.0, 60.0, 2.0
_SETTLED = frozenset({JobState.DONE, JobState.PARKED, JobState.CANCELLED})
RULE = {"name": "everything", "model": model("Fine"), "modality": "CT"}


@dataclass
class Bombed:
    """What came of one bomb."""

    bomb: Bomb
    statuses: list[int | None] = field(default_factory=list)  #: None: the association ended instead
    jobs: list[JobRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  #: why no job was opened
    quarantined: int = 0
    refused: int = 0  #: in the history, with a reason
    web: list[str] = field(default_factory=list)  #: what the web server said to each question
    web_s: float = 0.0

    @property
    def stored(self) -> bool:
        return bool(self.statuses) and set(self.statuses) == {0x0000}

    @property
    def took_s(self) -> float:
        """From when a worker began until there was a verdict, for ever where there is none."""
        if any(job.state not in _SETTLED for job in self.jobs):
            return float("inf")
        return max((_end(job) - (job.started_at or job.created_at) for job in self.jobs), default=0.0)


def try_bombs(folder: Path, *, every: int = 1) -> Verdict:
    """Throw every bomb of the corpus, or each `every`th."""
    with _site(folder) as (bench, node, compute, web_url):
        pid = node.process.pid
        _throw(node.port, normal(901))
        first = _wait_for_job(bench.ledger, normal(901).study, 60)
        before = vitals(pid)
        forget_peak(pid)
        thrown = [Bombed(bomb) for number, bomb in enumerate(corpus()) if number % every == 0]
        for each in thrown:
            each.statuses = _throw(node.port, each.bomb)
        asked = {name: _ask_for_commitment(node.port, make()) for name, make in COMMITMENTS.items()}
        growth_mib = (vitals(pid).peak - before.rss) / MIB
        for each in thrown:
            if each.stored and each.bomb.opened:
                each.jobs = _jobs(bench.ledger, each.bomb.study, SETTLED_S * 2)
            _account_for(bench.ledger, each)
            if each.stored:
                _look_through_the_web(web_url, each)
        began = time.monotonic()
        _throw(node.port, normal(902))
        last = _wait_for_job(bench.ledger, normal(902).study, 60)
        after_s = time.monotonic() - began
        lives = node.process.poll() is None and compute.process.poll() is None
        with suppress(requests.RequestException):
            lives = lives and requests.get(f"{web_url}/studies?limit=1", timeout=10).status_code == 200
        odd = stumbles(node)
        told = any(event.event == "commitment_refused" for event in bench.ledger.history(limit=10_000))
        asked = asked if told else {}
    return _verdict(thrown, growth_mib, first, last, after_s, asked=asked, lives=lives, odd=odd)


def _verdict(
    thrown: list[Bombed],
    growth_mib: float,
    first: JobRecord,
    last: JobRecord,
    after_s: float,
    *,
    asked: dict[str, tuple[int | None, float]],
    lives: bool,
    odd: list[str],
) -> Verdict:
    instances = [status for each in thrown for status in each.statuses]
    statuses = Counter("no answer" if status is None else f"0x{status:04X}" for status in instances)
    opened = [each for each in thrown if each.jobs or (each.bomb.opened and each.stored)]
    outcomes = Counter(str(job.outcome or job.state) for each in opened for job in each.jobs)
    slowest = max(opened, key=lambda each: each.took_s)
    longest = max(thrown, key=lambda each: each.web_s)
    unheard = [f"{each.bomb.name}: {each.web}" for each in thrown if "no answer" in each.web]
    unexplained = [
        each.bomb.name
        for each in thrown
        if not each.stored and each.quarantined + each.refused < sum(status != 0 for status in each.statuses)
    ]
    unsettled = [
        f"{each.bomb.name}: {[(job.state, job.because) for job in each.jobs] or each.notes}"
        for each in opened
        if not (each.jobs or each.notes) or not all(_explained(job) for job in each.jobs)
    ]
    same = (first.outcome, last.outcome) == (Outcome.FOUND, Outcome.FOUND)
    return Verdict(
        promise="P9",
        done=(
            f"{len(thrown)} bombs, {len(instances)} instances by C-STORE: {_listed(statuses)};"
            f" {len(opened)} opened by a model: {_listed(outcomes)};"
            f" {sum(len(each.web) for each in thrown)} questions over DICOMweb;"
            f" {len(asked)} requests for storage commitment"
        ),
        measures=(
            none_of("processes of ours that died", [] if lives else ["node, worker or web server"], 3),
            below("memory of the node, at its peak above the start", GROWTH_MIB, growth_mib, "MiB"),
            all_of("answered", [each.bomb.name for each in thrown if None in each.statuses], len(thrown)),
            all_of("accepted, or refused with a reason in the ledger", unexplained, len(thrown)),
            all_of("opened by a model, and settled with a reason", unsettled, len(opened)),
            all_of("requests for storage commitment refused, and told in the ledger",
                   [name for name, (status, _) in asked.items() if not status], len(asked)),
            at_most("a request for storage commitment, the longest", COMMITMENT_S,
                    max((took_s for _, took_s in asked.values()), default=float("inf")), "s"),
            at_most("a model and its bomb, the longest", SETTLED_S, slowest.took_s, "s",
                    why=slowest.bomb.name),
            at_most("the web and its bomb, the longest", SETTLED_S, longest.web_s, "s",
                    why=longest.bomb.name),
            all_of("questions over the web answered", unheard, len(thrown)),
            at_most("the normal study behind them", SETTLED_S, after_s if same else float("inf"), "s",
                    why=f"{first.outcome} before, {last.outcome} afterwards: {last.because}"),
            all_of("nothing unforeseen in the log", odd, len(instances)),
        ),
    )  # fmt: skip


@contextmanager
def _site(folder: Path) -> Iterator[tuple[WorkerBench, NodeProcess, Process, str]]:
    folder.mkdir(parents=True, exist_ok=True)
    quiet = {"quiet_s": 0.3, "quiet_open_s": 5, "longest_s": 60}
    with worker_bench(folder) as bench, node_process(folder, rules=[RULE], closing=quiet) as node:
        with web_process(folder) as (_, ready):
            bench.start("dispatch")
            compute = bench.start("compute")
            yield bench, node, compute, f"http://127.0.0.1:{ready.split()[1]}/dicom-web"


def _throw(port: int, bomb: Bomb) -> list[int | None]:
    """The status of each of its instances."""
    contexts = (
        ProposedContext(Uid(bomb.sop_class), (Uid(bomb.syntax),)),
        ProposedContext(VERIFICATION, (EXPLICIT,)),
    )
    statuses: list[int | None] = []
    for number, (uid, data) in enumerate(bomb.instances, start=1):
        with suppress(OSError), connect(port, timeout_s=SETTLED_S) as line:
            line.sendall(request("BOMBER", contexts=contexts))
            assert read_pdu(line)[:1] == b"\2", f"no association for {bomb.name}"
            line.sendall(store_message(uid, data, number=number, sop_class=Uid(bomb.sop_class)))
            statuses.append(status_of(read_pdu(line)))
            line.sendall(RELEASE_REQUEST)  # One machine may have only some connections at a time.
            read_pdu(line)
    return statuses + [None] * (len(bomb.instances) - len(statuses))


def _ask_for_commitment(port: int, information: bytes) -> tuple[int | None, float]:
    """The status of an N-ACTION with this Action Information, and the seconds from its end to its answer."""
    contexts = (ProposedContext(PUSH_MODEL, (Uid(IMPLICIT_LITTLE_ENDIAN),)),)
    command = command_set(
        {0x0003: PUSH_MODEL, 0x0100: 0x0130, 0x0110: 1, 0x0800: 1, 0x1001: PUSH_MODEL_INSTANCE, 0x1008: 1}
    )
    with suppress(OSError), connect(port, timeout_s=SETTLED_S) as line:
        line.sendall(request("BOMBER", contexts=contexts))
        assert read_pdu(line)[:1] == b"\2", "no association for a request for storage commitment"
        line.sendall(data_header(1, len(command), command=True, last=True) + command)
        for at in range(0, len(information), 60_000):
            piece, last = information[at : at + 60_000], at + 60_000 >= len(information)
            line.sendall(data_header(1, len(piece), command=False, last=last) + piece)
        began = time.monotonic()
        status = status_of(read_pdu(line))
        return status, time.monotonic() - began
    return None, float("inf")


def _study(ledger: Ledger, uid: str) -> StudyRecord | None:
    return next((study for study in ledger.studies(limit=10_000) if str(study.study) == uid), None)


def _jobs(ledger: Ledger, uid: str, within_s: float) -> list[JobRecord]:
    """The jobs of a study once they are settled, or as they are at the end of `within_s`."""
    study = until(lambda: _study(ledger, uid), within_s=10, what=f"study {uid} is in the ledger")
    with suppress(AssertionError):
        until(
            lambda: (
                ledger.routing_notes(study.id)
                and all(job.state in _SETTLED for job in ledger.jobs_of(study.id))
            ),
            within_s=within_s,
            what="its jobs are settled",
        )
    return ledger.jobs_of(study.id)


def _wait_for_job(ledger: Ledger, uid: str, within_s: float) -> JobRecord:
    jobs = _jobs(ledger, uid, within_s)
    assert jobs, f"study {uid} got no job"
    return jobs[0]


def _account_for(ledger: Ledger, each: Bombed) -> None:
    """Where the ledger says what became of it."""
    uids = {uid for uid, _ in each.bomb.instances}
    each.quarantined = sum(
        str(record.sop_instance) in uids and bool(record.because)
        for record in ledger.quarantined(limit=10_000)
    )
    if None not in each.statuses and 0xA900 in each.statuses:
        each.refused = sum(
            event.event == "refused" and bool(event.because) for event in ledger.history(limit=10_000)
        )
    study = _study(ledger, each.bomb.study)
    if study is not None:
        each.notes = [note.because for note in ledger.routing_notes(study.id)]


def _look_through_the_web(url: str, each: Bombed) -> None:
    uid = each.bomb.instances[0][0]
    base = f"{url}/studies/{each.bomb.study}/series/{each.bomb.study}.1/instances/{uid}"
    for path, accept in (
        ("metadata", "application/dicom+json"),
        ("rendered", "image/png"),
        ("frames/1", 'multipart/related; type="application/octet-stream"'),
    ):
        began = time.monotonic()
        try:
            answer = requests.get(f"{base}/{path}", headers={"Accept": accept}, timeout=SETTLED_S + 30)
            each.web.append(str(answer.status_code))
        except requests.RequestException:
            each.web.append("no answer")
        each.web_s = max(each.web_s, time.monotonic() - began)


def _explained(job: JobRecord) -> bool:
    """Done with findings, or done and refused or parked with a sentence."""
    return job.outcome is Outcome.FOUND or (job.state in _SETTLED and bool(job.because))


def _end(job: JobRecord) -> float:
    return job.finished_at or job.started_at or job.created_at


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} × {what}" for what, count in counts.most_common())
