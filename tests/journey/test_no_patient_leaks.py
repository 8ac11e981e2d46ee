"""Names, identifiers and accession numbers stay in the ledger and the spool (and in results): nowhere
else.
"""

import base64
import json
import re
import threading
from pathlib import Path

import pytest
import redis as redis_client

from models.training.phantom_series import write_series
from models.training.phantoms import chest
from tests.journey.site import site
from tests.patience import patient
from tests.peers.dcmtk import dcmsend, storescu
from tests.peers.loopback import until
from tests.peers.orthanc import orthanc
from tests.peers.redis_server import redis

pytestmark = [pytest.mark.peer, pytest.mark.journey]

BODY = re.compile(r"body\W+([A-Za-z0-9+/=]{8,})")
DESCRIBED = """
[[rule]]
name = "described"
model = "lung_ct"
modality = "CT"
description = "liver"
"""
CANARIES = ("ZZPHI", "CANARY", "MRN-77777", "ACC-88888", "19470229", "Dr Canarius")


def test_canary_names_appear_in_no_log_and_no_message(tmp_path: Path) -> None:
    write_series(
        chest(shape=(40, 128, 128)),
        tmp_path / "study",
        patient_name="ZZPHI^CANARY",
        patient_id="MRN-77777",
        accession="ACC-88888",
        PatientBirthDate="19470229",  # No such day: validators would print it.
        ReferringPhysicianName="Dr Canarius",
        InstitutionName="CANARY hospital",
    )
    # One whose numbers are none: libraries like to print what they could not read.
    for path in write_series(
        chest(shape=(24, 64, 64)),
        tmp_path / "odd",
        patient_name="ZZPHI^CANARY",
        patient_id="MRN-77777",
        accession="ACC-88888",
        SliceThickness="12345678",
        KVP="87654321",
    ):
        path.write_bytes(
            path.read_bytes().replace(b"12345678", b"CANARY99").replace(b"87654321", b"CANARY11")
        )
    # One that no rule takes, for a reason that quotes what a person typed.
    write_series(
        chest(shape=(3, 64, 64)),
        tmp_path / "few",
        patient_name="ZZPHI^CANARY",
        patient_id="MRN-77777",
        accession="ACC-88888-2",
        SeriesDescription="for Dr Canarius",
        PatientBirthDate="19470229",
        ReferringPhysicianName="Dr Canarius",
        OperatorsName="CANARY operator",
        StudyComments="seen by Dr Canarius",
    )
    said: list[str] = []
    ended: list[str] = []
    with orthanc(tmp_path / "archive") as archive, redis(tmp_path / "redis") as queue:
        listening = threading.Event()

        def overhear() -> None:
            # Without a time limit: nothing may be said for seconds while a busy machine starts the site.
            with redis_client.Redis.from_url(queue.url, socket_timeout=None).monitor() as monitor:
                listening.set()
                try:
                    for command in monitor.listen():
                        text = command["command"]
                        said.append(text)
                        # Celery's messages carry their body in base 64.
                        said.extend(base64.b64decode(body).decode() for body in BODY.findall(text))
                except (
                    Exception
                ) as error:  # the server was stopped at the end of the test, or it is told below
                    ended.append(f"{type(error).__name__}: {error}")

        threading.Thread(target=overhear, daemon=True).start()
        assert listening.wait(patient(10))
        with site(tmp_path / "site", archive, queue=queue.url, more=DESCRIBED) as running:
            running.start("serve")
            running.listens()
            assert dcmsend(running.port, tmp_path / "study").returncode == 0
            storescu(running.port, tmp_path / "odd")
            until(lambda: len(archive.instances()) >= 2, within_s=120, what="the results are in the archive")
            storescu(running.port, tmp_path / "few")

            def refused() -> str:
                status = running.ask("status", "--json").stdout
                return status if "no rule took any" in status else ""

            status = until(refused, within_s=60, what="the other study is closed")
            assert "series description does not match, rule asks /liver/" in status
            few = json.loads(status)["studies"][0]["study"]
            shown = running.ask("show", "--json", few).stdout
            assert "for Dr Canarius" in running.ask("show", few).stdout
        log = running.log

    assert len(log) > 200, "the site said nothing at all: there is nothing to search"
    assert any("job_id" in command for command in said), f"no message was overheard: {ended}, {said[-3:]}"
    for canary in CANARIES:
        assert canary not in log
        assert canary not in status
        # Whoever asks for one study by its accession number is shown that number.
        assert canary not in shown.replace("ACC-88888-2", "")
        assert not [command for command in said if canary in command]
