"""What the rules may know of a series: values worked out from its instances, in whatever order they came."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import median

from ledger.identifiers import SeriesId, Uid
from ledger.study import InstanceRecord, SeriesRecord

# Direction cosines are written with varying precision; two slices of one stack agree to three decimals.
_COSINE_DECIMALS = 3
# Slices closer than this share a position: phases and echoes of one place, not a spacing.
_SAME_PLACE_MM = 1e-3

Orientation = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """A series as the routing rules see it."""

    series: Uid
    series_id: SeriesId
    modality: str
    headers: Mapping[str, str] = field(default_factory=dict)  #: of its first instance: keyword → text
    sop_classes: frozenset[Uid] = frozenset()
    callings: frozenset[str] = frozenset()  #: AE titles that sent any of it
    images: int  #: frames in all: a classic slice is one, an enhanced multi-frame instance many
    multi_frame: bool = False  #: some instance has more than one frame
    stack: int = (
        0  #: slices of the largest group with one orientation; 0: positions are not given per instance
    )
    spacing_mm: float | None = (
        None  #: between slices along the normal, median; None: not known from the instances
    )
    ours: bool = False  #: a result that this site made
    prior_of: Uid | None = None  #: the study that all of it was fetched for, as a prior
    instances: tuple[InstanceRecord, ...] = ()


def facts_of(series: SeriesRecord, *, ours: bool = False, prior_of: Uid | None = None) -> SeriesFacts:
    """The facts of a series as the ledger knows it."""
    stack = main_stack(series.instances)
    return SeriesFacts(
        series=series.series,
        series_id=series.id,
        modality=series.modality.strip().upper(),
        headers=series.headers,
        sop_classes=frozenset(instance.sop_class for instance in series.instances),
        callings=frozenset(str(instance.calling) for instance in series.instances),
        images=sum(max(1, instance.frames) for instance in series.instances),
        multi_frame=any(instance.frames > 1 for instance in series.instances),
        stack=len(stack),
        spacing_mm=spacing_mm(stack),
        ours=ours,
        prior_of=prior_of,
        instances=tuple(sorted(series.instances, key=lambda instance: instance.sop_instance)),
    )


def main_stack(instances: Sequence[InstanceRecord]) -> list[InstanceRecord]:
    """The instances of the most frequent orientation: a scout at the head of a stack is not part of it."""
    placed = [(each, _rounded(each.orientation)) for each in instances if each.position and each.orientation]
    counted = Counter(orientation for _, orientation in placed if orientation is not None)
    if not counted:
        return []
    # Of two equally frequent ones the smaller, so that the order of arrival does not decide.
    chosen = min(counted, key=lambda orientation: (-counted[orientation], orientation))
    return [each for each, orientation in placed if orientation == chosen]


def spacing_mm(stack: Sequence[InstanceRecord]) -> float | None:
    """The median distance between neighbours along the normal; None for fewer than two places.

    Measured from Image Position (Patient), for Slice Thickness says how thick a slice is, not where the next
    one is, and Spacing Between Slices is often absent (PS3.3 §C.7.6.2.1.1).
    """
    places = places_mm(stack)
    steps = [after - before for before, after in pairwise(places) if after - before > _SAME_PLACE_MM]
    return median(steps) if steps else None


def places_mm(stack: Sequence[InstanceRecord]) -> list[float]:
    """Where the slices of a stack stand along their common normal, ascending."""
    if not stack or not stack[0].orientation:
        return []
    normal = _normal(stack[0].orientation)
    return sorted(
        sum(component * along for component, along in zip(each.position, normal, strict=True))
        for each in stack
        if each.position
    )


def _rounded(orientation: Orientation | None) -> Orientation | None:
    if orientation is None or len(orientation) != 6:
        return None
    # Adding zero turns -0.0 into 0.0, which would print and compare the same but sort by chance.
    return tuple(round(cosine, _COSINE_DECIMALS) + 0.0 for cosine in orientation)


def _normal(orientation: Orientation) -> tuple[float, float, float]:
    """Rows × columns: LPS, unit length for valid direction cosines."""
    rx, ry, rz, cx, cy, cz = orientation
    return (ry * cz - rz * cy, rz * cx - rx * cz, rx * cy - ry * cx)


# Unknown spacing comes last; what is still equal is decided by the UID, so that arrival order is not.
def thinnest_first(series: SeriesFacts) -> tuple[float, int, Uid]:
    """Orders series by the distance of their slices."""
    return (
        series.spacing_mm if series.spacing_mm is not None else float("inf"),
        -series.images,
        series.series,
    )


def most_first(series: SeriesFacts) -> tuple[int, float, Uid]:
    """Orders series by the number of their images, the most first."""
    return (
        -series.images,
        series.spacing_mm if series.spacing_mm is not None else float("inf"),
        series.series,
    )


def images_of(series: SeriesFacts) -> list[SeriesFacts]:
    """Each instance of the series by itself, with its own headers where the ledger has them."""
    return [
        replace(
            series,
            headers=series.headers if one.headers is None else one.headers,
            sop_classes=frozenset({one.sop_class}),
            callings=frozenset({str(one.calling)}),
            images=max(1, one.frames),
            multi_frame=one.frames > 1,
            stack=0,
            spacing_mm=None,
            instances=(one,),
        )
        for one in series.instances
    ]
