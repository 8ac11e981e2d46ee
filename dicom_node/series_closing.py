"""Is one series complete, while its study is still open? Then a rule with `when = "series"` need not wait.

The same witnesses as of a study, without its timers: silence says nothing about one series of several, so
here somebody has to know the number, or the geometry has to be whole.
"""

from dataclasses import dataclass

from dicom_node.closing import Counted, Verdict, judge_count
from dicom_node.grid import Grid
from dicom_node.settings import ClosingSettings
from ledger.completeness import Witness
from ledger.study import Completeness


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesStanding:
    """What the witnesses may know of a series of an open study. Times are seconds by the database's clock."""

    now_s: float
    last_arrival_s: float  #: of this series
    open_associations: int  #: still open, and have sent at least one instance of the study
    instances: int
    count: Counted | None = None
    listed_by: str = ""
    named: int = 0  #: instances of it that complete lists of senders name
    grid: Grid | None = None  #: None: it was not looked at, for the series is not quiet yet

    @property
    def quiet_s(self) -> float:
        """For how long nothing of this series came."""
        return max(0.0, self.now_s - self.last_arrival_s)


def series_verdict(facts: SeriesStanding, patience: ClosingSettings) -> Verdict | None:
    """The first witness that says that the series is complete; None where nobody does."""
    count = facts.count
    asked = Witness.COUNT in patience.witnesses
    if asked and count is not None:
        believed, because = judge_count(
            count,
            last_arrival_s=facts.last_arrival_s,
            quiet_s=facts.quiet_s,
            open_associations=facts.open_associations,
            settle_s=patience.settle_s,
        )
        if believed:
            return Verdict(
                True, Witness.COUNT, because, Completeness.COMPLETE, count.peer, count.ours, count.theirs
            )
        if count.holds_up():
            return None
    if (
        Witness.COMMITMENT in patience.witnesses
        and facts.named == facts.instances
        and facts.quiet_s >= patience.settle_s
    ):
        because = (
            f"complete: {facts.instances} of {facts.named} in the storage commitment requests of "
            f"{facts.listed_by}, {facts.quiet_s:.1f} s after its last image"
        )
        said = (facts.listed_by, facts.instances, facts.named)
        return Verdict(True, Witness.COMMITMENT, because, Completeness.COMPLETE, *said)
    grid = facts.grid
    if (
        Witness.GEOMETRY in patience.witnesses
        and grid is not None
        and grid.regular
        and facts.quiet_s >= patience.series_quiet_s
    ):
        because = f"complete: {grid.because}; {facts.quiet_s:.1f} s after its last image"
        return Verdict(True, Witness.GEOMETRY, because, Completeness.COMPLETE, ours=facts.instances)
    return None
