"""Does the selection on disk name the images that show what the model found, and what else shows it?"""

from collections.abc import Iterator, Sequence

import numpy as np
from pydicom import Dataset

from ledger.result import Role
from results import codes, observer
from results.asked import Asked
from results.check_places import planes_of
from results.content import name_of, text_of, uid_named
from results.expect import (
    as_code,
    expect,
    expect_equipment,
    expect_identity,
    expect_provenance,
    expect_uids,
)
from results.findings import Concept
from results.key_images import SHOWING
from results.references import referenced_instances
from results.words import DISCLAIMER, plain

_WHAT = "key images"

#: (SOP Instance UID, frame) → labels
Meant = dict[tuple[str, int | None], list[str]]


def check(read: Sequence[Dataset], asked: Asked) -> None:
    """Raise `CheckFailed` unless the selection, as read back, is of the images that it should be of."""
    planes = planes_of(asked.source)
    meant: Meant = {}
    for k, label in _meant(asked):
        meant.setdefault(planes[k], []).append(label)
    expect(len(read) == bool(meant), f"{len(read)} selections, and {len(meant)} images are of interest")
    for dataset in read:
        _check(dataset, meant, asked)


def _check(dataset: Dataset, meant: Meant, asked: Asked) -> None:
    expect_identity(_WHAT, dataset, asked.source)
    expect_uids(_WHAT, dataset, asked, Role.KEY_IMAGES, asked.naming(*SHOWING))
    expect_provenance(_WHAT, dataset, asked.run)
    expect_equipment(_WHAT, dataset)
    expect(dataset.Modality == "KO", f"{_WHAT}: Modality is {dataset.Modality}")
    title = name_of(dataset)
    # An archive that is told (113001, DCM) puts away what is named, and that would be the images.
    expect(title == as_code(codes.OF_INTEREST), f"{_WHAT}: the title is {title}, not {codes.OF_INTEREST}")
    device = uid_named(dataset, codes.OBSERVER_UID)
    expect(
        device == str(asked.run.provenance.device_uid)
        and _text(dataset, codes.OBSERVER_MODEL) == observer.algorithm_name(asked.run.provenance),
        f"{_WHAT}: chosen by the device {device}, the run is {asked.run.provenance.device_uid}",
    )
    said = _text(dataset, codes.KEY_OBJECT_DESCRIPTION)
    labels = {plain(label) for found in meant.values() for label in found}
    missing = sorted(label for label in labels if label not in said)
    expect(not missing and said.endswith(DISCLAIMER), f"{_WHAT}: says {said!r}, and not {missing}")

    items = [item for item in dataset.ContentSequence if item.ValueType in ("IMAGE", "COMPOSITE")]
    references = [reference for item in items for reference in item.ReferencedSOPSequence]
    made = {str(one.SOPInstanceUID): one for role in SHOWING for one in asked.of(role)}
    images = [_instance(one) for one in references if str(one.ReferencedSOPInstanceUID) not in made]
    expect(
        len(images) == len(set(images)) and set(images) == meant.keys(),
        f"{_WHAT}: names the images {sorted(images, key=str)}, of interest are {sorted(meant, key=str)}",
    )
    beside = sorted(
        str(one.ReferencedSOPInstanceUID) for one in references if str(one.ReferencedSOPInstanceUID) in made
    )
    expect(beside == sorted(made), f"{_WHAT}: names {beside}, made were {sorted(made)}")
    states = {str(one.SOPInstanceUID) for one in asked.of(Role.PRESENTATION)}
    shown_by = {
        str(state.ReferencedSOPInstanceUID)
        for reference in references
        for state in reference.get("ReferencedSOPSequence", [])
    }
    expect(shown_by <= states, f"{_WHAT}: images are to be shown by {sorted(shown_by - states)}")
    _check_evidence(dataset, asked, made)


def _check_evidence(dataset: Dataset, asked: Asked, made: dict[str, Dataset]) -> None:
    """Every instance that is named, with its series and study; and no other."""
    series_of = {str(one.SOPInstanceUID): str(one.SeriesInstanceUID) for one in asked.source.datasets}
    series_of |= {uid: str(one.SeriesInstanceUID) for uid, one in made.items()}
    study = str(asked.source.first.StudyInstanceUID)
    used = {(study, series_of.get(uid, ""), uid, kind) for kind, uid in referenced_instances(dataset)}
    listed = [
        (
            str(one.StudyInstanceUID),
            str(series.SeriesInstanceUID),
            str(item.ReferencedSOPInstanceUID),
            str(item.ReferencedSOPClassUID),
        )
        for one in dataset.CurrentRequestedProcedureEvidenceSequence
        for series in one.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]
    expect(
        set(listed) == used and len(listed) == len(used),
        f"{_WHAT}: evidence and content refer to different instances",
    )


def _instance(reference: Dataset) -> tuple[str, int | None]:
    frame = reference.get("ReferencedFrameNumber")
    return str(reference.ReferencedSOPInstanceUID), None if frame is None else int(frame)


def _text(dataset: Dataset, concept: Concept) -> str:
    return next((text_of(one) for one in dataset.ContentSequence if name_of(one) == as_code(concept)), "")


def _meant(asked: Asked) -> Iterator[tuple[int, str]]:
    """(slice, label) of everything that has a place in the images."""
    said, slices = asked.findings, len(planes_of(asked.source))
    for segment in said.segments:
        if segment.is_lesion:
            areas = [int((plane == segment.number).sum()) for plane in said.layers[segment.layer]]
            if max(areas, default=0) > 0:
                yield areas.index(max(areas)), segment.label
    for box in said.boxes:
        middle = (box.low[0] + box.high[0]) / 2
        on = [k for k in range(slices) if box.low[0] <= k <= box.high[0]]
        nearest = min(range(slices), key=lambda k: (abs(k - middle), -k))
        yield on[len(on) // 2] if on else nearest, box.label
    for point in said.points:
        yield min(range(slices), key=lambda k: (abs(k - point.at[0]), -k)), point.label
    for verdict in said.verdicts:
        if verdict.present and asked.source.is_one_image:
            yield 0, verdict.label
        explained = [one for one in said.maps if one.explains == verdict.label]
        if verdict.present and asked.source.geometry is not None:
            for one in explained:
                highest = np.unravel_index(int(np.argmax(one.values)), one.values.shape)
                yield int(highest[0]), verdict.label
