"""A result is one SOP Instance that we made: its bytes are stored once and never made again.

A rejection note is one too: it has nothing to say of the patient, only of which earlier results to put away.
"""

from dataclasses import dataclass
from enum import StrEnum

from ledger.identifiers import Digest, JobId, ResultId, Uid


class Role(StrEnum):
    """What a result is for. The order of the members is the order of delivery: leaves before the root."""

    SEGMENTATION = "segmentation"  #: DICOM SEG (PS3.3 §A.51)
    PARAMETRIC_MAP = "parametric map"  #: a number for every voxel (PS3.3 §A.75); a run may have several
    MARKS = "marks"  #: what of the report can be drawn on the images, for viewers that draw (TID 1500)
    REPORT = "report"  #: Comprehensive 3D SR, TID 1500: the root that refers to all the others
    #: The same as Comprehensive or Enhanced SR, for those who refuse it as it is
    OLDER_REPORT = "older report"
    REJECTION_NOTE = (
        "rejection note"  #: Key Object Selection (IHE IOCM): which earlier results are out of date
    )

    @property
    def is_root(self) -> bool:
        """Whether everything else of the run is reached by reference from this one (IHE AIR)."""
        return self in (Role.REPORT, Role.OLDER_REPORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewResult:
    """A result whose file already lies, synced, in the spool."""

    role: Role
    sop_class: Uid
    sop_instance: Uid
    study: Uid
    series: Uid
    transfer_syntax: Uid
    digest: Digest  #: of the whole file
    size: int
    path: str  #: relative to the spool


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRecord(NewResult):
    """A result as the ledger knows it."""

    id: ResultId
    job_id: JobId
    created_at: float
