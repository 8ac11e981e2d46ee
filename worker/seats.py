"""
What a worker has in hand, and whether it may take another job.

A worker computes one job at a time. While it does, it may read one more, and encode the one before: so at
most one job waits here that another worker could have, and one more if that is urgent.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from ledger.job import Claim, Priority
from ledger.usage import Usage, Work
from worker.claim import Bell, Interruption
from worker.exchange import Admitted, Entered, Progressed, Stage

_PAST = ("computed", "encode", "check")


class Room(Enum):
    """What a worker may take now."""

    NONE = "none"
    ANY = "any"  #: It computes nothing.
    AHEAD = "ahead"  #: It computes, and may read what comes next.


@dataclass(slots=True)
class Seat:
    """A claimed job, from the claim to the last row."""

    claim: Claim
    bell: Bell
    stage: Stage | None = None  #: None: the child has not begun with it
    admitted: Admitted | None = None
    entered_at: float = 0.0  #: that stage: seconds since 1970 UTC, by this machine's clock
    part: float | None = None  #: of the model's work that is done; None: it does not tell

    @property
    def past(self) -> bool:
        """The model is free for the next."""
        return self.stage in _PAST

    @property
    def alone(self) -> bool:
        """It was tried before, so nobody shall share the child with it."""
        return self.claim.attempt > 1

    @property
    def usage(self) -> Usage | None:
        """What is known of what it takes, once it was admitted."""
        return self.admitted.usage if self.admitted else None


@dataclass(slots=True)
class Keeping:
    """The models that the child keeps, as it said last."""

    models: tuple[str, ...] = ()
    taken_bytes: int = 0


class Seats:
    """The jobs in hand. Every method may be called from any thread."""

    def __init__(self, *, ahead: bool) -> None:
        self._ahead = ahead
        self._lock = threading.RLock()  # A signal handler may ring bells while its thread is in here.
        self._seats: list[Seat] = []
        self._choosing = False
        self._shut = False  # Nothing was found to take ahead; that will be so until the next one computes.
        self.entered = 0  #: hints in hand
        self.others_idle = False  #: another worker has nothing to do, so nothing is taken ahead here
        self.paused = False  #: an operator holds this worker still: it finishes what it has
        self.keeping = Keeping()
        self.changed = threading.Event()  #: set whenever something changed
        self.wake: Callable[[], None] = _nothing  #: called whenever there may be room

    @property
    def open(self) -> bool:
        """Whether a hint would find room."""
        return self.room is not Room.NONE

    @property
    def room(self) -> Room:
        """What may be taken now. While somebody chooses there is none for anybody else."""
        with self._lock:
            return Room.NONE if self._choosing else self._room()

    def _room(self) -> Room:
        to_compute = [seat for seat in self._seats if not seat.past]
        past = len(self._seats) - len(to_compute)
        if not self._seats and not self.paused:
            return Room.ANY
        if self.paused or not self._ahead or past > 1:
            return Room.NONE
        if not to_compute:
            return Room.ANY
        if len(to_compute) > 1 or self._shut or self.others_idle:
            return Room.NONE
        (computes,) = to_compute
        admitted = computes.admitted
        if computes.stage != "model" or admitted is None or computes.alone:
            return Room.NONE
        # The next input may well be larger than this one, and lies in memory with it.
        return Room.AHEAD if admitted.spare >= 2 * admitted.held else Room.NONE

    @contextmanager
    def hint(self) -> Iterator[None]:
        """A hint is in hand."""
        with self._lock:
            self.entered += 1
        try:
            yield
        finally:
            with self._lock:
                self.entered -= 1

    @contextmanager
    def choosing(self) -> Iterator[Room]:
        """Only one chooses at a time; whoever comes meanwhile finds no room."""
        with self._lock:
            room = self.room
            if room is not Room.NONE:
                self._choosing = True
        try:
            yield room
        finally:
            if room is not Room.NONE:
                with self._lock:
                    self._choosing = False
                self._stir()

    def take(self, claim: Claim) -> Seat:
        """Sit down with a claimed job."""
        seat = Seat(claim, Bell(), entered_at=time.time())
        with self._lock:
            self._seats.append(seat)
        self._stir()
        return seat

    def leave(self, seat: Seat) -> None:
        """The job is recorded, or given back."""
        with self._lock:
            self._seats.remove(seat)
            self._shut = False
            seat.bell.close()
        self._stir()

    def hear(self, seat: Seat, said: Entered | Admitted | Progressed) -> None:
        """The child said something of a job."""
        with self._lock:
            if isinstance(said, Entered):
                seat.stage, seat.entered_at, seat.part = said.stage, time.time(), None
                if said.stage in ("model", "computed"):
                    self._shut = False
            elif isinstance(said, Progressed):
                seat.part = said.part
            else:
                seat.admitted = said
                self.keeping = Keeping(said.kept, said.taken_bytes)
        self._stir()

    def shut(self) -> None:
        """There is nothing to take ahead."""
        with self._lock:
            self._shut = True

    def pause(self, *, paused: bool) -> None:
        """Take nothing more, or again what there is."""
        with self._lock:
            self.paused = paused
        self._stir()

    @property
    def works(self) -> tuple[Work, ...]:
        """What is in hand, and how far each is."""
        with self._lock:
            return tuple(
                Work(
                    job_id=seat.claim.job_id,
                    stage=seat.stage or "",
                    since=round(seat.entered_at, 1),
                    part=seat.part,
                )
                for seat in self._seats
            )

    def forget_models(self) -> None:
        """The child is gone, and with it all that it kept."""
        with self._lock:
            self.keeping = Keeping()
        self._stir()

    @property
    def idle(self) -> bool:
        """Nothing is in hand."""
        with self._lock:
            return not self._seats and not self._choosing

    @property
    def waiting(self) -> Seat | None:
        """The job that only waits for another one to be computed, if there is one."""
        with self._lock:
            to_compute = [seat for seat in self._seats if not seat.past]
            if len(to_compute) < 2:
                return None
            return next((seat for seat in to_compute if seat.stage in (None, "ready")), None)

    @property
    def lets_urgent_pass(self) -> bool:
        """Whether an urgent job could go before the one that waits."""
        with self._lock:
            to_compute = [seat for seat in self._seats if not seat.past]
            return len(to_compute) == 2 and all(
                seat.claim.priority is not Priority.STAT for seat in to_compute if seat.stage != "model"
            )

    def ring(self, why: Interruption) -> None:
        """Ring every bell."""
        with self._lock:
            for seat in self._seats:
                seat.bell.ring(why)

    def _stir(self) -> None:
        self.changed.set()
        self.wake()


def _nothing() -> None:
    pass
