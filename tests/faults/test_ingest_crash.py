"""The node is killed, or its disk fails, at each system call of receiving three instances.

Whatever was answered Success has its row and its bytes after the next start; whatever was not is wholly there
or not there at all; and no temporary file stays.
"""

import time
from pathlib import Path

import pytest

from ledger.failpoint import NAMES
from tests.dicom_node.scanner import busy, send_all
from tests.faults.ingest import (
    INSTANCES_SENT,
    LARGE_SENT,
    Ingest,
    Life,
    calls_by_thread,
    judge,
    promised,
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
    "syncfs",
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
    "syncfs": "EIO",
}
SLOW = ("spool_written", "spool_renamed", "folder_synced", "arrivals_committed")
QUICK = ("page_written", "files_named", "pages_recorded", "files_synced")
POINTS_PER_CALL = 3  # of each system call in each kind of thread, spread evenly, first and last among them
#: The two ways of receiving, each looked at as a whole and in the one thread that writes for all.
PLACES = [(slow, one) for slow in (True, False) for one in (True, False)]

pytestmark = [pytest.mark.fault, pytest.mark.peer]


@pytest.fixture(scope="module")
def ingest(tmp_path_factory) -> Ingest:
    return Ingest(tmp_path_factory.mktemp("ingest"))


def traced(life: Life, place: tuple[bool, bool], *expressions: str):
    """strace on the thread that writes for all, or on the whole process."""
    slow, one = place
    options = [option for expression in expressions for option in ("-e", expression)]
    thread = life.threads["group-commit" if slow else "bookkeeper"]
    return strace(thread if one else life.process.pid, *options, follow=not one)


@pytest.fixture(scope="module")
def counted(ingest: Ingest) -> dict[tuple[bool, bool], dict[str, int]]:
    """How often each call is made for three instances, in each place."""
    found = {}
    for place in PLACES:
        folder = ingest.fresh()
        with ingest.node(folder, slow=place[0]) as life:
            with traced(life, place, f"trace={','.join(CALLS)}") as lines:
                answers = send_all(life.port, INSTANCES_SENT)
                life.rest()
        assert set(answers.values()) == {0x0000}
        assert judge(folder, answers) == len(INSTANCES_SENT)
        found[place] = calls_by_thread(lines)
    assert found[True, True].get("fsync"), "the committing thread syncs folders"
    assert found[False, True].get("syncfs"), "the bookkeeper syncs the disk"
    assert found[False, False].get("pwrite64"), "the daybook is written"
    return found


def points(count: int) -> list[int]:
    if count <= POINTS_PER_CALL:
        return list(range(1, count + 1))
    step = (count - 1) / (POINTS_PER_CALL - 1)
    return sorted({1 + round(step * index) for index in range(POINTS_PER_CALL)})


def test_killed_at_any_system_call_no_acknowledged_instance_is_lost(ingest: Ingest, counted) -> None:
    tried = killed = 0
    began = time.monotonic()
    for place, calls in counted.items():
        for call, count in sorted(calls.items()):
            for nth in points(count):
                folder = ingest.fresh()
                with ingest.node(folder, slow=place[0]) as life:
                    with traced(life, place, f"trace={call}", f"inject={call}:signal=KILL:when={nth}"):
                        answers = send_all(life.port, INSTANCES_SENT)
                        life.rest()
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
    for place, calls in counted.items():
        for call, error in FAILING.items():
            for nth in points(calls.get(call, 0)):
                folder = ingest.fresh()
                with ingest.node(folder, slow=place[0]) as life:
                    with traced(life, place, f"trace={call}", f"inject={call}:error={error}:when={nth}"):
                        answers = send_all(life.port, INSTANCES_SENT)
                        life.rest()
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


@pytest.mark.parametrize("name", [*SLOW, QUICK[0]])
@pytest.mark.parametrize("nth", [1, 3])
def test_killed_between_any_two_steps_of_the_promise(ingest: Ingest, name: str, nth: int) -> None:
    assert name in NAMES
    folder = ingest.fresh()
    with ingest.node(folder, f"{name}:kill:{nth}", slow=name in SLOW) as life:
        answers = send_all(life.port, INSTANCES_SENT)
        assert life.killed
    assert len(answers) == nth - 1
    assert judge(folder, answers) in (nth - 1, nth)

    with ingest.node(folder) as life:
        assert set(send_all(life.port, INSTANCES_SENT).values()) == {0x0000}
    assert judge(folder, {}) == len(INSTANCES_SENT)


@pytest.mark.parametrize("name", QUICK[1:])
def test_killed_while_it_carries_over_what_it_promised_all_of_that_is_carried_forward(
    ingest: Ingest, name: str
) -> None:
    assert name in NAMES
    folder = ingest.fresh()
    with ingest.node(folder, f"{name}:kill") as life:
        answers = send_all(life.port, INSTANCES_SENT)
        life.rest()
        assert life.killed
    assert answers
    assert judge(folder, answers) >= len(answers)


def test_a_node_that_starts_anew_carries_forward_before_it_takes_anything_in(ingest: Ingest) -> None:
    """Without the reconciliation that comes before: what the pages hold is not written over."""
    folder = ingest.fresh()
    with ingest.node(folder, "files_named:kill") as life:
        answers = send_all(life.port, INSTANCES_SENT)
        life.rest()
        assert life.killed
    assert promised(folder)

    with ingest.node(folder):
        assert not promised(folder)
    assert judge(folder, answers) == len(INSTANCES_SENT)


def test_an_exception_between_two_steps_is_no_success(ingest: Ingest) -> None:
    for name in (*SLOW, QUICK[0]):
        folder: Path = ingest.fresh()
        with ingest.node(folder, f"{name}:raise", slow=name in SLOW) as life:
            answers = send_all(life.port, INSTANCES_SENT)
        first, *others = answers.values()
        assert first == 0xA700
        assert set(others) == {0x0000}
        judge(folder, answers)


# Large instances while several associations send: each becomes a file at once, and its row follows


def send_at_once(life: Life) -> dict[str, int]:
    """Three large instances while three more associations are in the middle of one."""
    with busy(life.port, 3):
        answers = send_all(life.port, LARGE_SENT)
        life.rest()
    return answers


def expect_recent(life: Life) -> dict[str, int]:
    """Have the study recorded a moment ago."""
    return send_all(life.port, INSTANCES_SENT)


def test_large_instances_that_come_at_once_are_written_once(ingest: Ingest) -> None:
    folder = ingest.fresh()
    with ingest.node(folder) as life:
        answers = expect_recent(life)
        with strace(life.process.pid, "-e", "trace=pwrite64,fsync") as lines:
            answers |= send_at_once(life)
    assert set(answers.values()) == {0x0000}
    assert judge(folder, answers) == 6
    pages = [line for line in lines if "pwrite64(" in line and "WTPAGE01" in line]
    assert not pages
    assert sum("fsync(" in line and "fdatasync" not in line for line in lines) >= 2 * len(LARGE_SENT)


@pytest.mark.parametrize("call", ["openat", "write", "rename", "fsync", "sendto"])
@pytest.mark.parametrize("nth", [1, 3])
def test_killed_while_large_instances_become_files_no_acknowledged_one_is_lost(
    ingest: Ingest, call: str, nth: int
) -> None:
    folder = ingest.fresh()
    with ingest.node(folder) as life:
        answers = expect_recent(life)
        with strace(life.process.pid, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={nth}"):
            answers |= send_at_once(life)
        assert life.killed
    judge(folder, answers)


@pytest.mark.parametrize("call", ["openat", "write", "rename", "fsync"])
def test_a_disk_that_fails_while_large_instances_become_files_gets_no_success(
    ingest: Ingest, call: str
) -> None:
    folder = ingest.fresh()
    with ingest.node(folder) as life:
        answers = expect_recent(life)
        error = f"inject={call}:error={FAILING[call]}:when=1"
        with strace(life.process.pid, "-e", f"trace={call}", "-e", error):
            large = send_at_once(life)
        assert set(large.values()) <= {0x0000, 0xA700}
        assert 0xA700 in large.values()
        again = send_at_once(life)
        assert again == dict.fromkeys(LARGE_SENT, 0x0000)
    assert judge(folder, answers | large | again) == 6


def test_killed_between_the_file_of_a_large_instance_and_its_answer(ingest: Ingest) -> None:
    folder = ingest.fresh()
    with ingest.node(folder, "file_written:kill:2") as life:
        answers = expect_recent(life)
        large = send_at_once(life)
        assert life.killed
    assert list(large.values()) == [0x0000]
    assert judge(folder, answers | large) in (4, 5)
