"""
Which segments go into which segmentation object: by the form that a destination wants, and how many frames it
opens at once.

Whole segments only. A segment with more frames than the limit goes alone into an object that is larger than
asked: half an organ under the name of the whole would be measured as the whole. A label map has one number
for each voxel, so segments that overlap go into label maps of their own. Only what the model gave a
probability for becomes fractions; the rest is BINARY, for a mask has no fractions to tell.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ledger.profile import Profile, SegmentationType
from results.findings import Findings, HeatMap, Segment
from results.grid import NotEncodable
from results.occupied import Drawn, drawn_segments

#: Of a fraction that says "certainly" (Maximum Fractional Value (0062,000E)).
WHOLE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One segmentation object, and what it holds."""

    kind: SegmentationType
    drawn: tuple[Drawn, ...]  #: numbered from 1
    position: int = 1  #: from 1
    of: int = 1
    too_many: int | None = None  #: the frame limit, where the one segment has more

    @property
    def frames(self) -> int:
        return _frames(self.kind, self.drawn)

    def variant(self, *, compressed: bool) -> str:
        """The name of its form in its UIDs."""
        return part_variant(
            kind=self.kind,
            labels=[item.segment.label for item in self.drawn],
            position=self.position,
            of=self.of,
            too_many=self.too_many,
            compressed=compressed,
        )


def part_variant(
    *, kind: str, labels: Sequence[str], position: int, of: int, too_many: int | None, compressed: bool
) -> str:
    """What makes the bytes of a part others than those of one BINARY object of all segments: empty for that
    one. What is not compressed is the same for whoever asks for RLE.
    """
    if kind == "binary" and of == 1 and too_many is None:
        return ""
    limit = "" if too_many is None else f" above {too_many}"
    return "\n".join([f"{kind}{' rle' if compressed else ''} {position} of {of}{limit}", *labels])


def parts_of(findings: Findings, profile: Profile) -> tuple[Part, ...]:
    """The objects, in order; none where no segment has a voxel. Raises `NotEncodable`."""
    drawn = drawn_segments(findings)
    parts: list[Part] = []
    for kind, group in _groups(findings, drawn, profile.segmentation):
        for members in _limited(kind, group, profile.frame_limit):
            limit = profile.frame_limit
            over = limit if limit is not None and _frames(kind, members) > limit else None
            parts.append(Part(kind=kind, drawn=_numbered(members), too_many=over))
    return tuple(
        replace(part, position=position, of=len(parts)) for position, part in enumerate(parts, start=1)
    )


def probability_of(findings: Findings, segment: Segment) -> HeatMap | None:
    """The model's probability that a voxel is the segment's, if it gave one."""
    return next((one for one in findings.maps if one.of == segment.label), None)


def fractions(one: HeatMap) -> NDArray[np.uint8]:
    """The probabilities in steps of 1 / 255: (slice, row, column). Raises `NotEncodable`."""
    low, high = float(one.values.min(initial=0)), float(one.values.max(initial=0))
    if low < 0 or high > 1:
        raise NotEncodable(f"the map {one.label!r} is no probability: its values are {low:.4g} to {high:.4g}")
    steps: NDArray[np.uint8] = np.rint(one.values * np.float32(WHOLE)).astype(np.uint8)
    return steps


def overlap(findings: Findings, drawn: Sequence[Drawn]) -> bool:
    """Whether any voxel has two of the segments, by the label map."""
    layers = sorted({item.segment.layer for item in drawn})
    if len(layers) < 2:
        return False
    member = np.zeros(len(findings.segments) + 1, np.bool_)
    member[[item.segment.number for item in drawn]] = True
    for plane in sorted({plane for item in drawn for plane in item.planes}):
        taken = member[findings.layers[layers[0], plane]]
        for layer in layers[1:]:
            more = member[findings.layers[layer, plane]]
            if bool((taken & more).any()):
                return True
            taken |= more
    return False


def _groups(
    findings: Findings, drawn: Sequence[Drawn], wanted: SegmentationType
) -> Iterator[tuple[SegmentationType, list[Drawn]]]:
    """What cannot be in one object, apart."""
    if wanted == "labelmap":
        apart: list[list[Drawn]] = []
        for layer in sorted({item.segment.layer for item in drawn}):
            mine = [item for item in drawn if item.segment.layer == layer]
            fits = (group for group in apart if not overlap(findings, [*group, *mine]))
            group = next(fits, None)
            if group is None:
                apart.append(mine)
            else:
                group += mine
        yield from (("labelmap", group) for group in apart)
        return
    whole = [item for item in drawn if wanted == "binary" or probability_of(findings, item.segment) is None]
    split = [_by_probability(findings, item) for item in drawn if item not in whole]
    if split:
        yield "fractional", split
    if whole:
        yield "binary", whole


def _by_probability(findings: Findings, item: Drawn) -> Drawn:
    """The segment on the slices that its probability is on."""
    one = probability_of(findings, item.segment)
    planes = () if one is None else np.flatnonzero(fractions(one).any(axis=(1, 2))).tolist()
    if not planes:
        raise NotEncodable(f"{item.segment.label!r} was drawn, but its probability is zero everywhere")
    return replace(item, planes=tuple(planes))


def _limited(
    kind: SegmentationType, group: Sequence[Drawn], limit: int | None
) -> Iterator[tuple[Drawn, ...]]:
    """The segments in runs of at most `limit` frames together, or of one segment."""
    members: tuple[Drawn, ...] = ()
    for item in group:
        if members and limit is not None and _frames(kind, (*members, item)) > limit:
            yield members
            members = ()
        members = (*members, item)
    if members:
        yield members


def _frames(kind: SegmentationType, drawn: Sequence[Drawn]) -> int:
    planes = [plane for item in drawn for plane in item.planes]
    return len(set(planes)) if kind == "labelmap" else len(planes)


def _numbered(drawn: Sequence[Drawn]) -> tuple[Drawn, ...]:
    return tuple(replace(item, number=number) for number, item in enumerate(drawn, start=1))
