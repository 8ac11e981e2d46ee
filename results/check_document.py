"""Is a report of a run whole: whose it is, that nobody verified it, who observed, what it is about?"""

from collections.abc import Callable, Mapping, Sequence

from pydicom import Dataset

from ledger.identifiers import Uid
from ledger.job import Outcome
from ledger.result import Role
from results import codes, observer
from results.asked import Asked
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
from results.findings import Concept, Findings
from results.provenance import Predecessor, Run
from results.sentences import LINES_MAX, comparison_line, grade_line, recommendation_line
from results.words import plain

_OUTCOMES = {
    Outcome.FOUND: codes.ANALYSED,
    Outcome.NOTHING: codes.NOTHING_FOUND,
    Outcome.REFUSED: codes.NOT_ANALYSED,
}

#: Told a measurement group, raises `CheckFailed` unless it says what was found.
Check = Callable[[Dataset], None]


def check_document(what: str, dataset: Dataset, asked: Asked, role: Role, variant: str = "") -> None:
    """Everything around the groups. Raises `CheckFailed`."""
    expect_identity(what, dataset, asked.source)
    expect_uids(what, dataset, asked, role, variant)
    expect_provenance(what, dataset, asked.run)
    expect_equipment(what, dataset)
    expect(dataset.Modality == "SR", f"{what}: Modality is {dataset.Modality}")
    for keyword, meant in (
        ("VerificationFlag", "UNVERIFIED"),
        ("PreliminaryFlag", "PRELIMINARY"),
        ("CompletionFlag", "COMPLETE"),
    ):
        expect(dataset.get(keyword) == meant, f"{what}: {keyword} is {dataset.get(keyword)}")
    expect("VerifyingObserverSequence" not in dataset, f"{what}: names somebody who verified it")
    languages = [
        code_of(item, "ConceptCodeSequence")
        for item in dataset.ContentSequence
        if name_of(item) == as_code(codes.LANGUAGE)
    ]
    expect(len(languages) == 1, f"{what}: it is written in {languages}")
    _check_observer(what, dataset, asked.run)
    _check_words(what, dataset, asked.findings)


def check_groups(
    what: str, dataset: Dataset, checks: Mapping[str, tuple[str, Check]], run: Run, *, may: Sequence[str] = ()
) -> None:
    """Every group is one of `checks` (by Tracking UID: its label, and what it has to be), and none is
    missing but those of `may`. Raises `CheckFailed`.
    """
    valued: set[str] = set()
    for group in (item for item in walk(dataset) if name_of(item) == as_code(codes.MEASUREMENT_GROUP)):
        tracking = uid_named(group, codes.TRACKING_UID)
        expect(tracking not in valued, f"{what}: two groups have the Tracking UID {tracking}")
        valued.add(tracking)
        if tracking not in checks:
            raise CheckFailed(
                f"{what}: a group has the Tracking UID {tracking}, which this run has not given"
            )
        checks[tracking][1](group)
        _check_algorithm(what, group, run)
    missing = [label for uid, (label, _) in checks.items() if uid not in valued and uid not in may]
    expect(not missing, f"{what}: no values of {missing}")


def check_evidence(what: str, dataset: Dataset, asked: Asked, leaves: Sequence[Dataset]) -> None:
    """Evidence is what the content refers to, no more and no less; all of it exists, and all `leaves` are
    among it. Raises `CheckFailed`.
    """
    used = {
        str(reference.ReferencedSOPInstanceUID)
        for item in walk(dataset)
        for reference in item.get("ReferencedSOPSequence", [])
    }
    listed = _listed(dataset.get("CurrentRequestedProcedureEvidenceSequence", []))
    other = _listed(dataset.get("PertinentOtherEvidenceSequence", []))
    expect(
        used == {instance for _, _, instance in listed | other},
        f"{what}: evidence and content refer to different instances",
    )
    exist = {_place(image) for image in asked.source.datasets}
    ours = {_place(leaf) for leaf in leaves}
    study = str(asked.source.first.StudyInstanceUID)
    priors = {
        (str(one.prior.study), str(one.prior.series), str(image))
        for one in asked.findings.comparisons
        for _, image in one.prior.images
    }
    here = exist | ours | {place for place in priors if place[0] == study}
    expect(listed <= here, f"{what}: refers to an instance that is neither a source image nor our own")
    expect(ours <= listed, f"{what}: does not refer to every other result of the same run")
    expect(
        other <= {place for place in priors if place[0] != study},
        f"{what}: refers to an instance of another study that nothing was compared with",
    )


def check_predecessor(what: str, dataset: Dataset, meant: Predecessor | None) -> None:
    """It follows `meant`, or none. Raises `CheckFailed`."""
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
    expected = [] if meant is None else [meant]
    expect(said == expected, f"{what}: replaces {said}, the run's predecessor is {expected}")


def _listed(studies: Sequence[Dataset]) -> set[tuple[str, str, str]]:
    return {
        (str(study.StudyInstanceUID), str(series.SeriesInstanceUID), str(item.ReferencedSOPInstanceUID))
        for study in studies
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def _place(one: Dataset) -> tuple[str, str, str]:
    return str(one.StudyInstanceUID), str(one.SeriesInstanceUID), str(one.SOPInstanceUID)


def _check_observer(what: str, dataset: Dataset, run: Run) -> None:
    provenance = run.provenance
    for concept, meant in (
        (codes.OBSERVER_UID, str(provenance.device_uid)),
        (codes.OBSERVER_MANUFACTURER, observer.source_name(provenance)),
        (codes.OBSERVER_MODEL, observer.algorithm_name(provenance)),
    ):
        _expect_text(what, dataset.ContentSequence, concept, meant)


def _check_algorithm(what: str, group: Dataset, run: Run) -> None:
    provenance = run.provenance
    for concept, meant in (
        (codes.ALGORITHM_NAME, observer.algorithm_name(provenance)),
        (codes.ALGORITHM_VERSION, observer.algorithm_version(provenance)),
    ):
        _expect_text(what, [*walk(group)], concept, meant)


def _expect_text(what: str, items: Sequence[Dataset], concept: Concept, meant: str) -> None:
    said = [text_of(item) for item in items if name_of(item) == as_code(concept)]
    expect(said == [meant], f"{what}: {concept.meaning} is {said}, the run's is {meant!r}")


def _check_words(what: str, dataset: Dataset, findings: Findings) -> None:
    outcomes = {
        code_of(i, "ConceptCodeSequence")
        for i in walk(dataset)
        if name_of(i) == as_code(codes.ANALYSIS_OUTCOME)
    }
    meant = {as_code(_OUTCOMES[findings.outcome])}
    expect(outcomes == meant, f"{what}: the outcome is {outcomes}, the model said {findings.outcome}")
    texts = [text_of(item) for item in walk(dataset) if item.ValueType == "TEXT"]
    text = "\n".join(texts)
    expect("not verified" in text, f"{what}: it does not say that nobody verified it")
    for sentence in (findings.because, *findings.cautions):
        expect(plain(sentence, 1000).rstrip(".") in text, f"{what}: it does not say {sentence!r}")
    said = [grade_line(one) for one in findings.grades]
    said += [recommendation_line(one) for one in findings.recommendations]
    said += [comparison_line(one) for one in findings.comparisons]
    cut = len(findings.verdicts) + len(said) > LINES_MAX
    for sentence in said:
        expect(cut or plain(sentence, 1024) in texts, f"{what}: it does not say {sentence!r}")
    for verdict in findings.verdicts:
        word = "unsure" if verdict.unsure else "present" if verdict.present else "absent"
        begins = f"{plain(verdict.label)}: {word}, "
        begins += "probability " if verdict.calibrated else "score "
        lines = text.count(begins)
        expect(cut or lines == 1, f"{what}: {lines} lines say {begins!r}")
