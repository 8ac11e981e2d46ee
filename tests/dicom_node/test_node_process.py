import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dicom_node.settings import NodeSite
from ledger.store.ledger import Ledger
from tests.dicom_node.datasets import ROOT, ct_slice, digest_of, encoded, write
from tests.dicom_node.node_process import REPOSITORY, node_process, site_json
from tests.dicom_node.scanner import send_all
from tests.patience import patient
from tests.peers.dcmtk import dcmsend

pytestmark = pytest.mark.peer


def slices(sender: int, count: int) -> dict[str, bytes]:
    series = f"{ROOT}.5.{sender}"
    return {
        f"{series}.{number}": encoded(ct_slice(number, series=series, rows=64))
        for number in range(1, count + 1)
    }


def ledger_of(folder: Path) -> Ledger:
    return Ledger.open(NodeSite.model_validate(json.loads(site_json(folder))).ledger)


def recorded(folder: Path) -> dict[str, str]:
    with ledger_of(folder) as ledger:
        return {
            str(instance.sop_instance): str(instance.digest)
            for study in ledger.studies()
            for series in ledger.series_of(study.id)
            for instance in series.instances
        }


def test_sigterm_under_load_ends_in_time_and_keeps_every_promise(tmp_path: Path) -> None:
    sent = {sender: slices(sender, 400) for sender in range(3)}
    answers: dict[str, int] = {}
    with node_process(tmp_path) as node:
        threads = [
            threading.Thread(target=lambda each=each: answers.update(send_all(node.port, each)))
            for each in sent.values()
        ]
        for thread in threads:
            thread.start()
        while not any((tmp_path / "spool" / "instances").glob("*/*.dcm")):
            time.sleep(0.01)
        began = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(patient(12)) == 0
        took_s = time.monotonic() - began
        for thread in threads:
            thread.join(patient(20))

    assert took_s < patient(10)
    everything = {uid: data for each in sent.values() for uid, data in each.items()}
    assert set(answers.values()) <= {0x0000}, (
        "an instance that did not make it is not refused, only unanswered"
    )
    assert 0 < len(answers) < len(everything)
    kept = recorded(tmp_path)
    for uid in answers:
        assert kept[uid] == digest_of(everything[uid])


def test_the_whole_node_receives_and_closes_a_study(tmp_path: Path) -> None:
    files = write(tmp_path / "out", *(ct_slice(number) for number in range(1, 4)))
    with node_process(tmp_path, closing={"quiet_s": 0.2, "quiet_open_s": 0.5, "longest_s": 60}) as node:
        assert dcmsend(node.port, *files).returncode == 0
        with ledger_of(tmp_path) as ledger:
            deadline = time.monotonic() + patient(10)
            while not [study for study in ledger.studies() if study.state == "closed"]:
                assert time.monotonic() < deadline, "the study was not closed"
                time.sleep(0.05)
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(patient(10)) == 0
    assert not [line for line in node.log if "ZZPHI" in line or "ZZMRN" in line]


def run_main(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dicom_node"],
        input=text,
        capture_output=True,
        text=True,
        timeout=patient(30),
        check=False,
        cwd=REPOSITORY,
    )


def test_a_misspelt_setting_stops_the_start_with_its_name_and_no_value(tmp_path: Path) -> None:
    answer = run_main(site_json(tmp_path, node={"prot": 104, "ae_title": "SECRET\\NAME"}))

    assert answer.returncode == 2
    assert "node.prot" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_port_that_is_taken_is_said_in_a_sentence(tmp_path: Path) -> None:
    with node_process(tmp_path) as node:
        (tmp_path / "other").mkdir()
        answer = run_main(site_json(tmp_path / "other", node={"port": node.port}))

    assert answer.returncode == 2
    assert f"cannot listen at 127.0.0.1 port {node.port}" in answer.stderr


def test_a_second_node_on_the_same_spool_does_not_start(tmp_path: Path) -> None:
    with node_process(tmp_path):
        answer = run_main(site_json(tmp_path))

    assert answer.returncode == 2
    assert "already using the spool" in answer.stderr
