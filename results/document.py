"""
What the report and its drawable companion have in common: a measurement report (PS3.16 TID 1500) by a device.

Both say first who observed, and which procedure was looked at; then in plain words that nobody has verified
them, and what was found; then their groups; last the outcome in code. TID 1500, which is extensible, has a
place for the words only at its end; but viewers show a report from its top, and a reader should not have to
pass a hundred identifiers to learn that it is an AI's. **Preliminary Flag** is PRELIMINARY and Verification
Flag UNVERIFIED: a wet read is what comes before the report.
"""

from collections.abc import Sequence

import highdicom as hd
from pydicom import Dataset

from ledger.identifiers import Uid
from ledger.job import Outcome
from ledger.result import Role
from results import codes
from results.asked import Asked
from results.findings import Concept, Findings, Segment
from results.headers import result_headers
from results.measurements import Group
from results.observer import observation_context
from results.occupied import Drawn
from results.references import hierarchy, referenced_instances
from results.sentences import sentences
from results.words import DISCLAIMER, plain, series_description

OUTCOMES = {
    Outcome.FOUND: codes.ANALYSED,
    Outcome.NOTHING: codes.NOTHING_FOUND,
    Outcome.REFUSED: codes.NOT_ANALYSED,
}


def document(
    asked: Asked,
    role: Role,
    *,
    sop_class: Uid,
    title: Concept,
    groups: Sequence[Group],
    drawn: Sequence[Drawn],
    further: Sequence[hd.sr.ContainerContentItem] = (),
    variant: str = "",
) -> Dataset:
    """A report with `groups`, and `further` containers after them, without file meta information. `drawn` are
    the segments that have voxels.
    """
    dataset = result_headers(
        asked,
        role,
        sop_class=sop_class,
        series_description=series_description(asked, role),
        variant=variant,
    )
    # SR Document General (PS3.3 §C.17.2)
    dataset.CompletionFlag = "COMPLETE"
    dataset.CompletionFlagDescription = DISCLAIMER
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.ReferencedPerformedProcedureStepSequence = []  # Type 2
    dataset.PerformedProcedureCodeSequence = []  # Type 2

    root = hd.sr.MeasurementReport(
        observation_context=observation_context(asked.run.provenance),
        procedure_reported=codes.coded(codes.procedure_reported(str(asked.source.first.get("Modality", "")))),
        imaging_measurements=groups,
        title=codes.coded(title),
    )[0]
    for element in root:
        dataset.add(element)
    content = [*dataset.ContentSequence]
    first = next(n for n, item in enumerate(content) if item.RelationshipType == "CONTAINS")
    content[first:first] = _words(asked, drawn)
    dataset.ContentSequence = [*content, *further, _evaluations(asked, drawn)]
    _separate(dataset)
    return dataset


def finish(dataset: Dataset, asked: Asked, leaves: Sequence[Dataset] = ()) -> None:
    """Evidence (PS3.3 §C.17.2.3) and private coding schemes: exactly those that the content refers to."""
    source, study = asked.source, str(dataset.StudyInstanceUID)
    place = {str(one.SOPInstanceUID): (study, str(one.SeriesInstanceUID)) for one in source.datasets}
    place |= {str(one.SOPInstanceUID): (study, str(one.SeriesInstanceUID)) for one in leaves}
    for one in asked.findings.comparisons:
        for _, image in one.prior.images:
            place.setdefault(str(image), (str(one.prior.study), str(one.prior.series)))
    used: dict[str, set[tuple[str, str, str]]] = {study: set()}
    for sop_class, instance in referenced_instances(dataset):
        where, series = place[instance]
        used.setdefault(where, set()).add((series, instance, sop_class))
    dataset.CurrentRequestedProcedureEvidenceSequence = [hierarchy(study, sorted(used.pop(study)))]
    if used:
        dataset.PertinentOtherEvidenceSequence = [
            hierarchy(where, sorted(members)) for where, members in sorted(used.items())
        ]
    codes.identify_schemes(dataset, asked.run.provenance.schemes)


def _separate(item: Dataset) -> None:
    """Containers hold items, not running text (PS3.3 §C.18.8).

    highdicom calls them CONTINUOUS, and then a renderer may print values in a row without their names.
    """
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence", []):
        _separate(child)


def _evaluations(asked: Asked, drawn: Sequence[Drawn]) -> hd.sr.ContainerContentItem:
    """The outcome in code (TID 1500, rows 11 to 13; highdicom has no class for them)."""
    findings = asked.findings
    contains = hd.sr.RelationshipTypeValues.CONTAINS
    container = hd.sr.ContainerContentItem(
        name=codes.coded(codes.QUALITATIVE_EVALUATIONS), relationship_type=contains
    )
    items: list[hd.sr.ContentItem] = [
        hd.sr.CodeContentItem(
            codes.coded(codes.ANALYSIS_OUTCOME),
            codes.coded(OUTCOMES[findings.outcome]),
            relationship_type=contains,
        )
    ]
    for kind in dict.fromkeys(segment.kind for segment in _absent(findings, drawn)):
        if kind not in {item.segment.kind for item in drawn}:
            items.append(
                hd.sr.CodeContentItem(
                    codes.coded(kind), codes.coded(codes.ABSENT), relationship_type=contains
                )
            )
    container.ContentSequence = hd.sr.ContentSequence(items)
    return container


def _absent(findings: Findings, drawn: Sequence[Drawn]) -> list[Segment]:
    present = {item.segment.number for item in drawn}
    return [segment for segment in findings.segments if segment.number not in present]


def _words(asked: Asked, drawn: Sequence[Drawn]) -> list[hd.sr.ContentItem]:
    absent = [segment.label for segment in _absent(asked.findings, drawn)]
    texts = comments(asked.findings, absent, sentences(asked.findings, asked.source, drawn))
    name, contains = codes.coded(codes.COMMENT), hd.sr.RelationshipTypeValues.CONTAINS
    return [hd.sr.TextContentItem(name, text, relationship_type=contains) for text in texts]


def comments(findings: Findings, absent: Sequence[str] = (), lines: Sequence[str] = ()) -> list[str]:
    """Every sentence that a reader must see: the warning, the reason, what was found (`lines`), what is
    missing, the cautions.
    """
    texts = [DISCLAIMER, findings.because, *lines, *(f"Not found: {label}." for label in absent)]
    texts += [f"Caution: {caution}" for caution in findings.cautions]
    return [plain(text, 1024) for text in texts if text]
