"""
What a lesion is measured by, and how it is drawn: the same numbers in the report and on the images.

In the report a lesion is a segment with its values (TID 1411). In the document that is drawn it is its
outline on the slice where it is largest (TID 1410), its two diameters as lines, and the same values under the
same Tracking UID. What the model itself measured comes instead of ours.
"""

from collections.abc import Iterator

import highdicom as hd
import numpy as np

from results import codes
from results.findings import Concept, Measurement
from results.grid import Grid
from results.measurements import certainty, encode, segment_tracking
from results.observer import algorithm
from results.outline import Axis, Lesion
from results.provenance import Run
from results.regions import region, source_image


def lesion_numbers(lesion: Lesion, grid: Grid) -> Iterator[Measurement]:
    """Volume, the two diameters, and what the model measured, in the order in which they are read."""
    segment = lesion.drawn.segment
    said = {measurement.name for measurement in segment.measurements}
    if grid.step_mm is not None and codes.VOLUME not in said:
        volume_ml = lesion.voxels * float(np.prod(grid.step_mm)) / 1000.0
        yield Measurement(name=codes.VOLUME, value=volume_ml, unit=codes.MILLILITRE)
    for name, axis in _axes(lesion):
        if axis is not None and name not in said:
            yield Measurement(name=name, value=axis.length_mm, unit=codes.MILLIMETRE)
    yield from segment.measurements
    yield from certainty(segment.score)


def lesion_group(
    lesion: Lesion, *, grid: Grid, run: Run
) -> hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    """The lesion as it is drawn on its image."""
    segment, outline = lesion.drawn.segment, lesion.outline
    plane = grid.planes[outline.plane]
    said = {measurement.name for measurement in segment.measurements}
    axes = {name: axis for name, axis in _axes(lesion) if axis is not None and name not in said}
    group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=segment_tracking(run, segment),
        referenced_region=region("POLYLINE", outline.points, plane),
        finding_type=codes.coded(segment.kind),
        algorithm_id=algorithm(run.provenance),
        measurements=[encode(measurement) for measurement in lesion_numbers(lesion, grid)] or None,
    )
    # TID 1410 is extensible, and a diameter without its line could not be looked at; highdicom has no way to
    # say so in this group.
    for name, axis in axes.items():
        for item in group[0].ContentSequence:
            if item.ValueType == "NUM" and item.name == codes.coded(name):
                line = hd.sr.CoordinatesForMeasurement("POLYLINE", axis.ends, source_image(plane))
                item.ContentSequence = [*item.get("ContentSequence", []), line]
    return group


def _axes(lesion: Lesion) -> Iterator[tuple[Concept, Axis | None]]:
    yield codes.LONG_AXIS, lesion.outline.long
    yield codes.SHORT_AXIS, lesion.outline.short
