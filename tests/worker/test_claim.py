"""A lease is kept as long as the ledger agrees, and not a moment longer than it can be trusted."""

import selectors
import threading

import pytest

from ledger.errors import SiteError
from ledger.job import LeaseLost
from tests.patience import patient
from tests.peers.loopback import until
from worker.claim import Bell, Interruption, Lease


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lease(renew, *, clock, lost=lambda: None, silence_s=45.0):
    return Lease(renew, what="job 1", heartbeat_s=0.005, silence_s=silence_s, lost=lost, clock=clock)


def test_a_lease_is_renewed_until_the_work_is_over():
    renewals = threading.Semaphore(0)

    def renew() -> bool:
        renewals.release()
        return True

    with lease(renew, clock=Clock()) as held:
        for _ in range(3):
            assert renewals.acquire(timeout=patient(5))
        held.confirm()


def test_a_lease_that_the_ledger_took_back_is_lost_and_says_so_once():
    calls = []
    with lease(lambda: False, clock=Clock(), lost=lambda: calls.append(1)) as held:
        until(lambda: not held.held, within_s=5, what="the lease is lost")
        with pytest.raises(LeaseLost):
            held.confirm()
    assert calls == [1]


def test_a_worker_that_was_stopped_for_too_long_does_not_even_ask():
    clock, asked = Clock(), []

    def renew() -> bool:
        asked.append(clock.now)
        return True

    lost = threading.Event()
    with lease(renew, clock=clock, lost=lost.set) as held:
        until(lambda: asked, within_s=5, what="the first renewal")
        clock.now += 45.1  # as SIGSTOP and SIGCONT would
        assert not held.held
        assert lost.wait(patient(5))
        before = len(asked)
        with pytest.raises(LeaseLost, match="not renewed"):
            held.confirm()
    assert len(asked) == before


def test_a_ledger_that_is_away_for_a_moment_costs_nothing():
    clock, answers = Clock(), iter([SiteError("away"), SiteError("away"), True, True])
    back = threading.Event()

    def renew() -> bool:
        answer = next(answers, True)
        if isinstance(answer, Exception):
            raise answer
        back.set()
        return True

    with lease(renew, clock=clock) as held:
        assert back.wait(patient(5))
        held.confirm()


def test_a_ledger_that_stays_away_ends_the_lease():
    clock, lost = Clock(), threading.Event()

    def renew() -> bool:
        clock.now += 20
        raise SiteError("away")

    with lease(renew, clock=clock, lost=lost.set) as held:
        assert lost.wait(patient(5))
        assert not held.held


def test_a_bell_rings_once_and_can_be_waited_for():
    bell = Bell()
    with selectors.DefaultSelector() as selector:
        selector.register(bell, selectors.EVENT_READ)
        assert selector.select(0) == []
        bell.ring(Interruption.LEASE_LOST)
        bell.ring(Interruption.STOPPING)
        assert selector.select(5)
    assert bell.rung is Interruption.LEASE_LOST
    bell.close()
    bell.ring(Interruption.STOPPING)  # nobody listens any more
