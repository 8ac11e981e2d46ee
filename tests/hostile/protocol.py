"""P8: hostile connections cost the node little, and a good peer next to nothing."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.upper_layer import PeerConfused, fragments_of, parse_elements
from tests.dicom_node.node_process import node_process
from tests.hostile.pdus import PREFIXES, End, Moment, Plan, drawn
from tests.hostile.slow_peers import SlowPeers
from tests.hostile.verdict import Verdict, all_of, at_most, below, none_of
from tests.hostile.victim import (
    MIB,
    GoodPeer,
    calm_again,
    connect,
    forget_peak,
    ledger_of,
    read_pdu,
    recorded,
    request,
    stumbles,
    vitals,
)
from tests.peers.loopback import until

ECHO_P99_S, GROWTH_MIB, CALM_S = 1.0, 64.0, 60.0
_ENDS_WITHIN_S = 15.0  # a connection on which we have finished speaking
_KNOCKS = 20  # before a fuzzer gives up getting in: the slow ones take most of the places
_REQUEST = request("FUZZER")


@dataclass
class Fuzzed:
    """What came of the fuzzed connections."""

    connections: int = 0
    pdus: int = 0
    turned_away: int = 0  #: before the wrong bytes could be said
    acknowledged: list[str] = field(default_factory=list)  #: SOP Instance UIDs that got Success
    stuck: list[Plan] = field(default_factory=list)  #: The node did not end them.


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How hard to try."""

    slow: int  #: connections at a time
    machines: int  #: that hold half of them; the other half is one machine's
    pdus: int
    attack_s: float  #: at least
    node: dict[str, object]  #: changed settings of the node


def full() -> Effort:
    """The promise, against the settings that are shipped."""
    return Effort(slow=200, machines=100, pdus=10_000, attack_s=40.0, node={})


def quick() -> Effort:
    """The same against shorter timers."""
    return Effort(
        slow=200,
        machines=100,
        pdus=600,
        attack_s=6.0,
        node={"artim_s": 4.0, "pdu_silence_s": 2.0, "pdu_s": 4.0, "idle_s": 6.0},
    )


def try_protocol(folder: Path, effort: Effort, seed: int) -> Verdict:
    """Attack a node in `folder`."""
    plans = drawn(effort.pdus, seed)
    good = {
        "name": "good",
        "ae_title": "GOODPEER",
        "host": "127.0.0.1",
        "port": 104,
        "addresses": ["127.0.0.1"],
    }
    with node_process(folder, node={"port": 0, **effort.node}, peers=[good]) as node:
        pid = node.process.pid
        # What is made once, such as tables and the connections to the ledger, is not growth.
        fresh = vitals(pid)
        _send_all(node.port, drawn(100, seed + 1), Fuzzed())
        until(lambda: vitals(pid).threads <= fresh.threads, within_s=30, what="the warm-up is over")
        before = vitals(pid)
        forget_peak(pid)
        fuzzed = Fuzzed()
        # Every other connection is one broken machine's; the rest come from machines of their own.
        addresses = [
            "127.0.1.1" if number % 2 else f"127.0.2.{number // 2 % effort.machines + 1}"
            for number in range(effort.slow)
        ]
        began = time.monotonic()
        with GoodPeer(node.port) as good_peer, SlowPeers(node.port, effort.slow, addresses) as slow:
            _send_all(node.port, plans, fuzzed)
            threading.Event().wait(max(0.0, effort.attack_s - (time.monotonic() - began)))
            attack_s = time.monotonic() - began
            slow.fall_silent()
            held, opened = slow.held(), slow.opened()
            calm_s, after = calm_again(pid, before, within_s=CALM_S)
        peak = vitals(pid)
        alive = node.process.poll() is None
        with ledger_of(folder) as ledger:
            kept = recorded(ledger)
            files = {path.stem for path in (node.spool / "instances").rglob("*.dcm")}
        left = list((node.spool / "incoming").iterdir())
        odd = stumbles(node)
    lost = [uid for uid in fuzzed.acknowledged if kept.get(uid) not in files]
    return Verdict(
        promise="P8",
        done=(
            f"{opened} slow connections from {effort.machines + 1} addresses, {effort.slow} at a time"
            f" ({held} held at the end); {fuzzed.pdus} fuzzed PDUs on {fuzzed.connections} connections,"
            f" {fuzzed.turned_away} turned away; {attack_s:.0f} s"
        ),
        measures=(
            none_of("processes of ours that died", [] if alive else ["node"], 1),
            below(
                f"p99 of {len(good_peer.took_s)} good echoes meanwhile", ECHO_P99_S, good_peer.p99_s(), "s",
                why=f"{len(good_peer.failures)} failed: {sorted(set(good_peer.failures))[:3]}", digits=3,
            ),
            below("memory, at its peak above the start", GROWTH_MIB, (peak.peak - before.rss) / MIB, "MiB"),
            at_most(
                "threads and descriptors are what they were", CALM_S, calm_s, "s",
                why=f"{before} became {after}",
            ),
            all_of("fuzzed connections came to an end", fuzzed.stuck, fuzzed.connections),
            none_of("acknowledged and not held", lost, len(fuzzed.acknowledged)),
            none_of("half-received files left", left, 1 + fuzzed.connections),
            none_of("surprises in the log", odd, 1 + fuzzed.connections),
        ),
    )  # fmt: skip


def _send_all(port: int, plans: list[Plan], fuzzed: Fuzzed) -> None:
    lock, wait = threading.Lock(), threading.Event()

    def carry_out(numbered: tuple[int, Plan]) -> None:
        number, plan = numbered
        # Every one of them another machine of the neighbourhood: what one machine may do has its own limits.
        address = f"127.1.{number // 250 % 250}.{number % 250 + 1}"
        for _ in range(_KNOCKS):
            said, ended = _talk(port, plan, address)
            if said is not None:
                break
            wait.wait(0.25)
        with lock:
            fuzzed.connections += 1
            if said is None:
                fuzzed.turned_away += 1
                return
            fuzzed.pdus += len(plan.pdus)
            fuzzed.acknowledged.extend(_successes(said))
            if not ended:
                fuzzed.stuck.append(plan)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(carry_out, enumerate(plans)))


def _talk(port: int, plan: Plan, address: str) -> tuple[list[bytes] | None, bool]:
    """What the node said, None where it let nobody in; and whether the connection came to an end."""
    heard: list[bytes] = []
    try:
        line = connect(port, address, _ENDS_WITHIN_S)
    except OSError:
        return None, True
    with line:
        try:
            if plan.moment is not Moment.BEFORE:
                line.sendall(_REQUEST)
                if read_pdu(line)[:1] != b"\2":
                    return None, True
                line.sendall(PREFIXES[plan.moment])
            for pdu in plan.pdus:
                line.sendall(pdu)
            match plan.end:
                case End.RESET:
                    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                case End.WAIT:
                    line.shutdown(socket.SHUT_WR)
                    while pdu := read_pdu(line):
                        heard.append(pdu)
        except TimeoutError:
            return heard, False
        except OSError:
            pass  # It was faster than we.
    return heard, True


def _successes(heard: list[bytes]) -> Iterator[str]:
    """The SOP Instance UIDs of the C-STORE responses that say Success."""
    for pdu in heard:
        if pdu[:1] != b"\4":
            continue
        with suppress(PeerConfused):
            elements = parse_elements(b"".join(data for *_, data in fragments_of(pdu[6:])))
            if elements.get((0, 0x0100)) == b"\x01\x80" and elements.get((0, 0x0900)) == b"\0\0":
                yield elements.get((0, 0x1000), b"").decode("latin-1").rstrip("\0 ")
