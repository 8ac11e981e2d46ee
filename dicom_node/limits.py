"""Limits of what is sent to us: for everybody, changed for one peer, and what they are by default."""

from pydantic import BaseModel, Field

_MIB, _GIB = 1 << 20, 1 << 30

#: An instance of more cannot be told by a length of 32 bits, and no peer may be allowed it.
INSTANCE_BYTES_HARD = 4 * _GIB


class Quota(BaseModel, frozen=True, extra="forbid"):
    """How much each calling AE title may send; 0 is no limit. `[peer.quota]` changes it for one peer.

    Beyond, an instance is answered with 0xA700, "come again later", and beyond `open_studies` an association
    is rejected for now: whoever sends keeps what it has.
    """

    # 0: a CT sends thousands in a minute. 6000 is twice what a fast scanner makes.
    instances_per_minute: int = Field(default=0, ge=0)
    bytes_per_hour: int = Field(default=0, ge=0)  # 0: an archive that forwards a day's work sends terabytes.
    # New associations wait while so many of the caller's studies are not judged complete. Honest callers have
    # a few: a study stays open for seconds after its last image.
    open_studies: int = Field(default=200, ge=0)
    spool_bytes: int = Field(default=0, ge=0)  # 0: the marks of the disk are there for all together.


class PeerQuota(BaseModel, frozen=True, extra="forbid"):
    """What `[quota]` says otherwise for one peer; what is left out is as it is there."""

    instances_per_minute: int | None = Field(default=None, ge=0)
    bytes_per_hour: int | None = Field(default=None, ge=0)
    open_studies: int | None = Field(default=None, ge=0)
    spool_bytes: int | None = Field(default=None, ge=0)

    def over(self, quota: Quota) -> Quota:
        """`quota` with what is said here."""
        return quota.model_copy(update=self.model_dump(exclude_none=True))


class DataSetSettings(BaseModel, frozen=True, extra="forbid"):
    """What a data set may be like to be filed and worked on.

    One that is beyond is kept as it came and acknowledged, but in quarantine, where no parser goes near it
    until a person has looked: a few megabytes of the wrong shape keep a DICOM library busy for minutes.
    """

    depth_max: int = Field(default=32, ge=1, le=1000)  # Sequences within sequences; real ones have 5 or 6.
    # At all levels together, and for each frame of a multi-frame image 40 more: its functional groups.
    items_max: int = Field(default=100_000, ge=1)
    # At all levels together, and for each frame of a multi-frame image 200 more.
    elements_max: int = Field(default=200_000, ge=1)
    text_bytes_max: int = Field(default=_MIB, ge=1 << 16)  # One element of text, however many values it has.
    values_max: int = Field(default=65_535, ge=65_535)  # Values in one element of text (PS3.5 §6.4).
    # Headers of more than 64 KiB are read in a process of their own, with these limits.
    header_s: float = Field(default=20.0, gt=0)  # For one data set; then the process is killed.
    header_bytes_max: int = Field(default=256 * _MIB, ge=64 * _MIB)  # Memory of the process.
    header_processes: int = Field(default=1, ge=1, le=16)  # How many such data sets are read at once.
