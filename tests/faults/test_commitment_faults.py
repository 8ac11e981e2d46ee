"""An archive that answers for what it has, one that lost it, and one whose word never comes."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dicom_node.node import Node
from dicom_node.peers import PeerSettings
from dicom_node.settings import NodeSettings, NodeSite
from dicom_node.spool import Spool
from ledger.commitment import CommitmentState
from ledger.delivery import DeliveryState
from ledger.identifiers import JobId
from tests.faults.test_worker_deliveries import committed, done, states
from tests.patience import patient
from tests.peers.loopback import free_port, until
from tests.peers.orthanc import Orthanc, orthanc
from tests.worker.site import QUICK_POST, Process, WorkerBench, worker_bench

pytestmark = [pytest.mark.fault, pytest.mark.peer]


@contextmanager
def archive_and_bench(tmp_path, **patience: float) -> Iterator[tuple[Orthanc, WorkerBench, int]]:
    """An Orthanc that calls us back at a port where nobody listens yet, and a site that wants its word."""
    port = free_port()
    with orthanc(tmp_path / "orthanc", modalities={"WETREAD": port}) as archive:
        settings = PeerSettings(
            name="archive", ae_title=archive.ae_title, host="127.0.0.1", port=archive.dicom_port,
            confirm="commitment", receive=False, deadline_s=patient(5),
        )  # fmt: skip
        delivery = QUICK_POST.model_copy(update={"commitment_linger_s": 0.2, **patience})
        with worker_bench(tmp_path, peers=(settings,), delivery=delivery) as bench:
            yield archive, bench, port


@contextmanager
def node(bench: WorkerBench, port: int) -> Iterator[Node]:
    """Our node, where the archive's reports arrive."""
    site = NodeSite(
        ledger=bench.site.ledger,
        spool=bench.site.spool,
        node=NodeSettings(port=port, callers="known"),
        peers=bench.site.peers,
    )
    with Node(site, bench.ledger, Spool(site.spool)) as running:
        yield running


def accepted(bench: WorkerBench) -> tuple[JobId, Process]:
    """A job whose results the archive has accepted, and the dispatcher, which leaves the proof to another."""
    proving = bench.site
    later = proving.delivery.model_copy(update={"proof_after_s": 3600.0})
    bench.site = proving.model_copy(update={"delivery": later})
    job_id = done(bench)
    bench.start("deliver")
    until(
        lambda: states(bench, job_id) == [DeliveryState.SENT] * 2,
        within_s=15,
        what="the archive has accepted both",
    )
    bench.site = proving
    return job_id, next(one for one in bench.processes if one.part == "dispatch")


def test_point_51_an_archive_is_believed_when_it_answers_for_every_result(tmp_path):
    with archive_and_bench(tmp_path) as (_, bench, port), node(bench, port):
        job_id = done(bench)
        bench.start("deliver")
        committed(bench, job_id)

        (asked,) = bench.ledger.commitments_of(job_id)
        because = f"storage commitment {asked.transaction} succeeded for 2 of 2"
        assert {one.because for one in bench.ledger.deliveries_of(job_id)} == {because}
        assert [item.committed for item in asked.items] == [True, True]


def test_what_an_archive_accepted_and_then_lost_is_sent_again(tmp_path):
    with archive_and_bench(tmp_path) as (archive, bench, port), node(bench, port):
        job_id, waiting = accepted(bench)
        assert len(archive.instances()) == 2
        archive.stop()
        shutil.rmtree(archive.folder / "db")
        archive.start()
        assert archive.instances() == []

        waiting.kill()
        bench.start("dispatch")
        committed(bench, job_id, within_s=20)

        assert len(archive.instances()) == 2
        lost = [one for one in bench.ledger.history(job_id=job_id) if one.event == "missing"]
        assert len(lost) == 2
        assert all("0x0112: no such object instance" in one.because for one in lost)
        assert bench.ledger.commitments_of(job_id)[0].state is CommitmentState.REPORTED


def test_where_no_report_can_reach_us_the_archive_is_searched(tmp_path):
    with archive_and_bench(tmp_path, commitment_patience_s=0.5) as (_, bench, _port):
        job_id, waiting = accepted(bench)
        waiting.kill()
        bench.start("dispatch")
        committed(bench, job_id)

        (asked,) = bench.ledger.commitments_of(job_id)
        assert asked.state is CommitmentState.OVERDUE
        because = f"found in the archive by C-FIND (storage commitment {asked.transaction}: no report came"
        assert all(one.because.startswith(because) for one in bench.ledger.deliveries_of(job_id))
