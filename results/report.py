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
from results.finding_groups import box_group, map_group, point_group, verdict_group
from results.findings import Findings
from results.frames import Drawn, drawn_segments
from results.grid import NotEncodable, grid_of
from results.headers import result_headers
from results.measurements import Group, segment_group, series_group
from results.observer import observation_context
from results.parametric_map import kept_maps
from results.provenance import Predecessor, Run
from results.references import hierarchy, referenced_instances
from results.sentences import sentences
from results.source import Source
from results.words import DISCLAIMER, long_string, plain, series_description

COMPREHENSIVE_3D_SR_STORAGE = Uid("1.2.840.10008.5.1.4.1.1.88.34")
SERIES_NUMBER = 9102

_OUTCOMES = {
    Outcome.FOUND: codes.ANALYSED,
    Outcome.NOTHING: codes.NOTHING_FOUND,
    Outcome.REFUSED: codes.NOT_ANALYSED,
}


def build_report(
    findings: Findings,
    source: Source,
    run: Run,
    segmentation: Dataset | None,
    maps: Sequence[Dataset] = (),
) -> Dataset:
    """The report, without file meta information.

    `segmentation` and `maps` are what `build_segmentation` and `build_maps` made of the same findings. Raises
    `NotEncodable` where the findings do not fit the source.
    """
    _check_labels(findings)
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
        imaging_measurements=_groups(findings, source, run, segmentation=segmentation, maps=maps),
        title=codes.coded(codes.TITLE),
    )[0]
    for element in root:
        dataset.add(element)
    dataset.ContentSequence.append(_evaluations(findings, drawn, sentences(findings, source)))
    _separate(dataset)
    leaves = [*([] if segmentation is None else [segmentation]), *maps]
    dataset.CurrentRequestedProcedureEvidenceSequence = _evidence(dataset, source, leaves)
    codes.identify_schemes(dataset, run.provenance.schemes)
    return dataset


def _check_labels(findings: Findings) -> None:
    for kind in (findings.boxes, findings.points, findings.verdicts, findings.maps):
        labels = [long_string(one.label) for one in kind]
        if len(set(labels)) < len(labels) or not all(labels):
            raise NotEncodable(
                f"two findings of the kind {type(kind[0]).__name__} have the same label, or one has none"
            )


def _separate(item: Dataset) -> None:
    """Containers hold items, not running text (PS3.3 §C.18.8).

    highdicom calls them CONTINUOUS, and then a renderer may print values in a row without their names.
    """
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence", []):
        _separate(child)


def _groups(
    findings: Findings, source: Source, run: Run, *, segmentation: Dataset | None, maps: Sequence[Dataset]
) -> list[Group]:
    """First what is said of the whole, then what lies somewhere."""
    groups: list[Group] = [verdict_group(verdict, source=source, run=run) for verdict in findings.verdicts]
    if findings.boxes or findings.points:
        grid = grid_of(source)
        groups += [box_group(box, grid=grid, run=run) for box in findings.boxes]
        groups += [point_group(point, grid=grid, run=run) for point in findings.points]
    if segmentation is not None:
        groups += [
            segment_group(item, source=source, run=run, segmentation=segmentation)
            for item in drawn_segments(findings)
        ]
    pairs = zip(kept_maps(findings, source), maps, strict=True)
    groups += [map_group(one, dataset, run=run) for one, dataset in pairs]
    if findings.measurements or not groups:
        groups.append(series_group(findings, _OUTCOMES[findings.outcome], source=source, run=run))
    return groups


def _evaluations(
    findings: Findings, drawn: Sequence[Drawn], lines: Sequence[str]
) -> hd.sr.ContainerContentItem:
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
    for text in comments(findings, [segment.label for segment in absent], lines):
        items.append(hd.sr.TextContentItem(codes.coded(codes.COMMENT), text, relationship_type=contains))
    container.ContentSequence = hd.sr.ContentSequence(items)
    return container


def comments(findings: Findings, absent: Sequence[str] = (), lines: Sequence[str] = ()) -> list[str]:
    """Every sentence that a reader must see: the warning, the reason, what was found (`lines`), what is
    missing, the cautions.
    """
    texts = [DISCLAIMER, findings.because, *lines, *(f"Not found: {label}." for label in absent)]
    texts += [f"Caution: {caution}" for caution in findings.cautions]
    return [plain(text, 1024) for text in texts if text]


def _evidence(dataset: Dataset, source: Source, leaves: Sequence[Dataset]) -> list[Dataset]:
    """Exactly what the content refers to, by study and series (PS3.3 §C.17.2.3)."""
    series_of = {str(image.SOPInstanceUID): str(image.SeriesInstanceUID) for image in source.datasets}
    series_of |= {str(leaf.SOPInstanceUID): str(leaf.SeriesInstanceUID) for leaf in leaves}
    used = sorted(
        {(series_of[instance], instance, sop_class) for sop_class, instance in referenced_instances(dataset)}
    )
    return [hierarchy(str(dataset.StudyInstanceUID), used)]


def _predecessor(report: Predecessor) -> Dataset:
    """The report that this one replaces (PS3.3 §C.17.2): a late image must not leave two that look alike."""
    named = (str(report.series), str(report.sop_instance), str(report.sop_class))
    return hierarchy(str(report.study), [named])
