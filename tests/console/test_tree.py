"""A tree of processes lives and dies as one."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.patience import patient
from tests.peers.loopback import until

ROOT = Path(__file__).resolve().parents[2]

# The tree under test runs in a process of its own: it installs signal handlers and adopts orphans.
TREE = """
import sys
from console.tree import Part, Tree
def part(name, code, foundation=False):
    return Part(name=name, command=(sys.executable, "-u", "-c", code), foundation=foundation)
READY = "print('ready 42'); "
WAIT = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); signal.pause()"
"""


@contextmanager
def a_tree(tmp_path: Path, text: str) -> Iterator[subprocess.Popen]:
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", TREE + textwrap.dedent(text)],
        cwd=tmp_path, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def said(tmp_path: Path) -> str:
    return (tmp_path / "log").read_text()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ignored(pid: int) -> str:
    """The signals that a process ignores, as a mask of bits in hexadecimal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("SigIgn"))


def pids_in(tmp_path: Path) -> list[int]:
    return [int(path.name) for path in (tmp_path / "pids").iterdir()]


NOTE = (
    "import os, pathlib; pathlib.Path('{folder}/pids').mkdir(exist_ok=True); "
    "pathlib.Path(f'{folder}/pids/{{os.getpid()}}').touch(); "
)


def test_a_part_that_ends_is_started_again(tmp_path: Path) -> None:
    note = NOTE.format(folder=tmp_path)
    with a_tree(tmp_path, f"""
        Tree([part("a", {note!r} + READY + WAIT)], on_ready=lambda words: print("all ready", words)).run()
        """) as tree:  # fmt: skip
        until(lambda: "all ready {'a': '42'}" in said(tmp_path), within_s=10, what="the tree stands")
        (first,) = pids_in(tmp_path)
        os.kill(first, signal.SIGKILL)
        until(lambda: len(pids_in(tmp_path)) == 2, within_s=10, what="it was started again")
        tree.terminate()
        assert tree.wait(patient(10)) == 0
    assert "was ended by SIGKILL" in said(tmp_path)
    assert not any(alive(pid) for pid in pids_in(tmp_path))


def test_a_part_that_cannot_start_stops_the_tree_and_says_so(tmp_path: Path) -> None:
    note = NOTE.format(folder=tmp_path)
    with a_tree(tmp_path, f"""
        from console.tree import PartFailed
        parts = [part("good", {note!r} + READY + WAIT), part("bad", "raise SystemExit('the port is taken')")]
        try:
            Tree(parts, on_ready=print).run()
        except PartFailed as failed:
            sys.exit(f"FAILED {{failed}}")
        """) as tree:  # fmt: skip
        assert tree.wait(patient(15)) == 1
    assert "the port is taken" in said(tmp_path)
    assert "FAILED bad could not start: it ended with exit code 1" in said(tmp_path)
    assert not (tmp_path / "pids").exists() or not any(alive(pid) for pid in pids_in(tmp_path))


def test_foundations_are_started_first_and_stopped_last(tmp_path: Path) -> None:
    code = (
        "import signal, sys; print('{0} stands', file=sys.stderr); "
        "signal.signal(signal.SIGTERM, lambda *_: (print('{0} stops', file=sys.stderr), sys.exit(0))); "
        "print('ready'); signal.pause()"
    )
    with a_tree(tmp_path, f"""
        base = part("base", {code.format("base")!r}, True)
        top = part("top", {code.format("top")!r})
        Tree([top, base], on_ready=lambda words: print("all ready")).run()
        """) as tree:  # fmt: skip
        until(lambda: "all ready" in said(tmp_path), within_s=10, what="the tree stands")
        tree.send_signal(signal.SIGINT)
        assert tree.wait(patient(10)) == 0
    order = [line for line in said(tmp_path).splitlines() if line.endswith(("stands", "stops"))]
    assert order == ["base stands", "top stands", "top stops", "base stops"]


def test_not_even_grandchildren_are_left(tmp_path: Path) -> None:
    note = NOTE.format(folder=tmp_path)
    # A grandchild in a session of its own that ignores SIGTERM: out of reach of signals to the part's group.
    grandchild = f"{note}import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    command = f"[sys.executable, '-c', {grandchild!r}], start_new_session=True"
    parent = f"import subprocess, sys; subprocess.Popen({command}); "
    with a_tree(tmp_path, f"""
        Tree([part("a", {parent!r} + READY + WAIT)], on_ready=print).run()
        """) as tree:  # fmt: skip
        until(
            lambda: (tmp_path / "pids").exists() and pids_in(tmp_path),
            within_s=10,
            what="the grandchild runs",
        )
        until(lambda: "ready" in said(tmp_path), within_s=10, what="the tree stands")
        tree.terminate()
        assert tree.wait(patient(10)) == 0
    assert not any(alive(pid) for pid in pids_in(tmp_path))


def test_a_slow_part_is_waited_for_and_named(tmp_path: Path) -> None:
    code = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)\n" + (
        "print('ready'); import signal; signal.pause()"
    )
    with a_tree(tmp_path, f"""
        import os, console.tree
        console.tree.SLOW_S = 0.2
        console.tree.INSTALLED_AT = os.getcwd()
        slow = Part(name="slow", command=(sys.executable, "-u", "-c", {code!r}), waits_for="the queue")
        Tree([slow], on_ready=lambda words: print("all ready")).run()
        """) as tree:  # fmt: skip
        until(lambda: said(tmp_path).count("part.not_ready") > 1, within_s=10, what="it is said again")
        assert "waits_for=the queue" in said(tmp_path).replace("'", "")
        (tmp_path / "go").touch()
        until(lambda: "all ready" in said(tmp_path), within_s=10, what="the tree stands")
        tree.terminate()
        assert tree.wait(patient(10)) == 0


def test_a_part_that_lives_without_answering_is_started_again(tmp_path: Path) -> None:
    note = NOTE.format(folder=tmp_path)
    with a_tree(tmp_path, f"""
        import console.tree, pathlib
        console.tree.PULSE_S = 0.1
        def pulse(words):
            print("asked", words)
            return not pathlib.Path("hangs").exists()
        hangs = Part(name="a", command=(sys.executable, "-u", "-c", {note!r} + READY + WAIT), pulse=pulse)
        Tree([hangs], on_ready=lambda words: print("all ready")).run()
        """) as tree:  # fmt: skip
        until(lambda: said(tmp_path).count("asked 42") > 4, within_s=10, what="it is asked, and well")
        (first,) = pids_in(tmp_path)
        (tmp_path / "hangs").touch()
        until(lambda: not alive(first), within_s=10, what="it is ended")
        (tmp_path / "hangs").unlink()
        until(lambda: len(pids_in(tmp_path)) == 2, within_s=10, what="it was started again")
        tree.terminate()
        assert tree.wait(patient(10)) == 0
    assert "no answer 3 times in a row" in said(tmp_path)


def test_under_nohup_a_closed_terminal_stops_nothing(tmp_path: Path) -> None:
    with a_tree(tmp_path, """
        import signal
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup leaves it
        Tree([part("a", READY + WAIT)], on_ready=lambda words: print("all ready"),
             on_stopping=lambda: print("stops")).run()
        """) as tree:  # fmt: skip
        until(lambda: "all ready" in said(tmp_path), within_s=10, what="the tree stands")
        assert int(ignored(tree.pid), 16) >> (signal.SIGHUP - 1) & 1
        tree.send_signal(signal.SIGHUP)
        tree.terminate()
        assert tree.wait(patient(10)) == 0


def test_orphans_that_end_are_buried(tmp_path: Path) -> None:
    # Its child leaves a grandchild, which becomes the tree's own when the child ends, and then ends itself.
    orphan = (
        "import os\nif os.fork() == 0:\n if os.fork() == 0:\n"
        "  os.getppid() and open('orphan', 'w').write(str(os.getpid()))\n"
        "  import time; time.sleep(0.2); os._exit(0)\n os._exit(0)\nos.wait()\n"
    )
    with a_tree(tmp_path, f"""
        import os, console.tree
        console.tree.INSTALLED_AT = os.getcwd()
        Tree([part("a", {orphan!r} + READY + WAIT)], on_ready=lambda words: print("all ready")).run()
        """) as tree:  # fmt: skip
        until(lambda: "all ready" in said(tmp_path), within_s=10, what="the tree stands")
        note = tmp_path / "orphan"
        pid = until(lambda: note.exists() and note.read_text(), within_s=10, what="the orphan has run")
        until(lambda: not Path(f"/proc/{pid}").exists(), within_s=10, what="nothing is left of it")
        tree.terminate()
        assert tree.wait(patient(10)) == 0


@pytest.mark.fault
def test_parts_stop_when_the_tree_itself_is_killed(tmp_path: Path) -> None:
    note = NOTE.format(folder=tmp_path)
    with a_tree(tmp_path, f"""
        Tree([part("a", {note!r} + READY + WAIT)], on_ready=lambda words: print("all ready")).run()
        """) as tree:  # fmt: skip
        until(lambda: "all ready" in said(tmp_path), within_s=10, what="the tree stands")
        tree.kill()
        tree.wait()
        until(
            lambda: not any(alive(pid) for pid in pids_in(tmp_path)),
            within_s=10,
            what="the part is gone, too",
        )
