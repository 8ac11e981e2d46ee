"""How fast an instance, or any other message, comes in, and when that is too slow to be worth waiting for.

Silence is noticed elsewhere; this is about a peer that always says a little. Time in which we were busy
ourselves, for instance because the disk was, is not the peer's.
"""


class Pace:
    """The rate at which one peer sends, averaged over stretches of `over_s`."""

    def __init__(self, bytes_per_s: float, over_s: float) -> None:
        self._bytes_per_s, self._over_s = bytes_per_s, over_s
        self._began = 0.0
        self._bytes = 0

    def begin(self, now: float) -> None:
        """A message begins to come in, or a new stretch of it."""
        self._began, self._bytes = now, 0

    def came(self, size: int) -> None:
        """`size` bytes came."""
        self._bytes += size

    def was_ours(self, seconds: float) -> None:
        """For so long the peer could do nothing about it."""
        self._began += seconds

    def too_slow(self, now: float) -> bool:
        """Whether a stretch has ended that was too slow. One that was not is followed by the next."""
        if now - self._began < self._over_s:
            return False
        slow = self._bytes < self._bytes_per_s * (now - self._began)
        self.begin(now)
        return slow
