"""
What a model of a timeline says of then and now.

It was given the earlier examinations themselves, so it alone knows which finding is which: nothing here
matches anything.
"""

from ledger.identifiers import Uid
from models.contract import BrokenModel, Earlier, Timeline
from models.days import day_of
from models.manifest import Manifest
from results.findings import Comparison, Concept, Prior
from results.uids import earlier_tracking_uid


def compared(
    given: Timeline,
    earlier: Earlier,
    *,
    name: Concept,
    unit: Concept,
    now: float,
    then: float,
    about: str = "",
    plane: int | None = None,
) -> Comparison:
    """A quantity of `given.current` beside that of one of its earlier examinations.

    `about` is the label of the finding, empty for the whole; `plane` the slice of the earlier volume that
    shows it best, the middle one if left out.
    """
    images = earlier.images
    if not images:
        raise BrokenModel("an earlier examination without images cannot be compared with")
    at = len(images) // 2 if plane is None else min(max(plane, 0), len(images) - 1)
    prior = Prior(acquired=earlier.acquired, study=earlier.study, series=earlier.series, images=(images[at],))
    today = day_of(given.headers)
    return Comparison(about=about, name=name, unit=unit, now=now, then=then, prior=prior, acquired=today)


def same_as(manifest: Manifest, earlier: Earlier, label: str) -> Uid:
    """For `Segment.tracked_as`: the Tracking UID of the segment `label` in this model's own result about an
    earlier examination. A model says so only of what it has matched; Wetread never guesses.
    """
    return earlier_tracking_uid(earlier.series, manifest.identity, label)
