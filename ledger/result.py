"""A result is one SOP Instance that we made: its bytes are stored once and never made again.

A rejection note is one too: it has nothing to say of the patient, only of which earlier results to put away.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from ledger.identifiers import Digest, JobId, ResultId, Uid


class Role(StrEnum):
    """What a result is for. The order of the members is the order of making and of delivery: what others
    refer to first, leaves before the root.
    """

    SEGMENTATION = "segmentation"  #: DICOM SEG (PS3.3 §A.51), or Label Map Segmentation; perhaps in parts
    PARAMETRIC_MAP = "parametric map"  #: a number for every voxel (PS3.3 §A.75); a run may have several
    STRUCTURE_SET = "structure set"  #: RT Structure Set (PS3.3 §A.19): the segments as contours
    PRESENTATION = (
        "presentation state"  #: Grayscale Softcopy Presentation State (PS3.3 §A.33.1): marks to draw
    )
    BLENDING = "blending"  #: Advanced Blending Presentation State (PS3.3 §A.33.7): a map over its images
    OVERLAY = "overlay"  #: Secondary Capture in colour: the images with what was found painted on them
    SUMMARY = "summary"  #: Secondary Capture of one page that says it all
    DOCUMENT = "document"  #: Encapsulated PDF (PS3.3 §A.45.1): the same to print
    KEY_IMAGES = "key images"  #: Key Object Selection (PS3.3 §A.35.4): the images to look at
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

    @property
    def modality(self) -> str:
        """Modality (0008,0060) of such an object (PS3.3 §C.7.3.1.1.1)."""
        return _MODALITY[self]


_MODALITY = {
    Role.SEGMENTATION: "SEG",
    Role.PARAMETRIC_MAP: "OT",  # PS3.3 §C.8.32.1 leaves it open; it is no modality's own image
    Role.STRUCTURE_SET: "RTSTRUCT",
    Role.PRESENTATION: "PR",
    Role.BLENDING: "PR",
    Role.OVERLAY: "OT",
    Role.SUMMARY: "OT",
    Role.DOCUMENT: "DOC",
    Role.KEY_IMAGES: "KO",
    Role.MARKS: "SR",
    Role.REPORT: "SR",
    Role.OLDER_REPORT: "SR",
    Role.REJECTION_NOTE: "KO",
}


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
    #: The destinations that it is for; None: every destination of its job.
    peers: tuple[str, ...] | None = None
    instead_of: ResultId | None = None  #: what it was made of, for those who refuse that

    def is_for(self, peer: str) -> bool:
        """Whether it was made for `peer`."""
        return self.peers is None or peer in self.peers


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRecord(NewResult):
    """A result as the ledger knows it."""

    id: ResultId
    job_id: JobId
    created_at: float


_Result = TypeVar("_Result", bound=NewResult)


def of_one_plan(results: Sequence[_Result]) -> list[_Result]:
    """Of what a run made in several forms, for several destinations, one: what lies here to be looked at.

    It is what the first destination gets, without what was only made because somebody refused something; and
    of several reports the last of `results`: those before it only say that the run was given up.
    """
    first = next((one.peers[0] for one in results if one.peers), None)
    chosen = [one for one in results if one.instead_of is None and (first is None or one.is_for(first))]
    report = next((one for one in reversed(chosen) if one.role is Role.REPORT), None)
    return [one for one in chosen if one.role is not Role.REPORT or one is report]
