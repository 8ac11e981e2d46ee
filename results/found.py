"""What the check of the segmentations found in their files, for the checks of whatever refers to it."""

from dataclasses import dataclass

from results.findings import Segment


@dataclass(frozen=True, slots=True)
class Found:
    """One segment as the file has it."""

    segment: Segment  #: what the model said of it
    sop_instance: str  #: of the segmentation that holds it, …
    number: int  #: … and its Segment Number there
    voxels: int
    volume_mm3: float | None  #: None on an image without a place
    centroid_mm: tuple[float, float, float] | None  #: LPS; None on an image without a place
    planes: frozenset[tuple[str, int | None]]  #: (SOP Instance UID, frame) of the images that it lies on
