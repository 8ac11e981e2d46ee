"""Earlier studies of a patient: the newest of the same person, and never another's."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt

from dicom_node.peers import PeerSettings
from dicom_node.prior_search import NoPatient, studies_of_patient
from dicom_node.priors import (
    Candidate,
    PatientFacts,
    Priors,
    another_patient,
    chosen,
    patient_of,
)
from dicom_node.query import STUDY_ROOT_FIND
from ledger.identifiers import AETitle, Uid
from tests.dicom_node.raw_peer import peer
from tests.patience import patient

CURRENT = Uid("1.2.840.1")
PATIENT = PatientFacts(patient_id="4711", issuer="HOSPITAL", born="19600229", name="Phantom^Chest")


def candidate(
    number: int, on: str, *, modalities: tuple[str, ...] = ("CT",), patient: PatientFacts = PATIENT
) -> Candidate:
    return Candidate(study=Uid(f"1.2.841.{number}"), on=on, modalities=frozenset(modalities), patient=patient)


def numbers(choice: tuple[Candidate, ...]) -> list[str]:
    return [str(each.study).rpartition(".")[2] for each in choice]


def priors(**terms: object) -> Priors:
    return Priors.model_validate({"peer": "archive", **terms})


def choose(candidates: list[Candidate], **terms: object) -> list[str]:
    return numbers(
        chosen(candidates, priors(**terms), current=CURRENT, on="20260301", patient=PATIENT).priors
    )


def test_the_newest_studies_before_the_current_one_are_priors() -> None:
    held = [
        candidate(1, "20240101"),
        candidate(2, "20260228"),
        candidate(3, "20250101"),
        candidate(4, "20260302"),
        Candidate(study=CURRENT, on="20260301", modalities=frozenset({"CT"}), patient=PATIENT),
    ]
    assert choose(held, number=2) == ["2", "3"]
    assert choose(held, number=9) == ["2", "3", "1"]
    assert choose(held, number=9, within_days=365) == ["2"]


def test_an_earlier_study_of_the_same_day_is_a_prior() -> None:
    assert choose([candidate(1, "20260301")]) == ["1"]


def test_only_studies_of_the_modality_are_priors_and_one_that_does_not_say_may_be_one() -> None:
    held = [
        candidate(1, "20250101", modalities=("MR", "SR")),
        candidate(2, "20240101", modalities=("CT", "SEG")),
        candidate(3, "20230101", modalities=()),
    ]
    assert choose(held, number=5, modality="ct") == ["2", "3"]
    assert choose(held, number=5) == ["1", "2", "3"]


@pytest.mark.parametrize("on", ["", "2025", "20251332", "tomorrow"])
def test_a_study_without_a_date_is_no_prior(on: str) -> None:
    assert choose([candidate(1, on)]) == []
    undated = chosen([candidate(1, "20250101")], priors(), current=CURRENT, on=on, patient=PATIENT)
    assert undated.priors == ()


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        (PATIENT, None),
        (PatientFacts(patient_id="4711", born="19600229"), None),
        (PatientFacts(patient_id="4711", born="19600229", name="Married^Anew"), None),
        (PatientFacts(patient_id="4711", name="PHANTOM^chest^^"), None),
        (PatientFacts(patient_id="4711", born="19610101", name="Phantom^Chest"), "another birth date"),
        (PatientFacts(patient_id="4711", issuer="CLINIC", born="19600229"), "issued by somebody else"),
        (PatientFacts(patient_id="4711", name="Other^One"), "another name"),
        (PatientFacts(patient_id="4711"), "neither birth date nor name"),
        (PatientFacts(patient_id="47110", born="19600229"), "another Patient ID"),
    ],
)
def test_a_patient_id_that_was_given_twice_never_mixes_two_patients(
    theirs: PatientFacts, words: str | None
) -> None:
    because = another_patient(PATIENT, theirs)
    assert because is None if words is None else words in (because or "")
    choice = chosen(
        [candidate(1, "20250101", patient=theirs)], priors(), current=CURRENT, on="20260301", patient=PATIENT
    )
    assert (len(choice.priors), choice.strangers) == ((1, 0) if words is None else (0, 1))


facts = st.builds(
    PatientFacts,
    patient_id=st.sampled_from(["1", "2"]),
    issuer=st.sampled_from(["", "A", "B"]),
    born=st.sampled_from(["", "19500101", "19600101"]),
    name=st.sampled_from(["", "X^Y", "Z^Y"]),
)


@given(facts, facts)
def test_who_is_the_same_is_so_from_both_sides_and_agrees_in_something_of_the_person(
    one: PatientFacts, other: PatientFacts
) -> None:
    assert (another_patient(one, other) is None) == (another_patient(other, one) is None)
    if another_patient(one, other) is None:
        assert one.patient_id == other.patient_id
        assert (one.born and one.born == other.born) or (one.name and one.name == other.name)


def test_headers_say_whose_an_image_is() -> None:
    headers = {"PatientID": "4711 ", "PatientBirthDate": "19600229", "PatientName": "A^B", "Modality": "CT"}
    assert patient_of(headers) == PatientFacts(patient_id="4711", born="19600229", name="A^B")


@contextmanager
def pacs(*studies: tuple[str, str, str], modalities: bool = True) -> Iterator[tuple[PeerSettings, list[str]]]:
    """A PACS with studies of one patient: (number, date, modality); what it is asked is noted."""
    asked: list[str] = []

    def on_find(event: evt.Event) -> object:
        question = event.identifier
        asked.append(question.QueryRetrieveLevel)
        for number, on, modality in studies:
            answer = Dataset()
            answer.StudyInstanceUID = f"1.2.841.{number}"
            if question.QueryRetrieveLevel == "SERIES":
                if question.StudyInstanceUID == answer.StudyInstanceUID:
                    answer.Modality, answer.SeriesInstanceUID = modality, f"1.2.841.{number}.1"
                    yield 0xFF00, answer
                continue
            answer.StudyDate, answer.PatientID, answer.PatientBirthDate = on, "4711", "19600229"
            answer.PatientName = "Phantom^Chest"
            if modalities:
                answer.ModalitiesInStudy = [modality, "SR"]
            yield 0xFF00, answer
        yield 0x0000, None

    ae = AE("ARCHIVE")
    ae.add_supported_context(str(STUDY_ROOT_FIND), ImplicitVRLittleEndian)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, on_find)])
    try:
        yield peer(server.server_address[1]), asked
    finally:
        server.shutdown()


@pytest.mark.parametrize("modalities", [True, False])
def test_a_pacs_that_does_not_say_modalities_is_asked_for_its_series(modalities: bool) -> None:
    held = [("1", "20250101", "CT"), ("2", "20240101", "MR")]
    with pacs(*held, modalities=modalities) as (archive, asked):
        found = studies_of_patient(
            archive, calling=AETitle("WETREAD"), patient=PATIENT, deadline_s=patient(10)
        )
    assert [(each.on, "CT" in each.modalities) for each in found] == [("20250101", True), ("20240101", False)]
    assert [each.patient.born for each in found] == ["19600229", "19600229"]
    assert asked == (["STUDY"] if modalities else ["STUDY", "SERIES", "SERIES"])


@pytest.mark.parametrize("patient_id", ["", "47*", "4?", "4\\5", "Größe"])
def test_a_patient_id_that_would_mean_others_too_is_not_asked_for(patient_id: str) -> None:
    with pacs() as (archive, asked), pytest.raises(NoPatient):
        studies_of_patient(
            archive,
            calling=AETitle("WETREAD"),
            patient=PatientFacts(patient_id=patient_id),
            deadline_s=patient(5),
        )
    assert asked == []
