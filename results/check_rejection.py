"""Does the rejection note on disk name exactly what is out of date, and nothing that counts?"""

from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from ledger.identifiers import Uid
from ledger.implementation import IMPLEMENTATION_CLASS_UID
from ledger.result import NewResult
from results import codes
from results.expect import CheckFailed, as_code, code_of, expect, expect_equipment
from results.findings import Concept
from results.identity import DESCRIBING, IDENTIFYING
from results.references import referenced_instances
from results.rejection import (
    FROM_THE_REPORT,
    KEY_OBJECT_SELECTION_DOCUMENT_STORAGE,
    description,
    observers,
)
from results.uids import rejection_uid

_WHAT = "rejection note"


def check_rejection(
    path: Path, report: Dataset, superseded: Sequence[NewResult], *, title: Concept, software_version: str
) -> None:
    """Raise `CheckFailed` unless the file rejects `superseded` in favour of `report`, and only that."""
    try:
        note = pydicom.dcmread(path)
        _check_headers(note, report, superseded, title, software_version)
        _check_content(note, report, superseded, title)
    except (OSError, InvalidDicomError, EOFError) as error:
        raise CheckFailed(f"the {_WHAT} cannot be read back from {path.name}: {error}") from error
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        # Not its message: it may quote a value of the patient's.
        raise CheckFailed(f"the {_WHAT} is not whole: {type(error).__name__}") from error


def _check_headers(
    note: Dataset, report: Dataset, superseded: Sequence[NewResult], title: Concept, software_version: str
) -> None:
    for keyword in (*IDENTIFYING, *DESCRIBING):
        same = (note.get(keyword) or None) == (report.get(keyword) or None)
        expect(same, f"{_WHAT}: {keyword} is not that of the newer report")
    for keyword in FROM_THE_REPORT:
        if keyword != "SoftwareVersions":
            same = note.get(keyword) == report.get(keyword)
            expect(same, f"{_WHAT}: {keyword} is not that of the newer report")
    expect_equipment(_WHAT, note)
    expect(note.Modality == "KO", f"{_WHAT}: Modality is {note.Modality}")
    sop_class = str(KEY_OBJECT_SELECTION_DOCUMENT_STORAGE)
    expect(note.SOPClassUID == sop_class, f"{_WHAT}: SOP Class UID is {note.SOPClassUID}")
    for keyword, level in (("SOPInstanceUID", "instance"), ("SeriesInstanceUID", "series")):
        meant = rejection_uid(
            level,
            title=title.value,
            report=Uid.parse(str(report.SOPInstanceUID)),
            rejected=[one.sop_instance for one in superseded],
            software_version=software_version,
        )
        expect(
            str(note[keyword].value) == str(meant), f"{_WHAT}: {keyword} does not derive from what it says"
        )
    meta = note.file_meta
    expect(
        meta.MediaStorageSOPInstanceUID == note.SOPInstanceUID
        and meta.MediaStorageSOPClassUID == note.SOPClassUID
        and meta.ImplementationClassUID == str(IMPLEMENTATION_CLASS_UID),
        f"{_WHAT}: file meta information is not about it, or not ours",
    )


def _check_content(note: Dataset, report: Dataset, superseded: Sequence[NewResult], title: Concept) -> None:
    said = code_of(note, "ConceptNameCodeSequence")
    expect(said == as_code(title), f"{_WHAT}: its title is {said}, meant was {as_code(title)}")
    context = [item for item in note.ContentSequence if item.RelationshipType == "HAS OBS CONTEXT"]
    expect(context == observers(report), f"{_WHAT}: another device observed than in the newer report")
    texts = [
        item.TextValue
        for item in note.ContentSequence
        if code_of(item, "ConceptNameCodeSequence") == as_code(codes.KEY_OBJECT_DESCRIPTION)
    ]
    expect(texts == [description(report)], f"{_WHAT}: it does not say what replaces what")

    named = sorted(referenced_instances(note))
    meant = sorted((str(one.sop_class), str(one.sop_instance)) for one in superseded)
    expect(named == meant and bool(meant), f"{_WHAT}: names {named}, out of date is {meant}")
    listed = sorted(
        (str(study.StudyInstanceUID), str(series.SeriesInstanceUID), str(item.ReferencedSOPInstanceUID))
        for study in note.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    )
    filed = sorted((str(one.study), str(one.series), str(one.sop_instance)) for one in superseded)
    expect(listed == filed, f"{_WHAT}: its evidence is {listed}, out of date is {filed}")
    ours = str(report.StudyInstanceUID)
    expect({str(one.study) for one in superseded} == {ours}, f"{_WHAT}: rejects something of another study")
    newer = {str(report.SOPInstanceUID), *(instance for _, instance in referenced_instances(report))}
    wrong = sorted(newer & {instance for _, instance in named})
    expect(not wrong, f"{_WHAT}: rejects {wrong}, which counts")
