"""
Does a parametric map on disk hold the model's numbers, on the images that it names?

Read as a stranger would: values through the real world value mapping, places from each frame.
"""

from collections.abc import Sequence

import numpy as np
from pydicom import Dataset

from results import codes
from results.asked import Asked
from results.check_places import Places, check_grid, check_references
from results.expect import (
    as_code,
    code_of,
    expect,
    expect_equipment,
    expect_identity,
    expect_provenance,
    expect_uids,
    near,
)
from results.findings import HeatMap
from results.parametric_map import role_of
from results.words import map_description

_WHAT = "parametric map"


def check(read: Sequence[Dataset], asked: Asked) -> None:
    """Raise `CheckFailed` unless the maps, as read back, are those of the model."""
    # A map needs a place in the patient.
    kept = () if asked.source.geometry is None else asked.findings.maps
    expect(len(read) == len(kept), f"{len(read)} parametric maps, the model gave {len(kept)}")
    for dataset, one in zip(read, kept, strict=True):
        _check(dataset, one, asked)


def _check(dataset: Dataset, one: HeatMap, asked: Asked) -> None:
    source, run = asked.source, asked.run
    expect_identity(_WHAT, dataset, source)
    expect_uids(_WHAT, dataset, asked, role_of(one))
    expect_provenance(_WHAT, dataset, run)
    expect_equipment(_WHAT, dataset)
    expect(dataset.Modality == "OT", f"{_WHAT}: Modality is {dataset.Modality}")
    said = str(dataset.SeriesDescription)
    expect(said == map_description(asked, one), f"{_WHAT}: it is described as {said!r}")
    check_grid(dataset, source, _WHAT)
    places = Places(source, _WHAT)
    check_references(dataset, source, places.slice_of, _WHAT)
    groups = dataset.PerFrameFunctionalGroupsSequence
    expect(
        len(groups) == int(dataset.NumberOfFrames) == len(places.slice_of),
        f"{_WHAT}: {len(groups)} frames, the source has {len(places.slice_of)} slices",
    )

    mapping = dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    unit = code_of(mapping, "MeasurementUnitsCodeSequence")
    expect(unit == as_code(one.unit), f"{_WHAT}: the unit is {unit}, the model said {as_code(one.unit)}")
    quantities = [
        code_of(item, "ConceptCodeSequence")
        for item in mapping.QuantityDefinitionSequence
        if code_of(item, "ConceptNameCodeSequence") == as_code(codes.QUANTITY)
    ]
    expect(
        quantities == [as_code(one.quantity)],
        f"{_WHAT}: the quantity is {quantities}, the model said {as_code(one.quantity)}",
    )
    values = np.frombuffer(dataset.FloatPixelData, "<f4")
    expect(values.size == one.values.size, f"{_WHAT}: {values.size} values, the model gave {one.values.size}")
    slope, intercept = float(mapping.RealWorldValueSlope), float(mapping.RealWorldValueIntercept)
    frames = values.reshape(len(groups), int(dataset.Rows), int(dataset.Columns))
    seen: list[int] = []
    for index, group in enumerate(groups):
        _, k, _ = places.of(group, index)
        expect(k not in seen, f"{_WHAT}: two frames lie on slice {k}")
        seen.append(k)
        real = frames[index] * np.float32(slope) + np.float32(intercept)
        expect(
            np.array_equal(real, one.values[k]),
            f"{_WHAT}: frame {index + 1} does not hold the values of {one.label!r} on slice {k}",
        )
    # The volume's slices run against rows x columns. OHIF draws the other order upside down.
    expect(seen == sorted(seen, reverse=True), f"{_WHAT}: its frames are not in the order that is drawn")
    mapped = [
        float(mapping.DoubleFloatRealWorldValueFirstValueMapped),
        float(mapping.DoubleFloatRealWorldValueLastValueMapped),
    ]
    meant = [float(one.values.min()), float(one.values.max())]
    expect(near(mapped, meant, 0.0), f"{_WHAT}: values from {mapped} are mapped, the model gave {meant}")
