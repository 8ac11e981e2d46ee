"""The API does what its description says: asked by schemathesis, which reads the one and tries the other."""

import subprocess
import sys
from pathlib import Path

import requests

from tests.console.web.conftest import Desk
from tests.ledger.site import claim, close, finish, new_job, queued_job, receive
from tests.patience import patient


def test_every_answer_is_one_that_the_description_promises(desk: Desk, tmp_path: Path) -> None:
    finish(desk.ledger, claim(desk.ledger, queued_job(desk.ledger, "1.2.3")))
    study_id = receive(desk.ledger, "1.2.4")
    close(desk.ledger, study_id, [new_job(desk.ledger, study_id)])

    asked = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"), "run", f"{desk.url}/api/v1/openapi.json",
            "--checks", "all", "--exclude-checks", "positive_data_acceptance",
            "--max-examples", "25", "--seed", "7", "--phases", "examples,coverage,fuzzing",
            "--generation-database", "none", "--suppress-health-check", "all",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=patient(120), check=False,
    )  # fmt: skip

    assert asked.returncode == 0, asked.stdout[-6000:] + asked.stderr[-2000:]


def test_the_description_names_every_resource_and_says_what_it_is_for(desk: Desk) -> None:
    described = requests.get(f"{desk.url}/api/v1/openapi.json", timeout=patient(10)).json()

    assert described["info"]["title"] == "Wetread"
    for path, methods in described["paths"].items():
        assert path.startswith("/api/v1/"), path
        for method, said in methods.items():
            assert said["summary"], (method, path)
            assert said["tags"], (method, path)
