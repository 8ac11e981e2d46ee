"""Who is talking to us now, and about which studies: what closing wants to know about open associations."""

import threading
from collections.abc import Callable, Hashable

from ledger.identifiers import StudyId


class Senders:
    """The associations that are open, each with the studies that it has sent instances of. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._studies: dict[Hashable, set[StudyId]] = {}
        self._callers: dict[Hashable, str] = {}
        #: called when an association begins to send to a study, and when one ends that did
        self.changed: Callable[[], None] = lambda: None

    def opened(self, association: Hashable, calling: str = "") -> None:
        """An association is established; `calling` is empty for what is no association but counts as one for
        closing.
        """
        with self._lock:
            self._studies[association] = set()
            if calling:
                self._callers[association] = calling

    def sent(self, association: Hashable, study_id: StudyId) -> None:
        """An instance of a study was received on an open association; of a closed one it does not count."""
        with self._lock:
            studies = self._studies.get(association)
            begins = studies is not None and study_id not in studies
            if studies is not None:
                studies.add(study_id)
        if begins:
            self.changed()

    def closed(self, association: Hashable) -> None:
        """An association is over: released, aborted or dead."""
        with self._lock:
            studies = self._studies.pop(association, None)
            self._callers.pop(association, None)
        if studies:
            self.changed()

    def open_for(self, study_id: StudyId) -> int:
        """How many open associations have sent at least one instance of the study."""
        with self._lock:
            return sum(study_id in studies for studies in self._studies.values())

    def associations(self, calling: str | None = None) -> int:
        """How many associations are open, in all or of one caller."""
        with self._lock:
            if calling is None:
                return len(self._callers)
            return sum(caller == calling for caller in self._callers.values())
