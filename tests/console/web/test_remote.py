"""The command line as a client of a console elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from console.cli import where_asked
from console.remote import Remote, RemoteAway, RemoteUnclear
from console.remote_cli import REMOTE, remote_app
from ledger.job import JobState
from ledger.pause import PauseKind
from tests.console.conftest import ROOT
from tests.console.web.conftest import Desk
from tests.ledger.site import claim, queued_job
from tests.patience import patient
from tests.peers.loopback import free_port


def wetread(desk: Desk, folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    (folder / "token").write_text("a-token\n")
    return subprocess.run(
        [sys.executable, "-m", "console", *command], cwd=folder, capture_output=True, text=True,
        timeout=patient(60), check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1",
             "WETREAD_CONSOLE": desk.url, "WETREAD_TOKEN_FILE": str(folder / "token")},
    )  # fmt: skip


def test_a_console_elsewhere_tells_how_the_site_stands(desk: Desk, tmp_path: Path) -> None:
    desk.ledger.park_job(claim(desk.ledger, queued_job(desk.ledger)), "spacing 7.5 mm")
    desk.deck.watchman.look(slow=False)

    told = wetread(desk, tmp_path, "status")

    assert told.returncode == 1, "something is urgent"
    assert "job 1 (lung_ct) is parked: spacing 7.5 mm" in told.stdout
    assert "1 parked" in told.stdout
    assert (
        "No result: job 1 is parked after 1 attempt: spacing 7.5 mm."
        in wetread(desk, tmp_path, "show", "1").stdout
    )


def test_what_is_decided_here_happens_there(desk: Desk, tmp_path: Path) -> None:
    job_id = queued_job(desk.ledger)

    assert "Job 1 is cancelled." in wetread(desk, tmp_path, "cancel", "1").stdout
    assert desk.ledger.job(job_id).state is JobState.CANCELLED
    assert "Job 1 is queued." in wetread(desk, tmp_path, "retry", "1").stdout
    assert wetread(desk, tmp_path, "pause", "model", "lung_ct").returncode == 0
    assert [one.kind for one in desk.ledger.pauses()] == [PauseKind.MODEL]
    assert "lung_ct" in wetread(desk, tmp_path, "queue").stdout


def test_a_refusal_is_the_consoles_own_sentence(desk: Desk, tmp_path: Path) -> None:
    desk.visitor = None

    told = wetread(desk, tmp_path, "status")

    assert told.returncode == 1
    assert "wetread: the console refuses (401): sign in first" in told.stderr.replace("\n", " ")
    assert "Traceback" not in told.stderr


def test_a_console_that_is_away_is_said_to_be() -> None:
    with pytest.raises(RemoteAway, match="does not answer"):
        Remote(f"http://127.0.0.1:{free_port()}", "token").get("/now")


@pytest.mark.parametrize(
    ("url", "because"),
    [(None, "where the console is"), ("ftp://host", "where the console is"), ("http://host", "has no TLS")],
)
def test_a_token_is_told_to_nobody_in_the_clear(url: str | None, because: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    with pytest.raises(RemoteUnclear, match=because):
        Remote.of(url, tmp_path / "token", None)


@pytest.mark.parametrize("held", ["wetread_SECRET\nsecond line", "wetread_\u2019SECRET", ""])
def test_what_is_no_token_is_quoted_nowhere(held: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(held, encoding="utf-8")
    with pytest.raises(RemoteUnclear, match="holds is no token") as refused:
        Remote.of("https://host", tmp_path / "token", None)
    assert "SECRET" not in str(refused.value)


def test_only_commands_that_a_console_knows_are_asked_elsewhere() -> None:
    assert where_asked(["status", "--json"], elsewhere=True) == ["remote", "status", "--json"]
    assert where_asked(["status"], elsewhere=False) == ["status"]
    assert where_asked(["serve"], elsewhere=True) == ["serve"]
    assert where_asked([], elsewhere=True) == []
    assert {command.callback.__name__ for command in remote_app().registered_commands} >= REMOTE
