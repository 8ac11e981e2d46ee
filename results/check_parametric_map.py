"""
Does a parametric map on disk hold the model's numbers, on the images that it names?

Read as a stranger would: values through the real world value mapping, places from each frame.
"""

import numpy as np
from pydicom import Dataset

from results import codes
from results.check_segmentation import check_grid, check_place, check_references, planes_of
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
from results.parametric_map import map_description, role_of
from results.provenance import Run
from results.source import Source

_WHAT = "parametric map"


def check_map(dataset: Dataset, one: HeatMap, source: Source, run: Run) -> None:
    """Raise `CheckFailed` unless `dataset`, as read back, is `one`."""
    expect_identity(_WHAT, dataset, source)
    expect_uids(_WHAT, dataset, source, run, role_of(one))
    expect_provenance(_WHAT, dataset, run)
    expect_equipment(_WHAT, dataset)
    said = str(dataset.SeriesDescription)
    expect(said == map_description(one, run), f"{_WHAT}: it is described as {said!r}")
    check_grid(dataset, source, _WHAT)
    slice_of = {plane: index for index, plane in enumerate(planes_of(source))}
    check_references(dataset, source, slice_of, _WHAT)
    groups = dataset.PerFrameFunctionalGroupsSequence
    expect(
        len(groups) == int(dataset.NumberOfFrames) == len(slice_of),
        f"{_WHAT}: {len(groups)} frames, the source has {len(slice_of)} slices",
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
    seen: set[int] = set()
    for index, group in enumerate(groups):
        k, _ = check_place(group, index, source, slice_of, _WHAT)
        expect(k not in seen, f"{_WHAT}: two frames lie on slice {k}")
        seen.add(k)
        real = frames[index] * np.float32(slope) + np.float32(intercept)
        expect(
            np.array_equal(real, one.values[k]),
            f"{_WHAT}: frame {index + 1} does not hold the values of {one.label!r} on slice {k}",
        )
    mapped = [
        float(mapping.DoubleFloatRealWorldValueFirstValueMapped),
        float(mapping.DoubleFloatRealWorldValueLastValueMapped),
    ]
    meant = [float(one.values.min()), float(one.values.max())]
    expect(near(mapped, meant, 0.0), f"{_WHAT}: values from {mapped} are mapped, the model gave {meant}")
