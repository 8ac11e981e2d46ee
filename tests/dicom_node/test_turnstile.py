"""Which connections may stay. The clock is ours; the connections are pairs that nobody listens on."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dicom_node.peers import PeerSettings
from dicom_node.settings import NodeSettings
from dicom_node.turnstile import Turnstile
from tests.patience import patient

SCANNER = PeerSettings(name="ct", ae_title="CT", host="ct.hospital", port=104, addresses=("10.1.0.0/16",))
ARCHIVE = PeerSettings(
    name="pacs", ae_title="PACS", host="10.2.0.1", port=104, receive=False, confirm="answer"
)
NEAR = PeerSettings(name="near", ae_title="NEAR", host="10.3.0.1", port=104)


class Door:
    """A turnstile with a clock that stands still, and those who came to it."""

    def __init__(self, stack: ExitStack, *peers: PeerSettings, **limits: object) -> None:
        self.now = 0.0
        self.told: list[tuple[str, str, str]] = []
        self.port = 0
        self._stack = stack
        self.turnstile = Turnstile(
            NodeSettings(**limits),
            peers,
            told=lambda *what: self.told.append(what),
            clock=lambda: self.now,
        )

    def come(self, address: str) -> tuple[str, int] | None:
        """Whoever comes; None where he has to leave again."""
        ours, theirs = socket.socketpair()
        self._stack.callback(ours.close)
        self._stack.callback(theirs.close)
        self.port += 1
        self.latest = theirs
        return (address, self.port) if self.turnstile.enter(ours, (address, self.port)) else None

    def reasons(self) -> list[str]:
        return [reason for reason, _, _ in self.told]


@pytest.fixture
def door(request) -> Iterator:
    with ExitStack() as stack:
        yield lambda *peers, **limits: Door(stack, *peers, **limits)


def test_the_defaults_are_those_of_the_table() -> None:
    limits = NodeSettings()
    assert (limits.maximum_connections, limits.connections_per_address) == (64, 8)
    assert (limits.connections_unassociated, limits.connections_per_s) == (16, 20.0)
    assert (limits.maximum_associations, limits.associations_per_ae) == (25, 8)
    # A minute of silence would not let a minute be the promise: see idle_s.
    assert (limits.artim_s, limits.pdu_silence_s, limits.pdu_s, limits.idle_s) == (30, 10, 60, 50)
    assert (limits.throughput_min_bytes_s, limits.throughput_s) == (16 << 10, 30)
    assert (limits.instance_bytes_max, limits.instance_s) == (2 << 30, 1800)
    with pytest.raises(ValueError, match="less than or equal"):
        PeerSettings(name="p", ae_title="P", host="h", port=1, instance_bytes_max=(4 << 30) + 1)


def test_an_address_has_only_so_many_places_and_the_others_have_theirs(door) -> None:
    at = door()
    inside = [at.come("192.0.2.1") for _ in range(8)]
    assert all(inside)
    for remote in inside:
        at.turnstile.associated(remote)

    assert at.come("192.0.2.1") is None
    assert at.come("192.0.2.2")
    assert at.told == [
        (
            "address",
            "8 connections come from 192.0.2.1, which is the limit: an address that stands for several "
            "machines can be named in the addresses of a [[peer]]",
            "192.0.2.1",
        )
    ]

    at.turnstile.leave(inside[0])
    assert at.come("192.0.2.1")


def test_who_has_not_asked_for_an_association_counts_until_he_has(door) -> None:
    at = door()
    waiting = [at.come(f"192.0.2.{number}") for number in range(16)]
    assert all(waiting)
    assert at.come("198.51.100.1") is None
    assert at.reasons() == ["unassociated"]

    at.turnstile.associated(waiting[3])
    assert at.come("198.51.100.1")


def test_who_has_waited_longest_without_asking_gives_way(door) -> None:
    at = door()
    for number in range(16):
        at.come(f"192.0.2.{number}")
        if number == 0:
            eldest = at.latest
    at.now = 1.9
    assert at.come("198.51.100.1") is None
    at.now = 2.0
    assert at.come("198.51.100.1")

    assert at.reasons() == ["unassociated", "gave way"]
    assert at.told[-1][2] == "192.0.2.0"
    eldest.settimeout(patient(1))
    assert eldest.recv(1) == b""
    assert at.turnstile.inside() == 16


def test_a_crowd_of_silent_connections_does_not_keep_out_who_shares_their_address(door) -> None:
    at = door()
    assert None not in [at.come("192.0.2.1") for _ in range(8)]
    at.now = 2.5
    assert at.come("192.0.2.1")


def test_associations_never_give_way(door) -> None:
    at = door(maximum_connections=2, connections_per_address=2)
    for remote in [at.come("192.0.2.1"), at.come("192.0.2.1")]:
        at.turnstile.associated(remote)
    at.now = 100.0
    assert at.come("192.0.2.2") is None
    assert at.reasons() == ["total"]


def test_a_scanner_that_opens_an_association_for_every_image_is_never_too_fast(door) -> None:
    at = door()
    for _ in range(5000):
        remote = at.come("192.0.2.1")
        assert remote
        at.turnstile.associated(remote)
        at.turnstile.leave(remote)
        at.now += 0.001
    assert at.told == []


def test_connecting_for_nothing_is_only_so_often_possible(door) -> None:
    at = door()
    let_in = 0
    for _ in range(1000):
        remote = at.come("192.0.2.1")
        if remote:
            let_in += 1
            at.turnstile.leave(remote)
        at.now += 0.01

    # A burst of 100, and 20 in each of 10 seconds.
    assert 290 <= let_in <= 301
    assert set(at.reasons()) == {"rate"}
    assert at.come("192.0.2.2")


@pytest.mark.parametrize("address", ["10.1.7.7", "10.3.0.1", "::ffff:10.1.7.7"])
def test_places_are_kept_for_whom_the_site_knows_by_address(door, address: str) -> None:
    at = door(SCANNER, ARCHIVE, NEAR, maximum_connections=20, connections_unassociated=20)
    inside = [at.come(f"192.0.2.{number}") for number in range(20)]
    assert sum(remote is not None for remote in inside) == 15
    for remote in inside:
        if remote:
            at.turnstile.associated(remote)

    assert at.come("10.2.0.1") is None  # It only gets results: it has no business here.
    known = [at.come(address) for _ in range(10)]
    # Neither the limit of an address nor that of strangers is theirs.
    assert sum(remote is not None for remote in known) == 5


def test_strangers_have_all_places_where_the_site_knows_nobody_by_address(door) -> None:
    named = PeerSettings(name="ct", ae_title="CT", host="ct.hospital", port=104)
    at = door(named, maximum_connections=20, connections_unassociated=20)
    assert all(at.come(f"192.0.2.{number}") for number in range(20))


def test_a_known_machine_is_not_put_out_for_a_stranger(door) -> None:
    at = door(SCANNER, maximum_connections=64, connections_unassociated=16)
    known = [at.come("10.1.0.1") for _ in range(12)]
    assert all(known)
    at.now = 60.0
    assert at.come("192.0.2.1") is None
