"""
What is sent to another machine under a lease: taken, sent while the lease is renewed, and recorded.

Any number of threads may do so at a time. When the worker stops it takes nothing more; what is still on its
way then is given back, and will be sent again, byte for byte, by whoever takes it next.
"""

import threading
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from ledger.delivery import DeliveryClaim
from ledger.notification import NotificationClaim
from worker.claim import Lease
from worker.settings import DeliverySettings

Taken = TypeVar("Taken", DeliveryClaim, NotificationClaim)
Said = TypeVar("Said")  #: what came of one attempt


class Errands(ABC, Generic[Taken, Said]):
    """One attempt after the other; what is sent, and what the ledger is told of it, says who inherits."""

    def __init__(self, patience: DeliverySettings) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._on_their_way: dict[int, Taken] = {}
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Take nothing more. What is on its way may still arrive. Safe to call from a signal handler."""
        self._stopping.set()

    def give_back(self) -> None:
        """Give back what is still on its way. It may have arrived: the same bytes will come again."""
        with self._lock:
            claims = list(self._on_their_way.values())
        for claim in claims:
            self._return(claim)

    def _run(self, number: int, what: str) -> None:
        """Make one attempt, if it is due and nobody else makes it."""
        if self._stopping.is_set():
            return
        claim = self._take(number)
        if claim is None:
            return  # A hint that came twice or too early, or another one has to go first.
        with self._lock:
            self._on_their_way[number] = claim
        try:
            with Lease(
                lambda: self._renew(claim),
                what=f"{what} {number}",
                heartbeat_s=self._patience.heartbeat_s,
                silence_s=self._patience.lease_s,
            ):
                self._record(claim, self._attempt(claim))
        finally:
            with self._lock:
                self._on_their_way.pop(number, None)

    @abstractmethod
    def _take(self, number: int) -> Taken | None:
        """The lease, with an attempt counted; None where there is nothing to do."""

    @abstractmethod
    def _renew(self, claim: Taken) -> bool:
        """Hold the lease for longer. False: it is lost."""

    @abstractmethod
    def _attempt(self, claim: Taken) -> Said:
        """Send it, and hear what comes."""

    @abstractmethod
    def _record(self, claim: Taken, said: Said, /) -> None:
        """Tell the ledger, which may have given the lease to somebody else meanwhile."""

    @abstractmethod
    def _return(self, claim: Taken) -> None:
        """Tell the ledger that the worker was stopped."""
