"""
What two results of the same images say differently: segment by segment, value by value.

Both are read back from what was written, as a reader would, so it does not matter which encoder or which
model made them. Frames of segmentations are compared by the image that they lie on; reports item by item, by
what they are about.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import iter_pixels

_TRACKING = ("112039", "DCM")
_COMMENT = ("121106", "DCM")
#: What differs between any two runs and says nothing of the patient.
_OF_THE_RUN = {"Algorithm Name", "Algorithm Version", "Tracking Unique Identifier", "Comment"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentDifference:
    """One segment in both results; volumes in mm³, None where the images have no spacing."""

    label: str
    voxels: tuple[int, int]
    dice: float  #: 1 where both are the same, also where both are empty
    voxel_mm3: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueDifference:
    """One thing that the reports say differently, or that only one of them says (the other is empty)."""

    about: str
    name: str
    first: str
    second: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Everything that two results of the same images say differently; segments also where they agree."""

    segments: tuple[SegmentDifference, ...]
    values: tuple[ValueDifference, ...]

    @property
    def none(self) -> bool:
        """Whether they say the same."""
        return not self.values and all(one.dice == 1.0 for one in self.segments)


def difference(first: Iterable[Path], second: Iterable[Path]) -> Difference:
    """Compare two results, each given as the files of its objects."""
    ours, theirs = _Result.read(first), _Result.read(second)
    labels = list(dict.fromkeys([*ours.masks, *theirs.masks]))
    keys = list(dict.fromkeys([*ours.says, *theirs.says]))
    return Difference(
        segments=tuple(_segment(label, ours, theirs) for label in labels),
        values=tuple(
            ValueDifference(
                about=key[0],
                name=key[1],
                first=_said(ours.says.get(key, [])),
                second=_said(theirs.says.get(key, [])),
            )
            for key in keys
            if sorted(ours.says.get(key, [])) != sorted(theirs.says.get(key, []))
        ),
    )


#: Which image, and which frame of it, a frame of a segmentation lies on.
_Where = tuple[str, int] | tuple[float, ...]
_Mask = dict[_Where, NDArray[np.uint8]]  # packed, eight voxels a byte


@dataclass
class _Result:
    masks: dict[str, _Mask]
    counts: dict[str, int]
    voxel_mm3: float | None
    says: dict[tuple[str, str], list[str]]

    @classmethod
    def read(cls, paths: Iterable[Path]) -> "_Result":
        found = cls({}, {}, None, defaultdict(list))
        for path in paths:
            dataset = dcmread(path)
            if dataset.get("Modality") == "SEG":
                found._segmentation(dataset)
            elif dataset.get("Modality") == "SR":
                for about, name, value in _items(dataset, ""):
                    found.says[about, name].append(value)
        return found

    def _segmentation(self, dataset: Dataset) -> None:
        labels = {int(one.SegmentNumber): str(one.SegmentLabel) for one in dataset.SegmentSequence}
        labelled = dataset.get("SegmentationType") == "LABELMAP"
        self.voxel_mm3 = _voxel_mm3(dataset)
        for label in labels.values():
            self.masks.setdefault(label, {})
            self.counts.setdefault(label, 0)
        for index, pixels in enumerate(_frames(dataset)):
            groups = dataset.PerFrameFunctionalGroupsSequence[index]
            where = _where(groups, index)
            if labelled:
                drawn = [(labels[n], pixels == n) for n in np.unique(pixels).tolist() if n in labels]
            else:
                number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
                drawn = [(labels[number], pixels > 0)]
            for label, mask in drawn:
                self.masks[label][where] = np.packbits(mask)
                self.counts[label] += int(np.count_nonzero(mask))


def _frames(dataset: Dataset) -> Iterator[NDArray[np.integer[Any]]]:
    """(row, column) of each frame."""
    if dataset.BitsAllocated != 1:
        yield from iter_pixels(dataset)
        return
    # Frames of single bits follow one another without a gap (PS3.5 §8.1.1), so most do not begin with a byte,
    # and pydicom 3.0 counts on that when it reads them one by one.
    size = int(dataset.Rows) * int(dataset.Columns)
    packed = np.frombuffer(dataset.PixelData, np.uint8)
    for index in range(int(dataset.get("NumberOfFrames", 1))):
        start, end = index * size, (index + 1) * size
        bits = np.unpackbits(packed[start // 8 : -(-end // 8)], bitorder="little")
        yield bits[start % 8 : start % 8 + size].reshape(int(dataset.Rows), int(dataset.Columns))


def _segment(label: str, ours: _Result, theirs: _Result) -> SegmentDifference:
    first, second = ours.masks.get(label, {}), theirs.masks.get(label, {})
    shared = sum(
        int(np.bitwise_count(first[where] & second[where]).sum()) for where in first.keys() & second.keys()
    )
    voxels = ours.counts.get(label, 0), theirs.counts.get(label, 0)
    return SegmentDifference(
        label=label,
        voxels=voxels,
        dice=2 * shared / sum(voxels) if sum(voxels) else 1.0,
        voxel_mm3=ours.voxel_mm3 or theirs.voxel_mm3,
    )


def _where(groups: Dataset, index: int) -> _Where:
    """The source image of a frame; its place where that is not said."""
    for derivation in groups.get("DerivationImageSequence", ()):
        for image in derivation.get("SourceImageSequence", ()):
            frame = image.get("ReferencedFrameNumber", 1)
            return str(image.ReferencedSOPInstanceUID), int(
                frame if isinstance(frame, int | str) else frame[0]
            )
    if groups.get("PlanePositionSequence"):
        return tuple(round(float(one), 3) for one in groups.PlanePositionSequence[0].ImagePositionPatient)
    return ("frame", index)


def _voxel_mm3(dataset: Dataset) -> float | None:
    shared = dataset.get("SharedFunctionalGroupsSequence")
    if not shared or not shared[0].get("PixelMeasuresSequence"):
        return None
    measures = shared[0].PixelMeasuresSequence[0]
    depth = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness")
    if depth is None or not measures.get("PixelSpacing"):
        return None
    return float(measures.PixelSpacing[0]) * float(measures.PixelSpacing[1]) * float(depth)


def _items(node: Dataset, about: str) -> Iterator[tuple[str, str, str]]:
    """(about what, which concept, what is said) of everything below a node of a report."""
    children = node.get("ContentSequence", ())
    mine = next((str(one.get("TextValue", "")) for one in children if _code(one) == _TRACKING), "")
    # It begins with the name of the model, which is the same in both.
    about = mine.partition(" ")[2] or mine or about
    for item in children:
        name = _meaning(item)
        if name not in _OF_THE_RUN and (said := _value(item)):
            how = [_value(one) for one in item.get("ContentSequence", ()) if item.get("ValueType") == "NUM"]
            yield about, " ".join([name, *sorted(filter(None, how))]), said
        if item.get("ValueType") == "CONTAINER":
            yield from _items(item, about)


def _value(item: Dataset) -> str:
    match item.get("ValueType"):
        case "NUM" if item.get("MeasuredValueSequence"):
            measured = item.MeasuredValueSequence[0]
            return f"{float(measured.NumericValue):g} {measured.MeasurementUnitsCodeSequence[0].CodeValue}"
        case "CODE":
            return str(item.ConceptCodeSequence[0].CodeMeaning)
        case "SCOORD" | "SCOORD3D":
            return ", ".join(f"{float(one):.1f}" for one in item.GraphicData[:6])
        case "TEXT" if _code(item) not in (_TRACKING, _COMMENT):
            return str(item.TextValue)
        case _:
            return ""


def _said(values: list[str]) -> str:
    return "; ".join(sorted(values)[:4])


def _code(item: Dataset) -> tuple[str, str]:
    if not item.get("ConceptNameCodeSequence"):
        return "", ""
    concept = item.ConceptNameCodeSequence[0]
    return str(concept.get("CodeValue", "")), str(concept.get("CodingSchemeDesignator", ""))


def _meaning(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning) if item.get("ConceptNameCodeSequence") else ""
