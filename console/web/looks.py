"""Who looks at whose images: a row of the audit trail before anything leaves, and one for a whole session.

A viewer asks hundreds of times for one study; what was written is remembered here. What this memory has lost
is written once more, and never too seldom.
"""

import threading
import time
from collections.abc import Callable, Iterable

from console.web.access.lifetimes import ABSOLUTE_S
from console.web.access.visitor import Visitor
from ledger.identifiers import Uid
from ledger.store.ledger import Ledger

_KNOWN_MAX = 10_000  # Looks; the oldest goes first.

_Look = tuple[object, Uid | None]  #: who, and at which study; None: at a list


class Looks:
    """Writes who looked."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger, self._clock = ledger, clock
        self._written: dict[_Look, float] = {}
        self._lock = threading.Lock()

    def opens(self, visitor: Visitor, studies: Iterable[Uid]) -> None:
        """He opens these studies in the viewer: a row for each that is here, every time."""
        for uid in studies:
            with self._lock:
                self._view(visitor, uid)

    def fetches(self, visitor: Visitor, studies: Iterable[Uid]) -> None:
        """Something of these studies is about to leave."""
        for uid in studies:
            if not self._is_written((_who(visitor), uid)):
                with self._lock:
                    if not self._is_written((_who(visitor), uid)):
                        self._view(visitor, uid)

    def lists(self, visitor: Visitor) -> None:
        """A list of studies is about to leave, names and all. Where names are shown, that was written
        when he asked for them.
        """
        look: _Look = (_who(visitor), None)
        if visitor.patients or self._is_written(look):
            return
        with self._lock:
            if not self._is_written(look):
                session = "" if visitor.session is None else visitor.session.id
                self._ledger.record_audit(
                    visitor.actor, "names.shown", thing_id=session, detail={"list": "/dicom-web"}
                )
                self._remember(look)

    def _view(self, visitor: Visitor, uid: Uid) -> None:
        found = self._ledger.study_by_uid(uid)
        if found is not None:  # What is not here yet may come.
            # By our own number: a UID may name the patient.
            self._ledger.record_audit(visitor.actor, "study.viewed", thing_id=found.id)
            self._remember((_who(visitor), uid))

    def _is_written(self, look: _Look) -> bool:
        at = self._written.get(look)
        return at is not None and self._clock() - at < ABSOLUTE_S

    def _remember(self, look: _Look) -> None:
        self._written.pop(look, None)
        self._written[look] = self._clock()
        while len(self._written) > _KNOWN_MAX:
            del self._written[next(iter(self._written))]


def _who(visitor: Visitor) -> object:
    """A session; of a program, which has none, all that the row would say."""
    return visitor.actor if visitor.session is None else visitor.session.id
