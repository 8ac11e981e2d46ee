"""
Three lanes in one process: one run is read while another computes and a third is encoded.

A run goes through the lanes in the order of its steps (`worker.run`), and in each lane there is one run at a
time. Who waits for a lane waits in the order of arrival, urgent ones first. How many runs are in here at once
is the parent's decision.
"""

import heapq
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from ledger.usage import Usage
from worker.exchange import Admitted, Done, Entered, Failed, FromChild, Progressed, RunRequest, Stage
from worker.residents import Residents
from worker.run import ToCompute, ToFinish, compute, finish, read

Say = Callable[[FromChild], None]
Explain = Callable[[BaseException], Failed]


@dataclass(order=True, slots=True)
class _Waiting:
    """A step that a run is about to take; the smallest goes first."""

    calm: bool  #: not urgent
    turn: int
    take: Callable[[], None] = field(compare=False)


class Lane:
    """One step at a time; `None` for a step ends it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._steps: list[_Waiting] = []
        self._turns = itertools.count()
        self._closed = False

    def put(self, step: Callable[[], None], *, urgent: bool) -> None:
        with self._changed:
            heapq.heappush(self._steps, _Waiting(not urgent, next(self._turns), step))
            self._changed.notify()

    def close(self) -> None:
        """Take what waits, and then no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def work(self) -> None:
        """Take steps until the lane is closed."""
        while (step := self._next()) is not None:
            step()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._steps or self._closed)
            return heapq.heappop(self._steps).take if self._steps else None


class Traffic:
    """The runs of this process, from request to answer."""

    def __init__(self, residents: Residents, say: Say, explain: Explain) -> None:
        """`say` may be called by several threads at once; `explain` never raises."""
        self._residents = residents
        self._say = say
        self._explain = explain
        self._reading, self._computing, self._finishing = Lane(), Lane(), Lane()
        self._lock = threading.Lock()
        self._forgotten: set[int] = set()
        self._held: dict[int, int] = {}  # Bytes of input by run, from when it is read until it is computed.

    def begin(self, request: RunRequest) -> None:
        """Have the run take its three steps."""
        self._reading.put(lambda: self._read(request), urgent=request.urgent)

    def forget(self, number: int) -> None:
        """Let the run go no further than the step that it is in."""
        with self._lock:
            self._forgotten.add(number)

    def work(self) -> None:
        """Compute in the calling thread, read and encode in two others, until `close`."""
        beside = [
            threading.Thread(target=lane.work, name=name, daemon=True)
            for name, lane in (("reading", self._reading), ("finishing", self._finishing))
        ]
        for thread in beside:
            thread.start()
        self._computing.work()

    def close(self) -> None:
        for lane in (self._reading, self._computing, self._finishing):
            lane.close()

    def _read(self, request: RunRequest) -> None:
        def step() -> None:
            ready = read(request, self._residents, self._enter(request))
            with self._lock:
                self._held[request.number] = ready.held
            self._say(Entered(number=request.number, stage="ready"))
            self._computing.put(lambda: self._compute(ready), urgent=request.urgent)

        self._take(request, step)

    def _compute(self, ready: ToCompute) -> None:
        request = ready.request

        def admitted(usage: Usage, spare: int) -> None:
            taken, kept = self._residents.taken, self._residents.kept
            self._say(
                Admitted(
                    number=request.number,
                    usage=usage,
                    spare=spare,
                    held=ready.held,
                    kept=kept,
                    taken_bytes=taken.device if self._residents.budget.on_gpu else taken.host,
                )
            )

        def progressed(part: float) -> None:
            self._say(Progressed(number=request.number, part=part))

        def step() -> None:
            with self._lock:
                others = sum(self._held.values()) - self._held.get(request.number, 0)
            try:
                computed = compute(
                    ready, self._residents, self._enter(request), admitted, held=others, progressed=progressed
                )
            finally:
                with self._lock:
                    self._held.pop(request.number, None)
            self._say(Entered(number=request.number, stage="computed"))
            self._finishing.put(lambda: self._finish(computed), urgent=request.urgent)

        self._take(request, step)

    def _finish(self, computed: ToFinish) -> None:
        request = computed.request

        def step() -> None:
            reply = finish(computed, self._residents, self._enter(request))
            self._say(Done(number=request.number, reply=reply))

        self._take(request, step)

    def _take(self, request: RunRequest, step: Callable[[], None]) -> None:
        """Take one step of a run, unless it is forgotten; what it raises ends the run."""
        with self._lock:
            forgotten = request.number in self._forgotten
        try:
            if not forgotten:
                step()
                return
            failed = Failed(fault="forgotten", error="", because="nobody wants it any more")
        except Exception as error:  # whatever a model raises, the parent hears of it
            failed = self._explain(error)
        with self._lock:
            self._forgotten.discard(request.number)
            self._held.pop(request.number, None)
        self._say(failed.model_copy(update={"number": request.number}))

    def _enter(self, request: RunRequest) -> Callable[[Stage, float | None], None]:
        def enter(stage: Stage, limit_s: float | None = None) -> None:
            self._say(Entered(number=request.number, stage=stage, limit_s=limit_s))

        return enter
