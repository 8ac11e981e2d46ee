"""Which earlier studies of a patient are wanted, and whether they are of the same patient at all.

A Patient ID is unique within one hospital at one time, if at all: numbers are given again, and two hospitals
give the same one. A study of another patient beside this one is the worst that can come of it. So a study is
a prior only where issuer and birth date do not contradict and at least the birth date or the name agrees.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from ledger.identifiers import Uid


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _upper(values: frozenset[str]) -> frozenset[str]:
    return frozenset(value.strip().upper() for value in values)


class Priors(BaseModel, frozen=True, extra="forbid"):
    """Which earlier studies of the patient are fetched. None of them is analysed by itself."""

    peer: str = Field(min_length=1)  # Name of the [[peer]] that has them; it needs `retrieve`.
    number: int = Field(default=1, ge=1, le=20)  # The newest so many.
    within_days: int = Field(default=1825, ge=1)  # Older ones are of no use.
    # Studies that have at least one series of these modalities; none means any.
    modality: Annotated[frozenset[str], BeforeValidator(_several), AfterValidator(_upper)] = frozenset()

    # How long a job waits for them at most, for a model of timelines: then it is begun with what is here, and
    # its findings say so. 0: it does not wait and is not given any; they are here for readers only.
    wait_s: float = Field(default=0, ge=0, le=86_400)

    def terms(self) -> dict[str, object]:
        """As the ledger keeps them."""
        return {
            "number": self.number,
            "within_days": self.within_days,
            "modality": sorted(self.modality),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientFacts:
    """What a study says of whose it is: text as in the headers, "" where it is not given."""

    patient_id: str
    issuer: str = ""
    born: str = ""  #: Patient's Birth Date (0010,0030), YYYYMMDD
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A study that the PACS has under the same Patient ID."""

    study: Uid
    on: str  #: Study Date (0008,0020), YYYYMMDD
    modalities: frozenset[str]  #: empty: the PACS does not say
    patient: PatientFacts


@dataclass(frozen=True, slots=True)
class Choice:
    """Which priors are wanted, and how many studies were left out because they may be another patient's."""

    priors: tuple[Candidate, ...]
    strangers: int


def patient_of(headers: Mapping[str, str]) -> PatientFacts:
    """Whose an instance with these headers is."""

    def text(keyword: str) -> str:
        return headers.get(keyword, "").strip(" \0")

    return PatientFacts(
        patient_id=text("PatientID"),
        issuer=text("IssuerOfPatientID"),
        born=text("PatientBirthDate"),
        name=text("PatientName"),
    )


def another_patient(ours: PatientFacts, theirs: PatientFacts) -> str | None:
    """Why the two may be different patients, in words without values; None where they are the same one."""
    if ours.patient_id != theirs.patient_id:
        return "another Patient ID"
    if ours.issuer and theirs.issuer and ours.issuer != theirs.issuer:
        return "the Patient ID was issued by somebody else"
    if ours.born and theirs.born:
        return None if ours.born == theirs.born else "another birth date"
    if not ours.name or not theirs.name:
        return "neither birth date nor name are known on both sides"
    return None if _plain(ours.name) == _plain(theirs.name) else "another name, and no birth date to compare"


def chosen(
    candidates: Iterable[Candidate], wanted: Priors, *, current: Uid, on: str, patient: PatientFacts
) -> Choice:
    """The priors of a study that was made on the day `on` (YYYYMMDD), the newest first.

    A study without a date is no prior: nobody could say that it is earlier. One that does not say its
    modalities is taken, for it may be one.
    """
    day = _day(on)
    mine: list[Candidate] = []
    strangers = 0
    for each in candidates:
        then = _day(each.on)
        if each.study == current or then is None or day is None or then > day:
            continue
        if day - then > timedelta(days=wanted.within_days):
            continue
        if wanted.modality and each.modalities and not wanted.modality & each.modalities:
            continue
        if another_patient(patient, each.patient) is not None:
            strangers += 1
            continue
        mine.append(each)
    mine.sort(key=lambda each: (each.on, each.study), reverse=True)
    return Choice(tuple(mine[: wanted.number]), strangers)


def _plain(name: str) -> str:
    """A person name as it is compared: without case, and without empty components at the end."""
    return name.split("=", maxsplit=1)[0].rstrip("^ ").casefold()


def _day(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8])) if len(text) == 8 else None
    except ValueError:
        return None
