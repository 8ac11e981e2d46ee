"""Which studies does a PACS have of a patient? C-FIND by Patient ID, at study root (PS3.4 §C.6.2.1)."""

from collections.abc import Sequence

from dicom_node.peers import PeerSettings
from dicom_node.priors import Candidate, PatientFacts
from dicom_node.query import Match, Query, text_in, uid_in
from ledger.errors import StudyError
from ledger.identifiers import AETitle, Uid

_STUDY, _MODALITY = (0x0020, 0x000D), (0x0008, 0x0060)
_DATE, _MODALITIES = (0x0008, 0x0020), (0x0008, 0x0061)
_NAME, _ID, _ISSUER, _BORN = (0x0010, 0x0010), (0x0010, 0x0020), (0x0010, 0x0021), (0x0010, 0x0030)
_WILD = frozenset("*?\\")


class NoPatient(StudyError):
    """The study does not say whose it is, or not so that a PACS could be asked about the patient."""


def studies_of_patient(
    peer: PeerSettings, *, calling: AETitle, patient: PatientFacts, deadline_s: float
) -> list[Candidate]:
    """All studies that `peer` has under the patient's ID.

    Raises `NoPatient`, `dicom_node.query.QueryRefused`, or another `PeerError`.
    """
    check_askable(patient)
    keys: dict[tuple[int, int], Uid | str] = {
        _ID: patient.patient_id,
        **dict.fromkeys((_STUDY, _DATE, _MODALITIES, _NAME, _ISSUER, _BORN), ""),
    }
    with Query.to(peer, calling=calling, deadline_s=deadline_s) as query:
        found = [each for match in query.find("STUDY", keys) if (each := _candidate(match)) is not None]
        unsaid = [each.study for each in found if not each.modalities]
        said = {study: _modalities(query, study) for study in unsaid}
    return [
        Candidate(
            study=each.study,
            on=each.on,
            modalities=each.modalities or said[each.study],
            patient=each.patient,
        )
        for each in found
    ]


def check_askable(patient: PatientFacts) -> None:
    """Raise `NoPatient` where no archive could be asked about exactly this patient."""
    if not patient.patient_id:
        raise NoPatient("it has no Patient ID: no PACS can be asked for earlier studies")
    if not patient.patient_id.isascii() or _WILD & set(patient.patient_id):
        raise NoPatient("its Patient ID has characters that cannot be asked for without meaning others, too")


def _candidate(match: Match) -> Candidate | None:
    study = uid_in(match, *_STUDY)
    if study is None:
        return None
    return Candidate(
        study=study,
        on=text_in(match, *_DATE),
        modalities=words(text_in(match, *_MODALITIES).split("\\")),
        patient=PatientFacts(
            patient_id=text_in(match, *_ID),
            issuer=text_in(match, *_ISSUER),
            born=text_in(match, *_BORN),
            name=text_in(match, *_NAME),
        ),
    )


def _modalities(query: Query, study: Uid) -> frozenset[str]:
    """Modalities in Study (0008,0061) is optional for an archive; Modality of a series is not."""
    matches = query.find("SERIES", {_STUDY: study, (0x0020, 0x000E): "", _MODALITY: ""})
    mine = (match for match in matches if uid_in(match, *_STUDY) in (study, None))
    return words([text_in(match, *_MODALITY) for match in mine])


def words(values: Sequence[str]) -> frozenset[str]:
    """Values of CS, each once, without those that say nothing."""
    return frozenset(value.strip().upper() for value in values if value.strip())
