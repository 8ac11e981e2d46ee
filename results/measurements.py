"""
The measurement groups of a report: one per segment, one for the series as a whole.

A group of a segment points to the segment (TID 1411) and to the source series, never to each of its 300
images: a report of 100 organs would have 30 000 items. OHIF shows a report of this kind only if it can draw
each finding on an image, so a second group (TID 1410) of the same Tracking Unique Identifier bounds the
segment by a box on the slice where it is largest; OHIF merges the two and opens on that slice.
"""

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from results import codes
from results.findings import Concept, Findings, Measurement, Segment
from results.frames import Drawn
from results.grid import Grid, Plane
from results.observer import algorithm
from results.provenance import Run
from results.segmentation import tracking_identifier, tracking_uid
from results.source import Source
from results.uids import derived_uid
from results.words import long_string

Group = (
    hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | hd.sr.MeasurementsAndQualitativeEvaluations
)


def segment_groups(
    findings: Findings, drawn: Drawn, grid: Grid, *, source: Source, run: Run, segmentation: Dataset
) -> list[Group]:
    """The values of one segment (TID 1411), and where to look for it (TID 1410)."""
    segment = drawn.segment
    assert findings.label_map is not None
    values = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(run, segment),
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=drawn.number,
            source_series=hd.sr.SourceSeriesForSegmentation(str(source.first.SeriesInstanceUID)),
        ),
        finding_type=codes.coded(segment.kind),
        finding_sites=_sites(segment),
        algorithm_id=algorithm(run.provenance),
        measurements=[encode(measurement) for measurement in segment.measurements] or None,
    )
    plane, box = key_slice(findings.label_map, [drawn])
    place = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(run, segment),
        referenced_region=_region(grid.planes[plane], box),
        finding_type=codes.coded(segment.kind),
        finding_sites=_sites(segment),
        geometric_purpose=codes.coded(codes.BOUNDED_BY),
    )
    return [values, place]


def series_groups(
    findings: Findings,
    outcome: Concept,
    drawn: Sequence[Drawn],
    grid: Grid | None,
    *,
    source: Source,
    run: Run,
) -> list[Group]:
    """What is said of the series as a whole (TID 1501); with segments, also where they are."""

    def tracking() -> hd.sr.TrackingIdentifier:
        return hd.sr.TrackingIdentifier(
            uid=str(derived_uid(run, "series", "tracking")),
            identifier=long_string(f"{run.provenance.name} series"),
        )

    groups: list[Group] = [
        hd.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking(),
            algorithm_id=algorithm(run.provenance),
            measurements=[encode(measurement) for measurement in findings.measurements] or None,
            qualitative_evaluations=[
                hd.sr.QualitativeEvaluation(
                    name=codes.coded(codes.ANALYSIS_OUTCOME), value=codes.coded(outcome)
                )
            ],
            source_images=[_middle_image(source)],
        )
    ]
    if drawn and grid is not None and findings.label_map is not None:
        plane, box = key_slice(findings.label_map, drawn)
        groups.append(
            hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=tracking(),
                referenced_region=_region(grid.planes[plane], box),
                geometric_purpose=codes.coded(codes.BOUNDED_BY),
            )
        )
    return groups


def encode(measurement: Measurement) -> hd.sr.Measurement:
    """A quantity as NUM (TID 300)."""
    return hd.sr.Measurement(
        name=codes.coded(measurement.name),
        value=measurement.value,
        unit=codes.coded(measurement.unit),
        method=codes.coded(measurement.method) if measurement.method else None,
        derivation=codes.coded(measurement.derivation) if measurement.derivation else None,
    )


def key_slice(label_map: NDArray[np.uint8], drawn: Sequence[Drawn]) -> tuple[int, tuple[int, int, int, int]]:
    """The slice that holds most of the segments, and their box: (left, top, right, bottom) in pixels."""
    numbers = [item.segment.number for item in drawn]
    start, stop = min(item.box[0].start for item in drawn), max(item.box[0].stop for item in drawn)
    sizes = np.zeros(stop - start, dtype=np.int64)
    for item in drawn:
        held = label_map[item.box] == item.segment.number
        sizes[item.box[0].start - start : item.box[0].stop - start] += held.sum(axis=(1, 2))
    plane = start + int(sizes.argmax())
    mask = np.isin(label_map[plane], numbers)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return plane, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _region(plane: Plane, box: tuple[int, int, int, int]) -> hd.sr.ImageRegion:
    # SCOORD has sub-pixel resolution: (0, 0) is the outer corner of the first pixel, so its far edge is at 1
    # (PS3.3 §C.18.6.1.1). Column first, then row; a closed polyline ends where it began.
    left, top, right, bottom = box
    corners = np.array(
        [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], dtype=np.float64
    )
    image = hd.sr.SourceImageForRegion(
        plane.sop_class, plane.sop_instance, [plane.frame] if plane.frame else None
    )
    return hd.sr.ImageRegion(graphic_type="POLYLINE", graphic_data=corners, source_image=image)


def _middle_image(source: Source) -> hd.sr.SourceImageForMeasurementGroup:
    # One image names its series; the whole input set is in the result's own UID.
    image = source.datasets[len(source.datasets) // 2]
    return hd.sr.SourceImageForMeasurementGroup(str(image.SOPClassUID), str(image.SOPInstanceUID))


def _tracking(run: Run, segment: Segment) -> hd.sr.TrackingIdentifier:
    return hd.sr.TrackingIdentifier(
        uid=str(tracking_uid(run, segment)), identifier=tracking_identifier(run, segment)
    )


def _sites(segment: Segment) -> list[hd.sr.FindingSite] | None:
    """Where the finding is. Only anatomy is its own site; of a lesion the findings do not say it."""
    if segment.category.value != codes.ANATOMICAL_STRUCTURE.value:
        return None
    laterality = codes.coded(segment.laterality) if segment.laterality else None
    return [hd.sr.FindingSite(anatomic_location=codes.coded(segment.kind), laterality=laterality)]
