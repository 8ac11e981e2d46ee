"""
The measurement groups of a report: one per segment, or one for the series as a whole.

A group of a segment points to the segment (TID 1411) and to the source series, never to each of its 300
images: a report of 100 organs would have 30 000 items. It has no outline or box on an image beside it: OHIF
would compute its own mean and area of the box and show those in place of our values.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import highdicom as hd

from results import codes
from results.findings import Concept, Findings, Measurement, Segment
from results.observer import algorithm
from results.occupied import Drawn
from results.provenance import Run
from results.segmentation import tracking_identifier
from results.source import Source
from results.uids import segment_tracking_uid, tracking_uid
from results.words import long_string

Group = (
    hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | hd.sr.MeasurementsAndQualitativeEvaluations
)


def segment_group(
    drawn: Drawn,
    sizes: Sequence[Measurement] | None,
    places: Mapping[str, tuple[str, str, int]],
    *,
    source: Source,
    run: Run,
) -> Group:
    """The values of one segment (TID 1411), or of what nobody is sent the segment of (TID 1501).

    `sizes` are the measurements of a lesion, and None for anything else; `places` are by Tracking UID the SOP
    Class, the SOP Instance and the Segment Number.
    """
    segment = drawn.segment
    numbers = [*segment.measurements, *certainty(segment.score)] if sizes is None else sizes
    said: dict[str, Any] = {
        "tracking_identifier": segment_tracking(run, segment),
        "finding_type": codes.coded(segment.kind),
        "finding_sites": _sites(segment),
        "algorithm_id": algorithm(run.provenance),
        "measurements": [encode(measurement) for measurement in numbers] or None,
    }
    place = places.get(str(segment_tracking_uid(run, segment)))
    if place is None:
        return hd.sr.MeasurementsAndQualitativeEvaluations(source_images=[middle_image(source)], **said)
    sop_class, sop_instance, number = place
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid=sop_class,
            sop_instance_uid=sop_instance,
            segment_number=number,
            source_series=hd.sr.SourceSeriesForSegmentation(str(source.first.SeriesInstanceUID)),
        ),
        **said,
    )


def certainty(score: float | None) -> Iterator[Measurement]:
    """How sure the model is of one finding, where it says so: in percent, as mammography CAD has it (TID
    4006).
    """
    if score is not None:
        yield Measurement(name=codes.CERTAINTY, value=100.0 * score, unit=codes.PERCENT)


def series_group(findings: Findings, outcome: Concept, *, source: Source, run: Run) -> Group:
    """What is said of the series as a whole (TID 1501)."""
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=str(tracking_uid(run, None)), identifier=long_string(f"{run.provenance.name} series")
        ),
        algorithm_id=algorithm(run.provenance),
        measurements=[encode(measurement) for measurement in findings.measurements] or None,
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(name=codes.coded(codes.ANALYSIS_OUTCOME), value=codes.coded(outcome))
        ],
        source_images=[middle_image(source)],
    )


def encode(measurement: Measurement) -> hd.sr.Measurement:
    """A quantity as NUM (TID 300), to seven significant digits: viewers print whatever is there."""
    return hd.sr.Measurement(
        name=codes.coded(measurement.name),
        value=seven_digits(measurement.value),
        unit=codes.coded(measurement.unit),
        method=codes.coded(measurement.method) if measurement.method else None,
        derivation=codes.coded(measurement.derivation) if measurement.derivation else None,
    )


def seven_digits(value: float) -> float:
    """What a NUM says of `value`."""
    return float(f"{value:.7g}")


def middle_image(source: Source) -> hd.sr.SourceImageForMeasurementGroup:
    """The image that stands for the series."""
    # One image names its series; the whole input set is in the result's own UID.
    image = source.datasets[len(source.datasets) // 2]
    return hd.sr.SourceImageForMeasurementGroup(str(image.SOPClassUID), str(image.SOPInstanceUID))


def segment_tracking(run: Run, segment: Segment) -> hd.sr.TrackingIdentifier:
    """What the segment is called in every object."""
    return hd.sr.TrackingIdentifier(
        uid=str(segment_tracking_uid(run, segment)), identifier=tracking_identifier(run, segment)
    )


def _sites(segment: Segment) -> list[hd.sr.FindingSite] | None:
    """Where the finding is. Only anatomy is its own site; of a lesion the findings do not say it."""
    if segment.category.value != codes.ANATOMICAL_STRUCTURE.value:
        return None
    laterality = codes.coded(segment.laterality) if segment.laterality else None
    return [hd.sr.FindingSite(anatomic_location=codes.coded(segment.kind), laterality=laterality)]
