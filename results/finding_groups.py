"""
The measurement groups of what is not drawn voxel by voxel: boxes, landmarks, verdicts and maps.

A box is a volumetric region of interest where it lies on several slices (TID 1411), else a planar one, as a
landmark is (TID 1410). A verdict is about the whole (TID 1501): present or absent in code, the number that
decided, the threshold, and whether the number is a probability or only orders. A map has its largest value,
and the parametric map itself as the source of that.
"""

from collections.abc import Iterator
from typing import Any

import highdicom as hd
from pydicom import Dataset

from results import codes
from results.findings import Box, Concept, HeatMap, Measurement, Point, Verdict
from results.grid import Grid
from results.measurements import Group, certainty, encode, middle_image
from results.observer import algorithm
from results.provenance import Run
from results.regions import off_plane, rectangles, size_of, spot
from results.source import Source
from results.uids import FindingKind, box_tracking_uid, tracking_uid
from results.words import long_string


def box_group(box: Box, *, grid: Grid, run: Run) -> Group:
    """One detected thing. Raises `NotEncodable` where its box is not on the images."""
    measurements = [*certainty(box.score), *size_of(box, grid), *box.measurements]
    regions = rectangles(box, grid)
    said: dict[str, Any] = {
        "tracking_identifier": hd.sr.TrackingIdentifier(
            uid=str(box_tracking_uid(run, box)), identifier=_identifier(run, box.label)
        ),
        "finding_type": codes.coded(box.kind),
        "finding_sites": sites(box.site, box.laterality),
        "geometric_purpose": codes.coded(codes.BOUNDED_BY),
        "algorithm_id": algorithm(run.provenance),
        "measurements": [encode(measurement) for measurement in measurements],
    }
    if len(regions) == 1:
        return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=regions[0], **said)
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_regions=regions, **said)


def point_group(point: Point, *, grid: Grid, run: Run) -> Group:
    """One landmark. Raises `NotEncodable` where it is not on the images."""
    measurements = [*point_numbers(point), *off_plane(point, grid)]
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(run, point.label, "point"),
        referenced_region=spot(point, grid),
        finding_sites=sites(point.site, None),
        algorithm_id=algorithm(run.provenance),
        measurements=[encode(measurement) for measurement in measurements] or None,
    )


def point_numbers(point: Point) -> Iterator[Measurement]:
    """How sure the model is of a landmark, and of its place."""
    yield from certainty(point.score)
    if point.uncertainty_mm is not None:
        yield Measurement(name=codes.STANDARD_DEVIATION, value=point.uncertainty_mm, unit=codes.MILLIMETRE)


def verdict_group(verdict: Verdict, *, source: Source, run: Run) -> Group:
    """One class of the examination as a whole."""
    told = codes.PRESENT if verdict.present else codes.ABSENT
    answer = codes.EQUIVOCAL if verdict.unsure else told
    kind = codes.CALIBRATED if verdict.calibrated else codes.NOT_CALIBRATED
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(run, verdict.label, "verdict"),
        finding_type=codes.coded(verdict.finding),
        finding_sites=sites(verdict.site, None),
        algorithm_id=algorithm(run.provenance),
        measurements=[encode(measurement) for measurement in verdict_numbers(verdict)],
        qualitative_evaluations=[
            _evaluation(verdict.finding, answer),
            _evaluation(codes.CALIBRATION, kind),
        ],
        source_images=[middle_image(source)],
    )


def verdict_numbers(verdict: Verdict) -> Iterator[Measurement]:
    """What decided a verdict, and from where on it is present; a probability only if it was calibrated."""
    number = codes.PROBABILITY if verdict.calibrated else codes.CERTAINTY
    yield Measurement(name=number, value=100 * verdict.probability, unit=codes.PERCENT)
    yield Measurement(name=codes.THRESHOLD, value=100 * verdict.threshold, unit=codes.PERCENT)


def map_group(one: HeatMap, dataset: Dataset, *, run: Run) -> Group:
    """The largest value of a map, measured in `dataset`, which is its parametric map."""
    largest = Measurement(
        name=one.quantity, value=float(one.values.max()), unit=one.unit, derivation=codes.MAXIMUM
    )
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(run, one.label, "map"),
        algorithm_id=algorithm(run.provenance),
        measurements=[encode(largest)],
        source_images=[
            hd.sr.SourceImageForMeasurementGroup(str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))
        ],
    )


def tracking(run: Run, label: str, kind: FindingKind) -> hd.sr.TrackingIdentifier:
    """What a finding is called in every object."""
    return hd.sr.TrackingIdentifier(
        uid=str(tracking_uid(run, label, kind)), identifier=_identifier(run, label)
    )


def _identifier(run: Run, label: str) -> str:
    return long_string(f"{run.provenance.name} {label}")


def sites(site: Concept | None, laterality: Concept | None) -> list[hd.sr.FindingSite] | None:
    """Where a finding is."""
    if site is None:
        return None
    side = codes.coded(laterality) if laterality else None
    return [hd.sr.FindingSite(anatomic_location=codes.coded(site), laterality=side)]


def _evaluation(name: Concept, value: Concept) -> hd.sr.QualitativeEvaluation:
    return hd.sr.QualitativeEvaluation(name=codes.coded(name), value=codes.coded(value))
