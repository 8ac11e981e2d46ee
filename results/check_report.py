"""Does the report on disk give the model's numbers, about the segments and images that it names?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from pydicom import Dataset

from ledger.identifiers import Uid
from ledger.job import Outcome
from results import codes, observer
from results.check_groups import (
    check_box,
    check_map,
    check_numbers,
    check_point,
    check_segment,
    check_verdict,
)
from results.check_segmentation import Found
from results.content import name_of, text_of, uid_named, walk
from results.expect import (
    CheckFailed,
    as_code,
    code_of,
    expect,
    expect_equipment,
    expect_identity,
    expect_provenance,
    expect_uids,
)
from results.findings import Findings
from results.provenance import Predecessor, Run
from results.sentences import LINES_MAX
from results.source import Source
from results.uids import tracking_uid
from results.words import plain

_WHAT = "report"
_OUTCOMES = {
    Outcome.FOUND: codes.ANALYSED,
    Outcome.NOTHING: codes.NOTHING_FOUND,
    Outcome.REFUSED: codes.NOT_ANALYSED,
}

#: Told a measurement group, raises `CheckFailed` unless it says what was found.
Check = Callable[[Dataset], None]


def check_report(
    dataset: Dataset,
    findings: Findings,
    source: Source,
    run: Run,
    *,
    segmentation: Dataset | None,
    found: Mapping[int, Found],
    maps: Mapping[str, Dataset],
) -> None:
    """`found` is what `check_segmentation` found in the file of the segmentation; `maps` are the parametric
    maps as read back, by label. Raises `CheckFailed`.
    """
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
    _check_evidence(dataset, source, [*([] if segmentation is None else [segmentation]), *maps.values()])

    groups = [item for item in walk(dataset) if name_of(item) == as_code(codes.MEASUREMENT_GROUP)]
    checks = dict(_checks(findings, source, run, segmentation=segmentation, found=found, maps=maps))
    series = str(tracking_uid(run, None))
    valued: set[str] = set()
    for group in groups:
        tracking = uid_named(group, codes.TRACKING_UID)
        expect(tracking not in valued, f"{_WHAT}: two groups have the Tracking UID {tracking}")
        valued.add(tracking)
        if tracking == series:
            check_numbers("the series", group, findings.measurements)
        elif tracking in checks:
            checks[tracking][1](group)
        else:
            raise CheckFailed(
                f"{_WHAT}: a group has the Tracking UID {tracking}, which this run has not given"
            )
        _check_algorithm(group, run)
    missing = [label for uid, (label, _) in checks.items() if uid not in valued]
    expect(not missing, f"{_WHAT}: no values of {missing}")
    expect(series in valued or not findings.measurements, f"{_WHAT}: the values of the series are missing")


def _checks(
    findings: Findings,
    source: Source,
    run: Run,
    *,
    segmentation: Dataset | None,
    found: Mapping[int, Found],
    maps: Mapping[str, Dataset],
) -> Iterator[tuple[str, tuple[str, Check]]]:
    """By Tracking UID: the label of every finding, and what its group has to be."""
    for number, segment in found.items():
        yield (
            str(tracking_uid(run, segment.segment.label)),
            (segment.segment.label, partial(check_segment, number, segment, segmentation, source)),
        )
    for box in findings.boxes:
        yield str(tracking_uid(run, box.label, "box")), (box.label, partial(check_box, box, source))
    for point in findings.points:
        yield str(tracking_uid(run, point.label, "point")), (point.label, partial(check_point, point, source))
    for verdict in findings.verdicts:
        yield (
            str(tracking_uid(run, verdict.label, "verdict")),
            (verdict.label, partial(check_verdict, verdict)),
        )
    for one in findings.maps if source.geometry is not None else ():
        yield (
            str(tracking_uid(run, one.label, "map")),
            (one.label, partial(check_map, one, maps.get(one.label))),
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
        said = [text_of(item) for item in dataset.ContentSequence if name_of(item) == as_code(concept)]
        expect(said == [meant], f"{_WHAT}: {concept.meaning} is {said}, the run's is {meant!r}")


def _check_algorithm(group: Dataset, run: Run) -> None:
    provenance = run.provenance
    for concept, meant in (
        (codes.ALGORITHM_NAME, observer.algorithm_name(provenance)),
        (codes.ALGORITHM_VERSION, observer.algorithm_version(provenance)),
    ):
        said = [text_of(item) for item in walk(group) if name_of(item) == as_code(concept)]
        expect(said == [meant], f"{_WHAT}: {concept.meaning} is {said}, the run's is {meant!r}")


def _check_words(dataset: Dataset, findings: Findings) -> None:
    outcomes = {
        code_of(i, "ConceptCodeSequence")
        for i in walk(dataset)
        if name_of(i) == as_code(codes.ANALYSIS_OUTCOME)
    }
    meant = {as_code(_OUTCOMES[findings.outcome])}
    expect(outcomes == meant, f"{_WHAT}: the outcome is {outcomes}, the model said {findings.outcome}")
    text = "\n".join(text_of(item) for item in walk(dataset) if item.ValueType == "TEXT")
    for sentence in (findings.because, *findings.cautions):
        expect(plain(sentence, 1000).rstrip(".") in text, f"{_WHAT}: it does not say {sentence!r}")
    for verdict in findings.verdicts:
        said = f"{plain(verdict.label)}: {'present' if verdict.present else 'absent'}, "
        said += "probability " if verdict.calibrated else "score "
        lines = text.count(said)
        expect(lines == 1 or len(findings.verdicts) > LINES_MAX, f"{_WHAT}: {lines} lines say {said!r}")


def _check_evidence(dataset: Dataset, source: Source, leaves: Sequence[Dataset]) -> None:
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
    ours = {(str(i.StudyInstanceUID), str(i.SeriesInstanceUID), str(i.SOPInstanceUID)) for i in leaves}
    expect(
        used == {instance for _, _, instance in listed},
        f"{_WHAT}: evidence and content refer to different instances",
    )
    expect(
        listed <= exist | ours, f"{_WHAT}: refers to an instance that is neither a source image nor our own"
    )
    expect(ours <= listed, f"{_WHAT}: does not refer to every other result of the same run")
