"""What went between this site and its peers: values for whoever looks after the connections."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ledger.delivery import DeliveryState


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What one caller sent within a span of time."""

    instances: int
    bytes: int
    first_at: float  #: seconds since 1970-01-01 UTC
    last_at: float

    @property
    def bytes_per_s(self) -> float | None:
        """On average between the first and the last of them; None where that is no time at all."""
        span_s = self.last_at - self.first_at
        return self.bytes / span_s if span_s >= 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What went to one peer: deliveries that are not finished by state, and what it took within a span."""

    unfinished: Mapping[DeliveryState, int] = field(default_factory=dict)  #: waiting, sending, sent, parked …
    results: int = 0
    bytes: int = 0
    last_at: float | None = None  #: when it last took anything at all, in seconds since 1970-01-01 UTC
    oldest_waiting_at: float | None = None
