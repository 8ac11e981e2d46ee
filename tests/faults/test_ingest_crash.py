"""The node is killed, or its disk fails, at each system call of receiving three instances.

Whatever was answered Success has its row and its bytes after the next start; whatever was not is wholly there
or not there at all; and no temporary file stays.
"""

import time
from pathlib import Path

import pytest

from ledger.failpoint import NAMES
from tests.dicom_node.scanner import send_all
from tests.faults.ingest import (
    INSTANCES_SENT,
    Ingest,
    Life,
    calls_by_thread,
    judge,
    strace,
)

#: What touches the disk, makes a promise or gives an answer.
CALLS = (
    "openat",
    "write",
    "writev",
    "fsync",
    "fdatasync",
    "rename",
    "pwrite64",
    "flock",
    "close",
    "sendto",
    "unlink",
)
FAILING = {
    "openat": "EIO",
    "write": "ENOSPC",
    "writev": "ENOSPC",
    "fsync": "EIO",
    "fdatasync": "EIO",
    "rename": "EIO",
    "pwrite64": "ENOSPC",
}
RECEIVING = ("spool_written", "spool_renamed", "folder_synced", "arrivals_committed")
POINTS_PER_CALL = 4  # of each system call in each kind of thread, spread evenly, first and last among them

pytestmark = [pytest.mark.fault, pytest.mark.peer]


@pytest.fixture(scope="module")
def ingest(tmp_path_factory) -> Ingest:
    return Ingest(tmp_path_factory.mktemp("ingest"))


def traced(life: Life, group: bool, *expressions: str):
    """strace on the thread that commits alone, or on the whole process."""
    options = [option for expression in expressions for option in ("-e", expression)]
    return strace(life.group_thread if group else life.process.pid, *options, follow=not group)


@pytest.fixture(scope="module")
def counted(ingest: Ingest) -> dict[bool, dict[str, int]]:
    """How often each call is made for three instances, by the committing thread (True) and by all."""
    found = {}
    for group in (False, True):
        folder = ingest.fresh()
        with ingest.node(folder) as life:
            with traced(life, group, f"trace={','.join(CALLS)}") as lines:
                answers = send_all(life.port, INSTANCES_SENT)
        assert set(answers.values()) == {0x0000}
        assert judge(folder, answers) == len(INSTANCES_SENT)
        found[group] = calls_by_thread(lines)
    assert found[True].get("fsync"), "the committing thread syncs folders"
    return found


def points(count: int) -> list[int]:
    if count <= POINTS_PER_CALL:
        return list(range(1, count + 1))
    step = (count - 1) / (POINTS_PER_CALL - 1)
    return sorted({1 + round(step * index) for index in range(POINTS_PER_CALL)})


def test_killed_at_any_system_call_no_acknowledged_instance_is_lost(ingest: Ingest, counted) -> None:
    tried = killed = 0
    began = time.monotonic()
    for group, calls in counted.items():
        for call, count in sorted(calls.items()):
            for nth in points(count):
                folder = ingest.fresh()
                with ingest.node(folder) as life:
                    with traced(life, group, f"trace={call}", f"inject={call}:signal=KILL:when={nth}"):
                        answers = send_all(life.port, INSTANCES_SENT)
                    killed += life.killed
                judge(folder, answers)
                tried += 1
    print(f"\n{tried} kill points, {killed} reached, {time.monotonic() - began:.1f} s, nothing lost")
    assert killed >= 0.8 * tried


def test_a_disk_that_fails_at_any_system_call_gets_no_success_and_the_node_recovers(
    ingest: Ingest, counted
) -> None:
    tried = refused = 0
    began = time.monotonic()
    for group, calls in counted.items():
        for call, error in FAILING.items():
            for nth in points(calls.get(call, 0)):
                folder = ingest.fresh()
                with ingest.node(folder) as life:
                    with traced(life, group, f"trace={call}", f"inject={call}:error={error}:when={nth}"):
                        answers = send_all(life.port, INSTANCES_SENT)
                    refused += any(status != 0x0000 for status in answers.values()) or len(answers) < 3
                    assert not set(answers.values()) - {0x0000, 0xA700}, f"{call} {nth}"
                    again = send_all(life.port, INSTANCES_SENT)
                    assert again == dict.fromkeys(INSTANCES_SENT, 0x0000), (
                        f"after {error} in {call} {nth}: {again}"
                    )
                assert judge(folder, answers | again) == len(INSTANCES_SENT)
                tried += 1
    print(f"\n{tried} failing calls, {refused} felt, {time.monotonic() - began:.1f} s, no false success")
    assert refused


@pytest.mark.parametrize("name", RECEIVING)
@pytest.mark.parametrize("nth", [1, 3])
def test_killed_between_any_two_steps_of_the_promise(ingest: Ingest, name: str, nth: int) -> None:
    assert name in NAMES
    folder = ingest.fresh()
    with ingest.node(folder, f"{name}:kill:{nth}") as life:
        answers = send_all(life.port, INSTANCES_SENT)
        assert life.killed
    assert len(answers) == nth - 1
    assert judge(folder, answers) in (nth - 1, nth)

    with ingest.node(folder) as life:
        assert set(send_all(life.port, INSTANCES_SENT).values()) == {0x0000}
    assert judge(folder, {}) == len(INSTANCES_SENT)


def test_an_exception_between_two_steps_is_no_success(ingest: Ingest) -> None:
    for name in RECEIVING:
        folder: Path = ingest.fresh()
        with ingest.node(folder, f"{name}:raise") as life:
            answers = send_all(life.port, INSTANCES_SENT)
        first, *others = answers.values()
        assert first == 0xA700
        assert set(others) == {0x0000}
        judge(folder, answers)
