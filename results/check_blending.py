"""Does the blending on disk lay the right map over the right images, each as it is meant to look?"""

from collections.abc import Sequence

import numpy as np
from pydicom import Dataset

from ledger.result import Role
from results.asked import Asked
from results.blending import name_of
from results.check_places import planes_of
from results.check_presentation_state import slices_of_references, window_of
from results.expect import expect, expect_equipment, expect_identity, expect_provenance, expect_uids, near
from results.findings import HeatMap
from results.words import map_description

_WHAT = "blending"


def check(read: Sequence[Dataset], asked: Asked) -> None:
    """Raise `CheckFailed` unless the blendings, as read back, are of the maps that were made."""
    maps = asked.of(Role.PARAMETRIC_MAP)
    kept = () if asked.source.geometry is None or not maps else asked.findings.maps
    if int(asked.source.first.get("SamplesPerPixel") or 1) > 1:
        kept = ()
    expect(len(read) == len(kept), f"{len(read)} blendings, there are {len(kept)} maps to blend")
    for dataset, one, parametric_map in zip(read, kept, maps, strict=False):
        _check(dataset, one, parametric_map, asked)


def _check(dataset: Dataset, one: HeatMap, parametric_map: Dataset, asked: Asked) -> None:
    source = asked.source
    expect_identity(_WHAT, dataset, source)
    expect_uids(_WHAT, dataset, asked, name_of(one), str(parametric_map.SOPInstanceUID))
    expect_provenance(_WHAT, dataset, asked.run)
    expect_equipment(_WHAT, dataset)
    expect(dataset.Modality == "PR", f"{_WHAT}: Modality is {dataset.Modality}")
    said = str(dataset.SeriesDescription)
    expect(said == map_description(asked, one, "blend"), f"{_WHAT}: it is described as {said!r}")
    below, above = dataset.AdvancedBlendingSequence
    numbers = [int(item.BlendingInputNumber) for item in (below, above)]
    expect(numbers == [1, 2], f"{_WHAT}: its inputs are numbered {numbers}")
    study = str(source.first.StudyInstanceUID)
    expect(
        {str(item.StudyInstanceUID) for item in (below, above)} == {study},
        f"{_WHAT}: blends images of another study",
    )
    _check_images(below, asked)
    named = [str(item.ReferencedSOPInstanceUID) for item in above.ReferencedImageSequence]
    theirs = str(parametric_map.SOPInstanceUID)
    expect(
        named == [theirs] and str(above.SeriesInstanceUID) == str(parametric_map.SeriesInstanceUID),
        f"{_WHAT}: lays {named} over the images, the map of {one.label!r} is {theirs}",
    )
    (window,) = above.SoftcopyVOILUTSequence
    centre, width = float(window.WindowCenter), float(window.WindowWidth)
    low, high = float(one.values.min()), float(one.values.max())
    reach = max(high - low, 1e-6)
    shown = [centre - width / 2, centre + width / 2]
    flat = high == low and shown[0] <= low <= shown[1]
    expect(
        flat or (window.VOILUTFunction == "LINEAR_EXACT" and near(shown, [low, high], 1e-5 * reach)),
        f"{_WHAT}: colours reach from {shown[0]:g} to {shown[1]:g}, the map from {low:g} to {high:g}",
    )
    _check_palette(above.PaletteColorLookupTableSequence[0])
    _check_display(dataset)
    listed = {
        str(item.ReferencedSOPInstanceUID)
        for series in dataset.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    }
    meant = {theirs, *(uid for uid, _ in planes_of(source))}
    expect(listed == meant, f"{_WHAT}: the instances that it lists are not the map and its images")


def _check_images(below: Dataset, asked: Asked) -> None:
    source = asked.source
    theirs = str(source.first.SeriesInstanceUID)
    expect(
        str(below.SeriesInstanceUID) == theirs,
        f"{_WHAT}: begins with the series {below.SeriesInstanceUID}, the source is {theirs}",
    )
    every = list(range(len(planes_of(source))))
    expect(
        slices_of_references(below.ReferencedImageSequence, source) == every,
        f"{_WHAT}: it is laid over other images than those of the volume",
    )
    for k in every:
        meant = window_of(source, k)
        own = [
            (float(item.WindowCenter), float(item.WindowWidth))
            for item in below.get("SoftcopyVOILUTSequence", [])
            if "WindowCenter" in item
            and (
                "ReferencedImageSequence" not in item
                or k in slices_of_references(item.ReferencedImageSequence, source)
            )
        ]
        expect(
            meant is None or (len(own) == 1 and near(own[0], meant, 1e-6 * max(abs(meant[1]), 1.0))),
            f"{_WHAT}: slice {k} is shown by the windows {own}, the image says {meant}",
        )


def _check_palette(item: Dataset) -> None:
    """Black at its lowest and white at its highest, and never darker in between: more is lighter."""
    light = np.zeros(256, dtype=np.int64)
    for colour in ("Red", "Green", "Blue"):
        descriptor = [int(one) for one in item[f"{colour}PaletteColorLookupTableDescriptor"].value]
        expect(descriptor == [256, 0, 16], f"{_WHAT}: the colours are a table of {descriptor}")
        values = np.frombuffer(item[f"{colour}PaletteColorLookupTableData"].value, "<u2").astype(np.int64)
        expect(values.size == 256, f"{_WHAT}: the table of colours has {values.size} entries")
        light += values
    expect(
        light[0] == 0 and light[-1] == 3 * 0xFFFF and bool((np.diff(light) > 0).all()),
        f"{_WHAT}: its colours do not get lighter from the lowest value to the highest",
    )


def _check_display(dataset: Dataset) -> None:
    (display,) = dataset.BlendingDisplaySequence
    inputs = [int(item.BlendingInputNumber) for item in display.BlendingDisplayInputSequence]
    expect(
        display.BlendingMode == "FOREGROUND"
        and inputs == [1, 2]
        and near([float(display.RelativeOpacity)], [0.5], 1e-6),
        f"{_WHAT}: {display.BlendingMode} of {inputs}, and not one half of each",
    )
    geometry = [str(item.get("GeometryForDisplay")) for item in dataset.AdvancedBlendingSequence]
    expect(geometry == ["TRUE", "FALSE"], f"{_WHAT}: it is not shown where the images lie")
