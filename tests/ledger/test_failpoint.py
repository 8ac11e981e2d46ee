import ast
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ledger import failpoint as module
from ledger.failpoint import NAMES, FailpointReached, UnknownFailpoint, arm, disarm, failpoint
from tests.patience import patient

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
from ledger.failpoint import arm, failpoint
arm("job_claimed:{action}")
failpoint("job_claimed")
print("alive")
"""


@pytest.fixture(autouse=True)
def _disarmed():
    yield
    disarm()


def test_an_unarmed_failpoint_does_nothing() -> None:
    for name in NAMES:
        failpoint(name)


@pytest.mark.parametrize("name", NAMES)
def test_an_armed_failpoint_acts_once_at_its_turn_and_no_other_does(name: str) -> None:
    arm(f"{name}:raise:3")
    for other in NAMES:
        if other != name:
            failpoint(other)
    failpoint(name)
    failpoint(name)
    with pytest.raises(FailpointReached, match=f"failpoint {name}, passing 3"):
        failpoint(name)
    failpoint(name)


@pytest.mark.parametrize(
    "text",
    ["", "nowhere:kill", "job_claimed", "job_claimed:explode", "job_claimed:kill:0", "job_claimed:kill:x"],
)
def test_what_cannot_be_armed_is_refused(text: str) -> None:
    with pytest.raises(UnknownFailpoint):
        arm(text)


@pytest.mark.fault
def test_kill_is_a_real_kill() -> None:
    script = SCRIPT.format(action="kill")
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=patient(30), check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == b""


@pytest.mark.fault
def test_stop_stops_until_it_is_continued() -> None:
    import os

    script = SCRIPT.format(action="stop")
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=patient(30))[0] == b"alive\n"


@pytest.mark.fault
@pytest.mark.parametrize("trial", range(5))
def test_the_thread_that_reaches_the_failpoint_does_nothing_more(trial: int) -> None:
    import os

    script = """
import os, threading
from ledger.failpoint import arm, failpoint
arm("job_claimed:stop")
def work():
    failpoint("job_claimed")
    os.write(1, b"on")
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE) as process:
        os.waitpid(process.pid, os.WUNTRACED)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        try:
            with pytest.raises(BlockingIOError):
                os.read(process.stdout.fileno(), 1)
        finally:
            process.send_signal(signal.SIGCONT)
        process.wait(patient(30))
        assert process.stdout.read() == b"on"


def test_every_name_is_used_and_every_use_has_a_name() -> None:
    used: set[str] = set()
    for package in ("dicom_node", "worker", "console", "results"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                    "failpoint",
                    "failpoint.failpoint",
                ):
                    used.add(ast.literal_eval(node.args[0]))
    assert used == set(module.NAMES)
