"""Results on their way to an archive on the web, from the worker that made them to that archive's index."""

import json
import socket
import threading
from pathlib import Path

import pydicom
import pytest

from console.echo import echo
from console.settings import load_site
from dicom_node.peers import PeerSettings
from ledger.delivery import DeliveryState
from tests.dicom_node.web_peers import Request, says, web_server
from tests.faults.test_worker_deliveries import committed, done, states
from tests.patience import patient
from tests.peers.loopback import free_port, until
from tests.peers.orthanc import orthanc
from tests.worker.site import worker_bench

pytestmark = [pytest.mark.fault, pytest.mark.peer]

GUARDED = {"AuthenticationEnabled": True, "RegisteredUsers": {"wetread": "secret"}}


def on_the_web(url: str, **more: object) -> PeerSettings:
    web = {"url": url, **more}
    return PeerSettings.model_validate(
        {"name": "archive", "web": web, "confirm": "find", "deadline_s": patient(5)}
    )


def test_results_go_by_stow_and_are_committed_once_qido_finds_them(tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.write_text("wetread:secret")
    with orthanc(tmp_path / "orthanc", settings=GUARDED) as archive:
        peer = on_the_web(f"{archive.url}/dicom-web", auth="basic", login_file=login)
        with worker_bench(tmp_path, peers=(peer,)) as bench:
            job_id = done(bench)
            bench.start("deliver")
            committed(bench, job_id)

            history = bench.ledger.history(job_id=job_id)
            proofs = [one.because for one in history if one.event == "confirmed"]
            assert proofs == ["found in the archive by QIDO-RS"] * 2
            sent = {one.result.role: one.sent_at for one in bench.ledger.deliveries_of(job_id)}
            assert sent["segmentation"] <= sent["report"]
            kept = {str(one.sop_instance): one for one in bench.ledger.results_of(job_id)}
            assert len(archive.instances()) == len(kept) == 2
            for dataset in archive.datasets():
                path = bench.spool.absolute(kept[dataset.SOPInstanceUID].path)
                assert dataset == pydicom.dcmread(path)
            assert "secret" not in bench.log
            assert "secret" not in json.dumps([one.because for one in bench.ledger.history()])


def test_a_token_that_expired_is_renewed_and_the_results_go_on(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0ld-t0ken")
    stored = threading.Event()

    def guarded(request: Request, connection: socket.socket, over: threading.Event) -> None:
        if request.headers.get("authorization") != "Bearer n3w-t0ken":
            says("401 Unauthorized")(request, connection, over)
        elif request.line.startswith("POST"):
            stored.set()
            says("200 OK")(request, connection, over)
        else:
            says(body=[])(request, connection, over)

    with web_server(guarded) as server:
        web = server.peer.web.model_copy(update={"auth": "bearer", "token_file": token})
        peer = server.peer.model_copy(update={"web": web, "confirm": "answer"})
        with worker_bench(tmp_path, peers=(peer,)) as bench:
            job_id = done(bench)
            bench.start("deliver")
            until(
                lambda: any("has expired" in one.because for one in bench.ledger.deliveries_of(job_id)),
                within_s=10,
                what="the archive refused the token",
            )
            assert DeliveryState.PARKED not in states(bench, job_id)
            assert not stored.is_set()

            token.write_text("n3w-t0ken")
            committed(bench, job_id)
            assert "t0ken" not in bench.log


def test_echo_tells_what_to_mend(tmp_path: Path) -> None:
    (tmp_path / "login").write_text("wetread:secret")

    def told(url: str, login: str = "login") -> tuple[bool, str]:
        (tmp_path / "wetread.toml").write_text(
            f'[[peer]]\nname = "archive"\n[peer.web]\nurl = "{url}"\nauth = "basic"\nlogin_file = "{login}"\n'
        )
        return echo(load_site(tmp_path / "wetread.toml"), "archive")

    with orthanc(tmp_path / "orthanc", settings=GUARDED) as archive:
        heard, words = told(f"{archive.url}/dicom-web")
        assert heard
        assert words.startswith(f"archive ({archive.url}/dicom-web) hears us: QIDO-RS was answered in")
        heard, words = told(f"{archive.url}/dicomweb")
        assert (heard, "what stands before /studies?" in words) == (False, True)
        (tmp_path / "wrong").write_text("wetread:guess")
        heard, words = told(f"{archive.url}/dicom-web", "wrong")
        assert (heard, "does not take our user and password (401): look into" in words) == (False, True)
        assert "guess" not in words
    heard, words = told(f"http://127.0.0.1:{free_port()}/dicom-web")
    assert (heard, "nobody listens there" in words) == (False, True)
