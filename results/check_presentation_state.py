"""
Does the presentation state on disk show the source's own images, as they look, with everything marked on
them?

What it says of windows and grey values replaces what the images say, so it is compared with their headers.
"""

from collections.abc import Sequence

import numpy as np
from pydicom import Dataset

from ledger.result import Role
from results.asked import Asked
from results.check_annotations import check_annotations, slices_with_marks
from results.check_places import planes_of
from results.expect import (
    expect,
    expect_equipment,
    expect_identity,
    expect_provenance,
    expect_uids,
    near,
)
from results.source import Source

_WHAT = "presentation state"
#: What says how high and how wide a pixel is, the most telling first.
_SHAPES = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
_GREY, _COLOUR = "1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.11.2"


def check(read: Sequence[Dataset], asked: Asked) -> None:
    """Raise `CheckFailed` unless the presentation state, as read back, marks what the model found."""
    meant = bool(slices_with_marks(asked))
    expect(
        len(read) == meant,
        f"{len(read)} presentation states, and there is {'something' if meant else 'nothing'} to mark",
    )
    for dataset in read:
        _check(dataset, asked)


def _check(dataset: Dataset, asked: Asked) -> None:
    source = asked.source
    expect_identity(_WHAT, dataset, source)
    expect_uids(_WHAT, dataset, asked, Role.PRESENTATION)
    expect_provenance(_WHAT, dataset, asked.run)
    expect_equipment(_WHAT, dataset)
    expect(dataset.Modality == "PR", f"{_WHAT}: Modality is {dataset.Modality}")
    expect(dataset.get("InstanceNumber") is not None, f"{_WHAT}: without an Instance Number DCMTK refuses it")
    colour = str(source.first.get("PhotometricInterpretation", "")) not in ("MONOCHROME1", "MONOCHROME2", "")
    expect(
        str(dataset.SOPClassUID) == (_COLOUR if colour else _GREY),
        f"{_WHAT}: SOP Class UID is {dataset.SOPClassUID}, they are {'' if colour else 'not '}in colour",
    )
    shown = _check_references(dataset, asked)
    _check_displayed_area(dataset, source, shown)
    if not colour:
        _check_grey_values(dataset, source, shown)
    check_annotations(dataset, asked)


def _check_references(dataset: Dataset, asked: Asked) -> list[int]:
    """The slices that it refers to: those of the source that have marks."""
    series = [str(item.SeriesInstanceUID) for item in dataset.ReferencedSeriesSequence]
    theirs = str(asked.source.first.SeriesInstanceUID)
    expect(series == [theirs], f"{_WHAT}: refers to the series {series}, the source is {theirs}")
    named = slices_of_references(dataset.ReferencedSeriesSequence[0].ReferencedImageSequence, asked.source)
    meant = sorted(slices_with_marks(asked))
    expect(named == meant, f"{_WHAT}: refers to the slices {named}, marks lie on {meant}")
    return named


def slices_of_references(references: Sequence[Dataset], source: Source) -> list[int]:
    """The slices that references mean, sorted; -1 for what is no image of the source."""
    slice_of = {name: k for k, name in enumerate(planes_of(source))}
    found = []
    for item in references:
        frames = item.get("ReferencedFrameNumber")
        numbers = [None] if frames is None else [int(one) for one in np.atleast_1d(frames)]
        found += [slice_of.get((str(item.ReferencedSOPInstanceUID), one), -1) for one in numbers]
    return sorted(found)


def _check_displayed_area(dataset: Dataset, source: Source, shown: list[int]) -> None:
    (area,) = dataset.DisplayedAreaSelectionSequence
    expect(
        slices_of_references(area.ReferencedImageSequence, source) == shown,
        f"{_WHAT}: the displayed area is that of other images",
    )
    corners = [*area.DisplayedAreaTopLeftHandCorner, *area.DisplayedAreaBottomRightHandCorner]
    whole = [1, 1, int(source.first.Columns), int(source.first.Rows)]
    expect(list(map(int, corners)) == whole, f"{_WHAT}: shows {corners} of the image, which is {whole}")
    shape = area.get("PresentationPixelSpacing") or area.get("PresentationPixelAspectRatio")
    said = (np.atleast_1d(_header(source, 0, "PixelMeasuresSequence", one) or []) for one in _SHAPES)
    theirs = next((one for one in said if len(one) == 2 and min(map(float, one)) > 0), (1, 1))
    ratio, meant = float(shape[0]) / float(shape[1]), float(theirs[0]) / float(theirs[1])
    expect(near([ratio], [meant], 1e-3 * meant), f"{_WHAT}: pixels are shown {ratio} as high as wide")


def _check_grey_values(dataset: Dataset, source: Source, shown: list[int]) -> None:
    inverse = source.first.get("PhotometricInterpretation") == "MONOCHROME1"
    shape = str(dataset.PresentationLUTShape)
    expect(
        shape == ("INVERSE" if inverse else "IDENTITY"),
        f"{_WHAT}: grey values are shown as {shape}, the images are {'' if inverse else 'not '}inverse",
    )
    for k in shown:
        # What becomes black and what becomes white, in stored values: by the image, and by this object.
        theirs = window_of(source, k)
        if theirs is None:
            continue
        slope, intercept = _rescale(source, k)
        low, high = ((theirs[0] + sign * theirs[1] / 2 - intercept) / slope for sign in (-1, 1))
        own = [
            item
            for item in dataset.get("SoftcopyVOILUTSequence", [])
            if "ReferencedImageSequence" not in item
            or k in slices_of_references(item.ReferencedImageSequence, source)
        ]
        expect(len(own) == 1, f"{_WHAT}: slice {k} has {len(own)} windows")
        ours_slope = float(dataset.get("RescaleSlope", 1))
        ours_intercept = float(dataset.get("RescaleIntercept", 0))
        centre, width = float(own[0].WindowCenter), float(own[0].WindowWidth)
        said = [(centre + sign * width / 2 - ours_intercept) / ours_slope for sign in (-1, 1)]
        expect(
            near(said, [low, high], 1e-3 * max(abs(high - low), 1e-6)),
            f"{_WHAT}: slice {k} is shown from {said[0]:g} to {said[1]:g}, meant is {low:g} to {high:g}",
        )


def window_of(source: Source, k: int) -> tuple[float, float] | None:
    """Centre and width of the first window of slice `k`; None where the image names none."""
    found = [_header(source, k, "FrameVOILUTSequence", one) for one in ("WindowCenter", "WindowWidth")]
    if found[0] is None or found[1] is None:
        return None
    centre, width = (float(np.atleast_1d(one)[0]) for one in found)
    return centre, width


def _rescale(source: Source, k: int) -> tuple[float, float]:
    group = "PixelValueTransformationSequence"
    slope, intercept = (_header(source, k, group, one) for one in ("RescaleSlope", "RescaleIntercept"))
    if slope is None or intercept is None or "ModalityLUTSequence" in source.first:
        return 1.0, 0.0
    return float(slope), float(intercept)


def _header(source: Source, k: int, group: str, keyword: str):  # type: ignore[no-untyped-def]
    """`keyword` of slice `k` as the source has it, in a functional group or at the top."""
    if source.frames is None:
        return source.datasets[k].get(keyword)
    image = source.first
    holders = []
    if "PerFrameFunctionalGroupsSequence" in image:
        holders = [image.PerFrameFunctionalGroupsSequence[source.frames[k] - 1]]
        holders += list(image.SharedFunctionalGroupsSequence)
    items = [one[group].value[0] for one in holders if one.get(group)]
    return next((item.get(keyword) for item in [*items, image] if item.get(keyword) is not None), None)
