"""
Findings → Comprehensive 3D SR (PS3.3 §A.35.13) with TID 1500 as root: the document that everything else hangs
on.

Every run makes one, also a run that found nothing or refused: silence could not be told from "not processed".

**The title** is (126001, DCM, Oncology Measurement Report), though few of our reports are about tumours. TID
1500 has four titles (CID 7021), and OHIF (3.13.2, tried with these very reports) takes the first of them,
126000, to mean "draw the findings on the images". Findings that are segments leave its viewport black; with a
box on a slice added to each it shows a mean and an area of the box that it computed itself, where a reader
expects ours; and a report without any finding stops the viewer with an error. Under each of the other titles
it shows the report as text with every value and sentence. 126002 and 126003 would claim a modality, so this
one is the least wrong. What was done is said by Procedure Reported and the algorithm, never by the title; a
change of heart is a change of `codes.TITLE`.

**Preliminary Flag** is PRELIMINARY and Verification Flag UNVERIFIED: a wet read is what comes before the
report.
"""

from collections.abc import Sequence

import highdicom as hd
from pydicom import Dataset

from ledger.identifiers import Uid
from ledger.job import Outcome
from ledger.result import Role
from results import codes
from results.findings import Findings
from results.frames import Drawn, drawn_segments
from results.headers import result_headers
from results.measurements import Group, segment_group, series_group
from results.observer import observation_context
from results.provenance import Predecessor, Run
from results.references import hierarchy, referenced_instances
from results.source import Source
from results.words import DISCLAIMER, plain, series_description

COMPREHENSIVE_3D_SR_STORAGE = Uid("1.2.840.10008.5.1.4.1.1.88.34")
SERIES_NUMBER = 9102

_OUTCOMES = {
    Outcome.FOUND: codes.ANALYSED,
    Outcome.NOTHING: codes.NOTHING_FOUND,
    Outcome.REFUSED: codes.NOT_ANALYSED,
}


def build_report(findings: Findings, source: Source, run: Run, segmentation: Dataset | None) -> Dataset:
    """The report, without file meta information.

    `segmentation` is what `build_segmentation` made of the same findings.
    """
    dataset = result_headers(
        source,
        run,
        role=Role.REPORT,
        sop_class=COMPREHENSIVE_3D_SR_STORAGE,
        modality="SR",
        series_number=SERIES_NUMBER,
        series_description=series_description(run, findings, "report"),
    )
    # SR Document General (PS3.3 §C.17.2)
    dataset.CompletionFlag = "COMPLETE"
    dataset.CompletionFlagDescription = DISCLAIMER
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.ReferencedPerformedProcedureStepSequence = []  # Type 2
    dataset.PerformedProcedureCodeSequence = []  # Type 2
    if run.predecessor is not None:
        dataset.PredecessorDocumentsSequence = [_predecessor(run.predecessor)]

    drawn = drawn_segments(findings) if segmentation is not None else ()
    root = hd.sr.MeasurementReport(
        observation_context=observation_context(run.provenance),
        procedure_reported=codes.coded(codes.procedure_reported(str(source.first.get("Modality", "")))),
        imaging_measurements=_groups(findings, drawn, source, run, segmentation),
        title=codes.coded(codes.TITLE),
    )[0]
    for element in root:
        dataset.add(element)
    dataset.ContentSequence.append(_evaluations(findings, drawn))
    _separate(dataset)
    dataset.CurrentRequestedProcedureEvidenceSequence = _evidence(dataset, source, segmentation)
    schemes = codes.coding_schemes(dataset)
    if schemes:
        dataset.CodingSchemeIdentificationSequence = schemes
    return dataset


def _separate(item: Dataset) -> None:
    """Containers hold items, not running text (PS3.3 §C.18.8).

    highdicom calls them CONTINUOUS, and then a renderer may print values in a row without their names.
    """
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence", []):
        _separate(child)


def _groups(
    findings: Findings, drawn: Sequence[Drawn], source: Source, run: Run, segmentation: Dataset | None
) -> list[Group]:
    groups: list[Group] = []
    if segmentation is not None:
        groups += [segment_group(item, source=source, run=run, segmentation=segmentation) for item in drawn]
    if findings.measurements or not groups:
        groups.append(series_group(findings, _OUTCOMES[findings.outcome], source=source, run=run))
    return groups


def _evaluations(findings: Findings, drawn: Sequence[Drawn]) -> hd.sr.ContainerContentItem:
    """The outcome in code and in words (TID 1500, rows 11 to 13; highdicom has no class for them)."""
    contains = hd.sr.RelationshipTypeValues.CONTAINS
    container = hd.sr.ContainerContentItem(
        name=codes.coded(codes.QUALITATIVE_EVALUATIONS), relationship_type=contains
    )
    items: list[hd.sr.ContentItem] = [
        hd.sr.CodeContentItem(
            codes.coded(codes.ANALYSIS_OUTCOME),
            codes.coded(_OUTCOMES[findings.outcome]),
            relationship_type=contains,
        )
    ]
    present = {item.segment.number for item in drawn}
    absent = [segment for segment in findings.segments if segment.number not in present]
    for kind in dict.fromkeys(segment.kind for segment in absent):
        if kind not in {item.segment.kind for item in drawn}:
            items.append(
                hd.sr.CodeContentItem(
                    codes.coded(kind), codes.coded(codes.ABSENT), relationship_type=contains
                )
            )
    for text in comments(findings, [segment.label for segment in absent]):
        items.append(hd.sr.TextContentItem(codes.coded(codes.COMMENT), text, relationship_type=contains))
    container.ContentSequence = hd.sr.ContentSequence(items)
    return container


def comments(findings: Findings, absent: Sequence[str] = ()) -> list[str]:
    """Every sentence that a reader must see: the warning, the reason, what is missing, the cautions."""
    texts = [DISCLAIMER, findings.because, *(f"Not found: {label}." for label in absent)]
    texts += [f"Caution: {caution}" for caution in findings.cautions]
    return [plain(text, 1024) for text in texts if text]


def _evidence(dataset: Dataset, source: Source, segmentation: Dataset | None) -> list[Dataset]:
    """Exactly what the content refers to, by study and series (PS3.3 §C.17.2.3)."""
    series_of = {str(image.SOPInstanceUID): str(image.SeriesInstanceUID) for image in source.datasets}
    if segmentation is not None:
        series_of[str(segmentation.SOPInstanceUID)] = str(segmentation.SeriesInstanceUID)
    used = sorted(
        {(series_of[instance], instance, sop_class) for sop_class, instance in referenced_instances(dataset)}
    )
    return [hierarchy(str(dataset.StudyInstanceUID), used)]


def _predecessor(report: Predecessor) -> Dataset:
    """The report that this one replaces (PS3.3 §C.17.2): a late image must not leave two that look alike."""
    named = (str(report.series), str(report.sop_instance), str(report.sop_class))
    return hierarchy(str(report.study), [named])
