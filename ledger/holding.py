"""What this site can give out: studies with everything in them that was received or made.

A result belongs to the study that it was made of, so it is held there beside the images.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ledger.identifiers import StudyId, Uid


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFilter:
    """Which studies are asked for; None: any. Patterns are those of PS3.4 §C.2.2.2.4: `*` and `?`."""

    studies: tuple[Uid, ...] | None = None
    patient_id: str | None = None
    patient_name: str | None = None  #: without regard to case
    accession_number: str | None = None
    study_dates: tuple[str, str] | None = None  #: first and last day as YYYYMMDD; "" is an open end

    def takes(self, patient_id: str, patient_name: str, accession_number: str) -> bool:
        """Whether a study with these values matches the patterns: databases differ about case."""
        return (
            (self.patient_id is None or fits(self.patient_id, patient_id))
            and (self.patient_name is None or name_fits(self.patient_name, patient_name))
            and (self.accession_number is None or fits(self.accession_number, accession_number))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldInstance:
    """One instance that lies in the spool."""

    sop_instance: Uid
    sop_class: Uid
    transfer_syntax: Uid
    path: str  #: relative to the spool
    size: int  #: of the data set where it was received, of the file where it was made
    instance_number: int | None
    frames: int
    made: bool  #: by us


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSeries:
    """One series. `headers` are those of its first instance; empty for a series that we made."""

    series: Uid
    modality: str
    headers: Mapping[str, str]
    count: int  #: of instances
    instances: tuple[HeldInstance, ...]  #: empty where only the count was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldStudy:
    """One study with all that is held of it."""

    id: StudyId
    study: Uid
    patient_id: str
    patient_name: str
    accession_number: str
    study_date: str
    description: str
    series: tuple[HeldSeries, ...]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities in Study (0008,0061)."""
        return tuple(sorted({series.modality for series in self.series if series.modality}))


def fits(pattern: str, value: str) -> bool:
    """Whether the whole `value` is what `pattern` describes (PS3.4 §C.2.2.2.4): `*` is any text, `?` any
    character. The work is bounded by the product of their lengths.
    """
    p = v = 0
    star, resume = -1, 0
    while v < len(value):
        if p < len(pattern) and pattern[p] == "*":
            star, resume, p = p, v, p + 1
        elif p < len(pattern) and pattern[p] in ("?", value[v]):
            p, v = p + 1, v + 1
        elif star >= 0:  # Let the last star take one character more.
            resume += 1
            p, v = star + 1, resume
        else:
            return False
    return not pattern[p:].strip("*")


def name_fits(pattern: str, name: str) -> bool:
    """Whether any of the component groups of the person name `name` (PS3.5 §6.2.1.1: alphabetic, ideographic,
    phonetic) is what `pattern` describes, without regard to case and to empty components at the end.
    """
    wanted = pattern.casefold().rstrip("^=")
    groups = [name, *name.split("=")]
    return any(fits(wanted, group.casefold().rstrip("^=")) for group in groups)
