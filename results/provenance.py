"""
Which model made this: the same values everywhere they are said.

IHE AI Results (AIR Rev 1.3, Vol 3 §6.5.3.1) asks for Contributing Equipment with Device UID in every
result, and that SR observer, TID 4019 and Algorithm Identification agree with it. So they are all written
from this one value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from ledger.completeness import Shortfall
from ledger.identifiers import Digest, Uid
from ledger.result import NewResult
from results.findings import CodingScheme

MANUFACTURER = "Wetread"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The algorithm that made a result."""

    name: str  #: Manufacturer's Model Name, Algorithm Name (111001)
    version: str  #: Software Versions, Algorithm Version (111003)
    device_uid: Uid  #: a pure function of weights and code: it changes when the model changes
    source: str = MANUFACTURER  #: Manufacturer, Algorithm Source
    weights_digest: Digest | None = None  #: None: a method without weights
    code_digest: Digest | None  #: None: the model was not opened, for its run was given up
    settings: Mapping[str, object] = field(default_factory=dict)
    trust: str = ""  #: who vouches for it, in words; empty: it came with Wetread
    card_url: str = ""  #: where the model's card is kept: its address, or the file beside the model
    schemes: tuple[CodingScheme, ...] = ()  #: of the model's own private codes

    @property
    def identity(self) -> str:
        """`name@version`, as rules and the ledger write it."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """The report that this run's report replaces: the same rule looked at fewer images of the series."""

    study: Uid
    series: Uid
    sop_class: Uid
    sop_instance: Uid

    @classmethod
    def of(cls, report: NewResult) -> Self:
        """The same of a result."""
        return cls(
            study=report.study,
            series=report.series,
            sop_class=report.sop_class,
            sop_instance=report.sop_instance,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of one model on one input set: everything in a result that is not a finding or an image.

    All times in a result are `at`: when the last of its inputs was received, so that whoever makes it again,
    for whatever reason, makes the same bytes.
    """

    provenance: Provenance
    series: Uid  #: Series Instance UID of the images
    inputs: tuple[Uid, ...]  #: SOP Instance UIDs of the whole input set
    at: datetime  #: with time zone
    software_version: str  #: of Wetread itself
    predecessor: Predecessor | None = None
    shortfall: Shortfall | None = None  #: what was missing of the study: the findings caution about it
    image: Uid | None = None  #: SOP Instance UID, where the run looked at one image that is no volume
    again: int = 0  #: how many runs of the same on the same were asked for before: each has UIDs of its own

    def __post_init__(self) -> None:
        if self.at.tzinfo is None:
            raise ValueError("a run's time needs a time zone")
