"""When is a peer asked again how many images a study has? Soon enough to be quick, and seldom enough.

A question is due when something changed and the wire went quiet for a moment, at once when as many are here
as the peer said last, and less and less often where nothing changes. Never two at a time for one study.
"""

from dataclasses import dataclass

from dicom_node.closing import Counted
from dicom_node.settings import ClosingSettings

_EAGER_S = 0.25  # Two questions that may both be the last one.
_CHANGED_S = 5.0  # At most so long between two of them while images drip in.
_FAILED_S = 5.0  # After the first failure; doubled after each that follows.


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What has been asked about a study since it opened."""

    count: Counted
    questions: int  #: in all
    alike: int  #: the latest answers in a row that were the same, or the latest failures in a row


def due_s(
    asked: Asked | None, *, last_arrival_s: float, open_associations: int, patience: ClosingSettings
) -> float:
    """When the next question is due, by the database's clock; infinity where another one proves nothing."""
    pause_over_s = last_arrival_s + patience.ask_after_s
    if asked is None:
        return pause_over_s
    count = asked.count
    again_s = count.asked_s + min(patience.ask_again_s, 2.0 ** min(asked.alike - 1, 30))
    changed = last_arrival_s > count.asked_s
    if count.failure:
        return count.asked_s + min(patience.ask_again_s, _FAILED_S * 2.0 ** min(asked.alike - 1, 30))
    if count.agrees:
        if changed:
            return count.asked_s + _EAGER_S
        settled_s = max(count.since_s + patience.settle_s, count.asked_s + _EAGER_S)
        return settled_s if open_associations else float("inf")
    if count.missing or not changed:
        return again_s
    return max(pause_over_s, count.asked_s + min(_CHANGED_S, 0.5 * 1.5 ** min(asked.questions, 30)))
