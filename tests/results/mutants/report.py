"""What can be wrong with a report of the lungs: its numbers, what they are of, and who answers for it."""

from collections.abc import Iterator

from pydicom import Dataset

from ledger.result import Role
from results import codes
from results.content import walk
from results.expect import code_of
from tests.results.mutants.mutant import table
from tests.results.series import ROOT


def _items(sr: Dataset, concept: codes.Concept) -> Iterator[Dataset]:
    wanted = (concept.value, concept.scheme)
    return (item for item in walk(sr) if code_of(item, "ConceptNameCodeSequence") == wanted)


def other_value(sr: Dataset) -> None:
    measured = next(_items(sr, codes.PERC15)).MeasuredValueSequence[0]
    measured.NumericValue = float(measured.NumericValue) + 0.1


def other_unit(sr: Dataset) -> None:
    unit = next(_items(sr, codes.VOLUME)).MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
    unit.CodeValue = "L"


def swap_values(sr: Dataset) -> None:
    first, second = _items(sr, codes.VOLUME)
    first.MeasuredValueSequence, second.MeasuredValueSequence = (
        second.MeasuredValueSequence,
        first.MeasuredValueSequence,
    )


def no_value(sr: Dataset) -> None:
    for group in _items(sr, codes.MEASUREMENT_GROUP):
        group.ContentSequence = [i for i in group.ContentSequence if i.ValueType != "NUM"]


def no_group(sr: Dataset) -> None:
    container = next(_items(sr, codes.IMAGING_MEASUREMENTS))
    container.ContentSequence = container.ContentSequence[1:]


def wrong_side(sr: Dataset) -> None:
    for item in _items(sr, codes.LATERALITY):
        item.ConceptCodeSequence[0].CodeValue = codes.LEFT.value


def other_segment(sr: Dataset) -> None:
    next(_items(sr, codes.REFERENCED_SEGMENT)).ReferencedSOPSequence[0].ReferencedSegmentNumber = 2


def other_segmentation(sr: Dataset) -> None:
    for item in _items(sr, codes.REFERENCED_SEGMENT):
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "2.25.9"


def other_tracking_in_report(sr: Dataset) -> None:
    next(_items(sr, codes.TRACKING_UID)).UID = "2.25.8"


def verified(sr: Dataset) -> None:
    sr.VerificationFlag = "VERIFIED"


def too_much_evidence(sr: Dataset) -> None:
    extra = Dataset()
    extra.ReferencedSOPClassUID, extra.ReferencedSOPInstanceUID = sr.SOPClassUID, f"{ROOT}.3.2"
    sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence.append(
        extra
    )


def no_caution(sr: Dataset) -> None:
    for container in [sr, *(item for item in walk(sr) if item.ValueType == "CONTAINER")]:
        container.ContentSequence = [
            item for item in container.ContentSequence if "cut off" not in str(item.get("TextValue", ""))
        ]


def other_observer(sr: Dataset) -> None:
    next(_items(sr, codes.OBSERVER_UID)).UID = "2.25.7"


def replaces_something(sr: Dataset) -> None:
    study = sr.CurrentRequestedProcedureEvidenceSequence[0]
    sr.PredecessorDocumentsSequence = [study]


def other_version_in_report(sr: Dataset) -> None:
    next(_items(sr, codes.ALGORITHM_VERSION)).TextValue = "0.9"


def volume_off_by_one_percent(sr: Dataset) -> None:
    measured = next(_items(sr, codes.VOLUME)).MeasuredValueSequence[0]
    measured.NumericValue = f"{float(measured.NumericValue) * 1.01:.7g}"


def cubic_millimetres(sr: Dataset) -> None:
    unit = next(_items(sr, codes.VOLUME)).MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
    unit.CodeValue = "mm3"


def swap_tracking(sr: Dataset) -> None:
    first, second, *_ = _items(sr, codes.TRACKING_UID)
    first.UID, second.UID = second.UID, first.UID


def other_source_series(sr: Dataset) -> None:
    next(_items(sr, codes.SOURCE_SERIES)).UID = f"{ROOT}.22"


def final(sr: Dataset) -> None:
    sr.PreliminaryFlag = "FINAL"


def somebody_verified_it(sr: Dataset) -> None:
    observer = Dataset()
    observer.VerifyingObserverName = "Radiologist^Ruth"
    sr.VerifyingObserverSequence = [observer]


def too_little_evidence(sr: Dataset) -> None:
    study = sr.CurrentRequestedProcedureEvidenceSequence[0]
    study.ReferencedSeriesSequence = study.ReferencedSeriesSequence[:-1]


def evidence_of_another_study(sr: Dataset) -> None:
    sr.CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID = f"{ROOT}.8"


def nothing_was_found(sr: Dataset) -> None:
    for item in _items(sr, codes.ANALYSIS_OUTCOME):
        item.ConceptCodeSequence[0].CodeValue = codes.NOTHING_FOUND.value


def no_warning(sr: Dataset) -> None:
    for item in walk(sr):
        if item.ValueType == "TEXT" and "not verified" in item.TextValue:
            item.TextValue = "AI result."


def other_finding(sr: Dataset) -> None:
    next(_items(sr, codes.FINDING)).ConceptCodeSequence[0].CodeValue = "10200004"


def other_algorithm(sr: Dataset) -> None:
    next(_items(sr, codes.ALGORITHM_NAME)).TextValue = "liver_ct"


def a_group_twice(sr: Dataset) -> None:
    container = next(_items(sr, codes.IMAGING_MEASUREMENTS))
    container.ContentSequence = [*container.ContentSequence, container.ContentSequence[0]]


MUTANTS = table(
    Role.REPORT,
    "lungs",
    (volume_off_by_one_percent, "118565006 of 'Right lung' is .*, the model measured"),
    (cubic_millimetres, "'Right lung' has .*, the model measured"),
    (other_value, "PERC15 of 'Right lung' is .*, the model measured"),
    (other_unit, "'Right lung' has .*, the model measured"),
    (swap_values, "118565006 of 'Right lung' is .*, the model measured"),
    (no_value, "'Right lung' has .*, the model measured"),
    (no_group, "no values of"),
    (a_group_twice, "two groups have the Tracking UID"),
    (wrong_side, "'Right lung' is said to be at"),
    (other_finding, "'Right lung' is called"),
    (other_segment, "'Right lung' refers to"),
    (other_segmentation, "refer"),
    (other_source_series, "the source series is said to be"),
    (other_tracking_in_report, "which this run has not given"),
    (swap_tracking, "'(Left|Right) lung'"),
    (verified, "VerificationFlag is VERIFIED"),
    (final, "PreliminaryFlag is FINAL"),
    (somebody_verified_it, "names somebody who verified it"),
    (too_much_evidence, "evidence and content refer to different instances"),
    (too_little_evidence, "evidence and content refer to different instances"),
    (evidence_of_another_study, "neither a source image nor our own"),
    (no_caution, "it does not say"),
    (no_warning, "it does not say that nobody verified it"),
    (nothing_was_found, "the outcome is .*, the model said found"),
    (other_observer, "Device Observer UID is .*, the run's is"),
    (other_algorithm, "Algorithm Name is .*, the run's is"),
    (other_version_in_report, "Algorithm Version is .*, the run's is"),
    (replaces_something, "replaces .*, the run's predecessor is"),
)
