"""
Findings → a Key Object Selection (PS3.3 §A.35.4, PS3.16 TID 2010): the images to look at first.

Titled (113000, DCM, Of Interest): nobody has judged more than that. For a lesion it is the slice where it is
largest, for a box the middle one, for a landmark the one next to it; for a verdict on one image that image,
and on a volume the slice where the map that explains it is highest. Organs have none: all of them are of
interest.

Each image is named together with the presentation state that marks it, and beside the images stand the
objects that show the same.

It is no rejection note, though of the same SOP class: archives act upon the titles of CID 7031 alone, and
this is none of them.
"""

from collections.abc import Iterator

import numpy as np
from pydicom import Dataset

from ledger.identifiers import Uid
from ledger.result import Role
from results import codes
from results.asked import Asked
from results.findings import Findings
from results.grid import Grid, NotEncodable, grid_of
from results.headers import result_headers
from results.observer import observation_context
from results.references import hierarchy
from results.regions import slice_next_to, slices_of
from results.words import DISCLAIMER, plain, series_description

KEY_OBJECT_SELECTION_DOCUMENT_STORAGE = Uid("1.2.840.10008.5.1.4.1.1.88.59")

#: What is named beside the images, where it has been made.
SHOWING = (
    Role.SEGMENTATION,
    Role.PARAMETRIC_MAP,
    Role.STRUCTURE_SET,
    Role.PRESENTATION,
    Role.BLENDING,
    Role.OVERLAY,
)
_IMAGES = frozenset({Role.SEGMENTATION, Role.PARAMETRIC_MAP, Role.OVERLAY})


def build(asked: Asked) -> list[Dataset]:
    """The selection, without file meta information; none where no image is more of interest than another.

    Raises `NotEncodable` where the findings do not fit the source.
    """
    if not _may_have_any(asked):
        return []
    grid = grid_of(asked.source)
    chosen: dict[int, list[str]] = {}
    for plane, label in _key_slices(asked.findings, grid):
        labels = chosen.setdefault(plane, [])
        if label not in labels:
            labels.append(label)
    if not chosen:
        return []
    dataset = result_headers(
        asked,
        Role.KEY_IMAGES,
        sop_class=KEY_OBJECT_SELECTION_DOCUMENT_STORAGE,
        series_description=series_description(asked, "key images"),
        variant=asked.naming(*SHOWING),
    )
    dataset.ReferencedPerformedProcedureStepSequence = []  # Type 2
    dataset.ValueType = "CONTAINER"
    dataset.ConceptNameCodeSequence = [codes.coded(codes.OF_INTEREST)]
    dataset.ContinuityOfContent = "SEPARATE"
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "2010"
    dataset.ContentTemplateSequence = [template]
    observers = [_plain_item(item) for item in observation_context(asked.run.provenance)]
    images = [_image(plane, grid, asked) for plane in sorted(chosen)]
    beside = [_showing(role, one) for role in SHOWING for one in asked.of(role)]
    dataset.ContentSequence = [*observers, _description(chosen), *images, *beside]
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(dataset, asked, grid, sorted(chosen))]
    codes.identify_schemes(dataset, asked.run.provenance.schemes)
    return [dataset]


def _may_have_any(asked: Asked) -> bool:
    """Where nothing is to be chosen, the source may be anything."""
    said, source = asked.findings, asked.source
    lesions = any(segment.is_lesion for segment in said.segments)
    verdicts = any(one.present for one in said.verdicts)
    volume_or_image = source.geometry is not None or source.is_one_image
    return bool(lesions or said.boxes or said.points or (verdicts and volume_or_image))


def _key_slices(findings: Findings, grid: Grid) -> Iterator[tuple[int, str]]:
    """(slice, label) of everything that has one. Raises `NotEncodable`."""
    if findings.label_map is not None and findings.layers.shape[1:] != grid.shape:
        raise NotEncodable(f"the label map is {findings.label_map.shape}, the source {grid.shape}")
    for segment in findings.segments:
        if segment.is_lesion:
            areas = np.count_nonzero(findings.mask(segment.number), axis=(1, 2))
            if areas.any():
                yield int(np.argmax(areas)), segment.label
    for box in findings.boxes:
        slices = slices_of(box, grid)
        yield slices[len(slices) // 2], box.label
    for point in findings.points:
        yield slice_next_to(point, grid), point.label
    for verdict in findings.verdicts:
        if verdict.present and grid.place is None:
            yield 0, verdict.label
        for one in findings.maps if verdict.present and grid.place is not None else ():
            if one.explains == verdict.label:
                yield int(np.argmax(one.values.max(axis=(1, 2)))), verdict.label


def _plain_item(item: Dataset) -> Dataset:
    """A content item of highdicom's as nothing but its attributes."""
    made = Dataset()
    made.update(item)
    return made


def _description(chosen: dict[int, list[str]]) -> Dataset:
    labels = dict.fromkeys(label for plane in sorted(chosen) for label in chosen[plane])
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = [codes.coded(codes.KEY_OBJECT_DESCRIPTION)]
    item.TextValue = f"{'; '.join(plain(label) for label in labels)}. {DISCLAIMER}"
    return item


def _image(plane: int, grid: Grid, asked: Asked) -> Dataset:
    image = grid.planes[plane]
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.sop_class, image.sop_instance
    if image.frame is not None:
        reference.ReferencedFrameNumber = image.frame
    states = [one for one in asked.of(Role.PRESENTATION) if _applies(one, image.sop_instance, image.frame)]
    if states:  # PS3.3 §C.18.4: the image as it shall be shown
        state = Dataset()
        state.ReferencedSOPClassUID = states[0].SOPClassUID
        state.ReferencedSOPInstanceUID = states[0].SOPInstanceUID
        reference.ReferencedSOPSequence = [state]
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "IMAGE"
    item.ReferencedSOPSequence = [reference]
    return item


def _applies(state: Dataset, instance: str, frame: int | None) -> bool:
    for series in state.ReferencedSeriesSequence:
        for image in series.ReferencedImageSequence:
            if str(image.ReferencedSOPInstanceUID) == instance:
                frames = image.get("ReferencedFrameNumber")
                return frame is None or frame in [int(one) for one in np.atleast_1d(frames)]
    return False


def _showing(role: Role, one: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
    item = Dataset()
    # Rows 7 and 9 of TID 2010: an image or a composite object, and neither has a name of its own.
    item.RelationshipType, item.ValueType = "CONTAINS", "IMAGE" if role in _IMAGES else "COMPOSITE"
    item.ReferencedSOPSequence = [reference]
    return item


def _evidence(dataset: Dataset, asked: Asked, grid: Grid, planes: list[int]) -> Dataset:
    source = str(asked.source.first.SeriesInstanceUID)
    used = {(source, grid.planes[k].sop_instance, grid.planes[k].sop_class) for k in planes}
    used |= {
        (str(one.SeriesInstanceUID), str(one.SOPInstanceUID), str(one.SOPClassUID))
        for role in SHOWING
        for one in asked.of(role)
    }
    return hierarchy(str(dataset.StudyInstanceUID), sorted(used))
