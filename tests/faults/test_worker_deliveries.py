"""Results on their way to an archive that is away, and workers that die with the answer in hand."""

import signal

import pydicom
import pytest

from dicom_node.peers import PeerSettings
from ledger.delivery import DeliveryState
from ledger.identifiers import JobId, Uid
from ledger.job import JobState
from tests.patience import patient
from tests.peers.dcmtk import storescp
from tests.peers.loopback import free_port, until
from tests.peers.orthanc import orthanc
from tests.worker.site import QUICK_POST, WorkerBench, model, worker_bench

pytestmark = [pytest.mark.fault, pytest.mark.peer]


def archive(port: int, **more: object) -> PeerSettings:
    how = {"confirm": "answer", "deadline_s": patient(5), **more}
    return PeerSettings(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port, **how)


def done(bench: WorkerBench, *names: str) -> JobId:
    """A finished job with its deliveries to the archive, or to the peers `names`."""
    job_id = bench.open_job(model("Fine"), destinations=names or ("archive",))
    bench.start("dispatch")
    bench.start("compute").wait_ready()
    bench.wait(job_id, JobState.DONE)
    return job_id


def states(bench: WorkerBench, job_id: JobId) -> list[DeliveryState]:
    return [one.state for one in bench.ledger.deliveries_of(job_id)]


def committed(bench: WorkerBench, job_id: JobId, within_s: float = 15) -> None:
    wanted = [DeliveryState.COMMITTED] * 2
    try:
        until(lambda: states(bench, job_id) == wanted, within_s=within_s, what="both results are committed")
    except AssertionError as late:
        raise AssertionError(f"{late}: {bench.ledger.deliveries_of(job_id)}\n{bench.log}") from None


def test_an_archive_that_is_away_gets_everything_when_it_is_back(tmp_path):
    port = free_port()
    with worker_bench(tmp_path, peers=(archive(port),)) as bench:
        job_id = done(bench)
        bench.start("deliver")
        until(
            lambda: max(one.attempts for one in bench.ledger.deliveries_of(job_id)) >= 2,
            within_s=10,
            what="delivery was tried twice",
        )
        waiting = bench.ledger.deliveries_of(job_id)
        assert {one.state for one in waiting} <= {DeliveryState.WAITING, DeliveryState.SENDING}

        with storescp(tmp_path / "archive", port=port) as scp:
            committed(bench, job_id)
            assert len(scp.received()) == 2
        assert all(one.committed_at is not None for one in bench.ledger.deliveries_of(job_id))


def test_point_52_leaves_arrive_before_the_report_that_refers_to_them(tmp_path):
    port = free_port()
    with worker_bench(tmp_path, peers=(archive(port),)) as bench, storescp(tmp_path / "archive", port=port):
        job_id = done(bench)
        bench.start("deliver")
        committed(bench, job_id)
        sent = {one.result.role: one.sent_at for one in bench.ledger.deliveries_of(job_id)}

        assert sent["segmentation"] <= sent["report"]


@pytest.mark.parametrize("point", ["delivery_claimed", "delivery_sent", "delivery_recorded"])
def test_a_worker_killed_while_delivering_leaves_one_copy_in_the_archive(tmp_path, point):
    with orthanc(tmp_path / "orthanc") as peer:
        settings = archive(peer.dicom_port).model_copy(update={"ae_title": peer.ae_title})
        with worker_bench(tmp_path, peers=(settings,)) as bench:
            job_id = done(bench)
            doomed = bench.start("deliver", failpoint=f"{point}:kill")
            doomed.process.wait(patient(15))
            bench.start("deliver")
            committed(bench, job_id)

            stored = [peer.file(instance) for instance in peer.instances()]
            kept = {str(one.sop_instance): one for one in bench.ledger.results_of(job_id)}
            assert len(stored) == len(kept) == 2
            for dataset in peer.datasets():
                one = kept[dataset.SOPInstanceUID]
                ours = pydicom.dcmread(bench.spool.absolute(one.path))
                assert dataset == ours


def test_a_delivery_to_a_peer_that_was_removed_from_the_settings_is_parked(tmp_path):
    port = free_port()
    with worker_bench(tmp_path, peers=(archive(port),)) as bench:
        job_id = done(bench)
        forgotten = bench.site.model_copy(update={"peers": ()})
        bench.start("deliver", site=forgotten)
        until(
            lambda: DeliveryState.PARKED in states(bench, job_id), within_s=10, what="the delivery is parked"
        )

        parked = next(one for one in bench.ledger.deliveries_of(job_id) if one.state is DeliveryState.PARKED)
        assert "archive" in parked.because


def test_a_result_whose_file_was_damaged_never_leaves(tmp_path):
    port = free_port()
    with (
        worker_bench(tmp_path, peers=(archive(port),)) as bench,
        storescp(tmp_path / "archive", port=port) as scp,
    ):
        job_id = done(bench)
        for one in bench.ledger.results_of(job_id):
            path = bench.spool.absolute(one.path)
            path.chmod(0o600)
            path.write_bytes(path.read_bytes()[:-2] + b"!!")
        bench.start("deliver")
        until(
            lambda: DeliveryState.PARKED in states(bench, job_id), within_s=10, what="the delivery is parked"
        )

        assert scp.received() == []


def test_an_archive_is_believed_only_when_the_result_is_found_there(tmp_path):
    with orthanc(tmp_path / "orthanc") as peer:
        settings = archive(peer.dicom_port, confirm="find").model_copy(update={"ae_title": peer.ae_title})
        with worker_bench(tmp_path, peers=(settings,)) as bench:
            job_id = done(bench)
            bench.start("deliver")
            committed(bench, job_id)

            history = bench.ledger.history(job_id=job_id)
            proofs = [one.because for one in history if one.event == "confirmed"]
            assert proofs == ["found in the archive by C-FIND"] * 2


def test_what_an_archive_lost_is_sent_again(tmp_path):
    patience = QUICK_POST.model_copy(update={"proof_patience_s": 0.5})
    with orthanc(tmp_path / "orthanc") as peer:
        settings = archive(peer.dicom_port, confirm="find").model_copy(update={"ae_title": peer.ae_title})
        port = free_port()
        # storescp says yes; the one that is asked afterwards, Orthanc, never saw it.
        with worker_bench(tmp_path, delivery=patience, peers=(settings,)) as bench:
            job_id = done(bench)
            with storescp(tmp_path / "forgetful", port=port):
                forgetful = bench.site.model_copy(update={"peers": (archive(port, confirm="find"),)})
                poster = bench.start("deliver", site=forgetful)
                until(
                    lambda: "missing" in [one.event for one in bench.ledger.history(job_id=job_id)],
                    within_s=15,
                    what="the read-back misses it",
                )
            poster.kill()
            bench.start("deliver")
            committed(bench, job_id)
            assert len(peer.instances()) == 2


def test_a_poster_that_is_stopped_loses_nothing(tmp_path):
    port = free_port()
    # The archive takes a second for every instance, so SIGTERM comes in the middle of one.
    with worker_bench(tmp_path, peers=(archive(port),)) as bench:
        with storescp(tmp_path / "archive", "--sleep-after", "1", port=port):
            job_id = done(bench)
            poster = bench.start("deliver")
            until(
                lambda: DeliveryState.SENDING in states(bench, job_id), within_s=10, what="one is on its way"
            )
            assert poster.stop(within_s=15) == 0
            bench.start("deliver")
            committed(bench, job_id)
            kept = {
                one.sop_instance: bench.spool.absolute(one.path) for one in bench.ledger.results_of(job_id)
            }
        received = [pydicom.dcmread(path) for path in (tmp_path / "archive").iterdir()]
        assert len(received) == 2
        for dataset in received:
            assert dataset == pydicom.dcmread(kept[Uid(dataset.SOPInstanceUID)])


def test_a_poster_that_wakes_up_after_its_lease_changes_nothing(tmp_path):
    port = free_port()
    with (
        # One delivery at a time: a second thread of the sleeper could be stopped with SQLite's lock in its
        # hands.
        worker_bench(
            tmp_path, peers=(archive(port),), delivery=QUICK_POST.model_copy(update={"at_once": 1})
        ) as bench,
        storescp(tmp_path / "archive", port=port) as scp,
    ):
        job_id = done(bench)
        sleeper = bench.start("deliver", failpoint="delivery_sent:stop")
        until(scp.received, within_s=10, what="the archive has the first result")
        bench.start("deliver")
        committed(bench, job_id)
        before = bench.ledger.deliveries_of(job_id)
        sleeper.signal(signal.SIGCONT)
        until(lambda: "delivery.lost" in sleeper.log.read_text(), within_s=10, what="the sleeper noticed")

        assert bench.ledger.deliveries_of(job_id) == before
        assert len(scp.received()) == 2


def test_a_worker_killed_while_it_makes_what_goes_instead_makes_the_same_again(tmp_path):
    configuration = tmp_path / "storescp.cfg"
    configuration.write_text(
        "[[TransferSyntaxes]]\n[Plain]\nTransferSyntax1 = LittleEndianExplicit\n"
        "[[PresentationContexts]]\n[Old]\nPresentationContext1 = EnhancedSRStorage\\Plain\n"
        "PresentationContext2 = SegmentationStorage\\Plain\n"
        "[[Profiles]]\n[Default]\nPresentationContexts = Old\n"
    )
    with storescp(tmp_path / "in", accepts=("-xf", str(configuration), "Default")) as scp:
        with worker_bench(
            tmp_path, peers=(archive(scp.port, profile={"instead": {"report": ("enhanced",)}}),)
        ) as bench:
            job_id = done(bench)
            doomed = bench.start("deliver", failpoint="instead_kept:kill")
            doomed.process.wait(patient(15))
            kept = sorted((tmp_path / "spool" / "results").glob("*.dcm"))
            assert len(kept) == 3
            bench.start("deliver")
            wanted = [DeliveryState.COMMITTED, DeliveryState.DECLINED, DeliveryState.COMMITTED]
            until(lambda: states(bench, job_id) == wanted, within_s=15, what="the older report is committed")

            assert sorted((tmp_path / "spool" / "results").glob("*.dcm")) == kept
            assert len(scp.received()) == 2
