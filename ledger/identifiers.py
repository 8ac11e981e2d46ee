"""
The names that things go by, parsed once at the border and valid ever after.

Inside the border a `Uid` is valid by having one: nobody checks again.
"""

import re
from dataclasses import dataclass
from typing import NewType, Self

StudyId = NewType("StudyId", int)
SeriesId = NewType("SeriesId", int)
InstanceId = NewType("InstanceId", int)
JobId = NewType("JobId", int)
ResultId = NewType("ResultId", int)
DeliveryId = NewType("DeliveryId", int)

# No empty component, and no leading zero except in a component that is 0 (PS3.5 §9.1).
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
# The default repertoire without backslash and control characters (PS3.5 §6.2, AE).
_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, order=True)
class Uid:
    """A DICOM unique identifier (PS3.5 §9): dotted numbers, at most 64 characters."""

    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raise `ValueError` unless `text` is a UID."""
        # UI values are padded to even length with one NUL (PS3.5 §9.1); some peers use spaces.
        text = text.rstrip("\0 ")
        if len(text) > 64 or not _UID.fullmatch(text):
            raise ValueError(f"{text[:80]!r} is not a DICOM UID")
        return cls(text)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, order=True)
class AETitle:
    """The name of an Application Entity (PS3.8, PS3.5 §6.2): 1 to 16 printable characters."""

    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raise `ValueError` unless `text` is an AE title. Outer spaces do not count (PS3.5 §6.2)."""
        text = text.strip(" \0")
        if not _AE_TITLE.fullmatch(text):
            raise ValueError(
                f"{text[:40]!r} is not an AE title (1 to 16 printable ASCII characters, no backslash)"
            )
        return cls(text)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A SHA-256 as 64 lower-case hexadecimal characters."""

    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raise `ValueError` unless `text` is a SHA-256 in hexadecimal."""
        if not _DIGEST.fullmatch(text):
            raise ValueError(f"{text[:80]!r} is not a SHA-256 digest")
        return cls(text)

    def __str__(self) -> str:
        return self.value
