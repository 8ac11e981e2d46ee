"""Everything that was refused, cut off or put off, as history: counted, so that a flood is a handful of rows.

Whoever refuses says so here and goes on at once: the sentence is put down in memory, and a thread of its own
writes it into the ledger. The first of its kind is written at once, those that follow are counted and written
after ever longer pauses, each row with how many there were, when, and from which addresses.

What a peer can vary at will (its AE title, a length, a UID) is part of the sentence and never of the key, so
no peer can make rows by being inventive.
"""

import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from ledger.errors import SiteError
from ledger.event import Thing
from ledger.store.ledger import Ledger

log = structlog.get_logger()

# A minute of flood is three rows, a day of it thirty.
_PAUSES_S = (10.0, 60.0, 600.0, 3600.0)
_FORGOTTEN_S = 900.0  # Quiet for this long: what comes next is news again.
_EPISODES_MAXIMUM = 64  # Beyond, addresses share a row.
_ADDRESSES_MAXIMUM = 16  # named in one row


class Kind(StrEnum):
    """What was refused; the word is the event's name in the history."""

    CONNECTION = "connection_refused"  #: Closed before it cost a thread.
    TLS = "tls_refused"  #: The two sides did not agree on TLS.
    ASSOCIATION = "association_rejected"  #: A-ASSOCIATE-RJ.
    ABORTED = "association_aborted"  #: Cut off by a limit, or for what PS3.8 does not allow.
    WEB = "web_refused"  #: A request of DICOMweb without the right to ask.
    IDLE = "association_idle"  #: Ended because nothing was said: often an honest peer that forgot to release.
    COMMITMENT = "commitment_refused"  #: A request for storage commitment, or a report of one, was not taken.
    INSTANCE = "refused"  #: Its sender was told that it will never be taken.
    POSTPONED = "postponed"  #: Its sender was told to come again later (0xA700).

    @property
    def thing(self) -> Thing:
        """What the event is about."""
        return "instance" if self in (Kind.INSTANCE, Kind.POSTPONED) else "node"


_Key = tuple[Kind, str, str]


@dataclass(slots=True)
class _Episode:
    """Refusals of one kind, for one reason, from one address: those that no row tells of yet."""

    because: str = ""
    calling: str = ""
    count: int = 0
    first_at: float = 0.0  # seconds since 1970-01-01 UTC by this machine's clock
    last_at: float = 0.0
    addresses: dict[str, None] = field(default_factory=dict)
    rows: int = 0
    due: float = 0.0  # monotonic
    heard: float = 0.0  # monotonic


class Refusals:
    """Counts, and writes. `note` may be called by any thread; it never waits for the ledger."""

    def __init__(self, ledger: Ledger, *, pauses_s: tuple[float, ...] = _PAUSES_S) -> None:
        self._ledger, self._pauses_s = ledger, pauses_s
        self._changed = threading.Condition()
        self._episodes: dict[_Key, _Episode] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self, *, within_s: float) -> None:
        """Write what was not written yet, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(within_s)

    def note(
        self, kind: Kind, because: str, *, address: str = "", calling: str = "", reason: str = ""
    ) -> None:
        """Something was refused to `address`, for the `reason` that `because` says in a sentence.

        `reason` is a word or code of ours: refusals with the same one are counted together.
        """
        now, at = time.monotonic(), time.time()
        with self._changed:
            key = (kind, reason, address)
            if key not in self._episodes and len(self._episodes) >= _EPISODES_MAXIMUM:
                key = (kind, reason, "")
            episode = self._episodes.setdefault(key, _Episode(due=now))
            if not episode.count:
                episode.first_at = at
                # One that no row told of for long is news, however often it was told before.
                if now - episode.heard > _FORGOTTEN_S:
                    episode.rows, episode.due = 0, now
            episode.count += 1
            episode.because, episode.calling = because, calling
            episode.last_at, episode.heard = at, now
            if len(episode.addresses) < _ADDRESSES_MAXIMUM:
                episode.addresses[address] = None
            if episode.count == 1:
                self._changed.notify()

    def tell(self, event: str, because: str) -> None:
        """Write one event about the node, which is rare. Where the ledger cannot, the log has it."""
        try:
            self._ledger.record_event("node", event, because=because)
        except SiteError as error:
            log.warning("event.not_recorded", because=str(error))

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._next() <= 0.0, self._next())
                stopping = self._stopping
                rows = [self._taken(key) for key, episode in self._episodes.items() if self._is_due(episode)]
                self._forget()
            for kind, episode in rows:
                self._write(kind, episode)
            if stopping:
                return

    def _next(self) -> float:
        """Seconds until there is something to write; an hour where there is nothing at all."""
        now = time.monotonic()
        return min((each.due - now for each in self._episodes.values() if each.count), default=3600.0)

    def _is_due(self, episode: _Episode) -> bool:
        return episode.count > 0 and (self._stopping or episode.due <= time.monotonic())

    def _taken(self, key: _Key) -> tuple[Kind, _Episode]:
        """What an episode has gathered; it begins to gather anew."""
        episode = self._episodes[key]
        pause_s = self._pauses_s[min(episode.rows, len(self._pauses_s) - 1)]
        self._episodes[key] = _Episode(
            rows=episode.rows + 1, due=time.monotonic() + pause_s, heard=episode.heard
        )
        return key[0], episode

    def _forget(self) -> None:
        now = time.monotonic()
        for key in [
            key
            for key, episode in self._episodes.items()
            if not episode.count and now - episode.heard > _FORGOTTEN_S
        ]:
            del self._episodes[key]

    def _write(self, kind: Kind, episode: _Episode) -> None:
        addresses = sorted(address for address in episode.addresses if address)
        detail = {
            "count": episode.count,
            "first": round(episode.first_at, 3),
            "last": round(episode.last_at, 3),
            "addresses": addresses,
            **({"address": addresses[0]} if len(addresses) == 1 else {}),
            **({"calling": episode.calling} if episode.calling else {}),
        }
        log.warning(
            f"{kind.thing}.{kind}",
            because=episode.because,
            times=episode.count,
            calling=episode.calling,
            addresses=addresses,
        )
        try:
            self._ledger.record_event(kind.thing, kind, because=episode.because, detail=detail)
        except SiteError as error:
            # It may be the ledger that is full or away: the log has the row, and the next one comes.
            log.warning("event.not_recorded", because=str(error))
