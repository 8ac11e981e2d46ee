"""Does the report on disk give the model's numbers, about the segments and images that it names?"""

from collections.abc import Iterator, Mapping, Sequence

from pydicom import Dataset

from ledger.identifiers import Uid
from ledger.job import Outcome
from results import codes, observer
from results.check_segmentation import Found
from results.expect import (
    CheckFailed,
    as_code,
    code_of,
    expect,
    expect_equipment,
    expect_identity,
    expect_provenance,
    expect_uids,
    near,
)
from results.findings import Concept, Findings, Measurement, Segment
from results.provenance import Predecessor, Run
from results.source import Source
from results.uids import tracking_uid
from results.words import plain

_WHAT = "report"
_OUTCOMES = {
    Outcome.FOUND: codes.ANALYSED,
    Outcome.NOTHING: codes.NOTHING_FOUND,
    Outcome.REFUSED: codes.NOT_ANALYSED,
}

#: name, unit → value
Numbers = dict[tuple[tuple[str, str], tuple[str, str]], float]


def check_report(
    dataset: Dataset,
    findings: Findings,
    source: Source,
    run: Run,
    *,
    segmentation: Dataset | None,
    found: Mapping[int, Found],
) -> None:
    """`found` is what `check_segmentation` found in the file of the segmentation. Raises `CheckFailed`."""
    expect_identity(_WHAT, dataset, source)
    expect_uids(_WHAT, dataset, source, run, "report")
    expect_provenance(_WHAT, dataset, run)
    expect_equipment(_WHAT, dataset)
    expect(dataset.Modality == "SR", f"{_WHAT}: Modality is {dataset.Modality}")
    expect(
        dataset.VerificationFlag == "UNVERIFIED", f"{_WHAT}: Verification Flag is {dataset.VerificationFlag}"
    )
    expect("VerifyingObserverSequence" not in dataset, f"{_WHAT}: names somebody who verified it")
    expect(dataset.CompletionFlag == "COMPLETE", f"{_WHAT}: Completion Flag is {dataset.CompletionFlag}")
    _check_predecessor(dataset, run)
    _check_observer(dataset, run)
    _check_words(dataset, findings)
    _check_evidence(dataset, source, segmentation)

    groups = [item for item in walk(dataset) if _name(item) == as_code(codes.MEASUREMENT_GROUP)]
    segments = {str(tracking_uid(run, f.segment.label)): n for n, f in found.items()}
    series = str(tracking_uid(run, None))
    valued: set[str] = set()
    for group in groups:
        tracking = _uid(group, codes.TRACKING_UID)
        expect(tracking not in valued, f"{_WHAT}: two groups have the Tracking UID {tracking}")
        valued.add(tracking)
        if tracking in segments:
            number = segments[tracking]
            _check_segment_group(group, number, found[number], segmentation, source)
        elif tracking == series:
            _check_numbers("the series", numbers(group), findings.measurements)
        else:
            raise CheckFailed(
                f"{_WHAT}: a group has the Tracking UID {tracking}, which this run has not given"
            )
        _check_algorithm(group, run)
    missing = [found[number].segment.label for uid, number in segments.items() if uid not in valued]
    expect(not missing, f"{_WHAT}: no values of {missing}")
    expect(series in valued or not findings.measurements, f"{_WHAT}: the values of the series are missing")


def _check_segment_group(
    group: Dataset, number: int, found: Found, segmentation: Dataset | None, source: Source
) -> None:
    """The group gives the values of the segment (TID 1411) and points to it."""
    segment = found.segment
    if segmentation is None:
        raise CheckFailed(f"{_WHAT}: speaks of {segment.label!r}, but there is no segmentation")
    finding = next(
        (code_of(i, "ConceptCodeSequence") for i in walk(group) if _name(i) == ("121071", "DCM")), ("", "")
    )
    expect(finding == as_code(segment.kind), f"{_WHAT}: {segment.label!r} is called {finding}")
    _check_side(group, segment)
    references = [item for item in walk(group) if _name(item) == as_code(codes.REFERENCED_SEGMENT)]
    said = [
        (str(r.ReferencedSOPInstanceUID), int(r.ReferencedSegmentNumber))
        for item in references
        for r in item.ReferencedSOPSequence
    ]
    meant = (str(segmentation.SOPInstanceUID), number)
    expect(said == [meant], f"{_WHAT}: {segment.label!r} refers to {said}, the segment is {meant}")
    item = segmentation.SegmentSequence[number - 1]
    expect(
        str(item.TrackingUID) == _uid(group, codes.TRACKING_UID),
        f"{_WHAT}: {segment.label!r} has another Tracking UID in the segmentation",
    )
    series = _uid(group, codes.SOURCE_SERIES)
    expect(
        series == str(source.first.SeriesInstanceUID), f"{_WHAT}: the source series is said to be {series}"
    )
    values = numbers(group)
    measured = list(segment.measurements)
    if segment.score is not None:
        measured.append(Measurement(name=codes.CERTAINTY, value=segment.score * 100, unit=codes.PERCENT))
    _check_numbers(repr(segment.label), values, measured)
    if found.volume_mm3 is not None:
        _check_volume(segment, values, found.volume_mm3)


def _check_side(group: Dataset, segment: Segment) -> None:
    for item in walk(group):
        if _name(item) == as_code(codes.FINDING_SITE):
            sides = [
                code_of(i, "ConceptCodeSequence") for i in walk(item) if _name(i) == as_code(codes.LATERALITY)
            ]
            meant = [as_code(segment.laterality)] if segment.laterality else []
            expect(
                sides == meant, f"{_WHAT}: the side of {segment.label!r} is {sides}, the model said {meant}"
            )


def _check_numbers(whose: str, said: Numbers, measurements: Sequence[Measurement]) -> None:
    meant = {(as_code(m.name), as_code(m.unit)): m.value for m in measurements}
    expect(
        said.keys() == meant.keys(),
        f"{_WHAT}: {whose} has {sorted(said)}, the model measured {sorted(meant)}",
    )
    for key, value in meant.items():
        # Seven significant digits are written.
        expect(
            near([said[key]], [value], abs(value) * 1e-6 + 1e-12),
            f"{_WHAT}: {key[0][0]} of {whose} is {said[key]}, the model measured {value}",
        )


def _check_volume(segment: Segment, said: Numbers, volume_mm3: float) -> None:
    for (name, (unit, _)), value in said.items():
        if name == as_code(codes.VOLUME):
            mm3 = value * codes.VOLUME_UNITS_MM3.get(unit, float("nan"))
            expect(
                near([mm3], [volume_mm3], 1e-3 * volume_mm3),
                f"{_WHAT}: volume of {segment.label!r} is {value} {unit}, its voxels {volume_mm3:.1f} mm3",
            )


def _check_predecessor(dataset: Dataset, run: Run) -> None:
    said = [
        Predecessor(
            study=Uid(study.StudyInstanceUID),
            series=Uid(series.SeriesInstanceUID),
            sop_class=Uid(item.ReferencedSOPClassUID),
            sop_instance=Uid(item.ReferencedSOPInstanceUID),
        )
        for study in dataset.get("PredecessorDocumentsSequence", [])
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]
    meant = [] if run.predecessor is None else [run.predecessor]
    expect(said == meant, f"{_WHAT}: replaces {said}, the run's predecessor is {meant}")


def _check_observer(dataset: Dataset, run: Run) -> None:
    provenance = run.provenance
    for concept, meant in (
        (codes.OBSERVER_UID, str(provenance.device_uid)),
        (codes.OBSERVER_MANUFACTURER, observer.source_name(provenance)),
        (codes.OBSERVER_MODEL, observer.algorithm_name(provenance)),
    ):
        said = [_text(item) for item in dataset.ContentSequence if _name(item) == as_code(concept)]
        expect(said == [meant], f"{_WHAT}: {concept.meaning} is {said}, the run's is {meant!r}")


def _check_algorithm(group: Dataset, run: Run) -> None:
    provenance = run.provenance
    for concept, meant in (
        (codes.ALGORITHM_NAME, observer.algorithm_name(provenance)),
        (codes.ALGORITHM_VERSION, observer.algorithm_version(provenance)),
    ):
        said = [_text(item) for item in walk(group) if _name(item) == as_code(concept)]
        expect(said == [meant], f"{_WHAT}: {concept.meaning} is {said}, the run's is {meant!r}")


def _check_words(dataset: Dataset, findings: Findings) -> None:
    outcomes = {
        code_of(i, "ConceptCodeSequence")
        for i in walk(dataset)
        if _name(i) == as_code(codes.ANALYSIS_OUTCOME)
    }
    meant = {as_code(_OUTCOMES[findings.outcome])}
    expect(outcomes == meant, f"{_WHAT}: the outcome is {outcomes}, the model said {findings.outcome}")
    text = "\n".join(_text(item) for item in walk(dataset) if item.ValueType == "TEXT")
    for sentence in (findings.because, *findings.cautions):
        expect(plain(sentence, 1000).rstrip(".") in text, f"{_WHAT}: it does not say {sentence!r}")


def _check_evidence(dataset: Dataset, source: Source, segmentation: Dataset | None) -> None:
    """Evidence is what the content refers to, no more and no less, and all of it exists."""
    used = {
        str(reference.ReferencedSOPInstanceUID)
        for item in walk(dataset)
        for reference in item.get("ReferencedSOPSequence", [])
    }
    listed = {
        (str(study.StudyInstanceUID), str(series.SeriesInstanceUID), str(item.ReferencedSOPInstanceUID))
        for study in dataset.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    exist = {
        (str(i.StudyInstanceUID), str(i.SeriesInstanceUID), str(i.SOPInstanceUID)) for i in source.datasets
    }
    ours = set()
    if segmentation is not None:
        ours = {
            tuple(
                str(segmentation[k].value)
                for k in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
            )
        }
    expect(
        used == {instance for _, _, instance in listed},
        f"{_WHAT}: evidence and content refer to different instances",
    )
    expect(
        listed <= exist | ours, f"{_WHAT}: refers to an instance that is neither a source image nor our own"
    )
    expect(ours <= listed, f"{_WHAT}: does not refer to the segmentation of the same run")


def walk(item: Dataset) -> Iterator[Dataset]:
    """Every content item below `item`, depth first."""
    for child in item.get("ContentSequence", []):
        yield child
        yield from walk(child)


def numbers(group: Dataset) -> Numbers:
    """The NUM items of a measurement group."""
    found: Numbers = {}
    for item in walk(group):
        if item.ValueType == "NUM":
            measured = item.MeasuredValueSequence[0]
            unit = code_of(measured, "MeasurementUnitsCodeSequence")
            found[_name(item), unit] = float(measured.NumericValue)
    return found


def _name(item: Dataset) -> tuple[str, str]:
    return code_of(item, "ConceptNameCodeSequence")


def _text(item: Dataset) -> str:
    return str(item.get("TextValue") or item.get("UID") or "")


def _uid(group: Dataset, concept: Concept) -> str:
    return next((str(item.UID) for item in walk(group) if _name(item) == as_code(concept)), "")
