"""The file around a data set: preamble, prefix and File Meta Information (PS3.10 §7.1), by hand.

A C-STORE carries the data set alone. We put this header before it and touch nothing behind it, so the bytes
that were sent lie in the file as they came. The preamble is zero, whatever a file elsewhere had in it: a
preamble may hold another program (CVE-2019-11687).
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import StudyError
from ledger.identifiers import AETitle, Uid
from ledger.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_MAGIC = b"\0" * 128 + b"DICM"
_EXPLICIT_SHORT = struct.Struct("<HH2sH")
_EXPLICIT_LONG = struct.Struct("<HH2sHI")
_LONG_VRS = frozenset({b"OB", b"UN"})  # of those that occur in group 0002
_META_MAXIMUM = 4096  # Ours is about 300 bytes; a larger one was not written by us.


class NotOurFile(StudyError):
    """A file in the spool does not begin as this node writes files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMeta:
    """What the File Meta Information of a spooled instance says."""

    sop_class: Uid
    sop_instance: Uid
    transfer_syntax: Uid
    sending: AETitle  #: (0002,0017), the calling AE
    receiving: AETitle  #: (0002,0018), the called AE

    def encode(self) -> bytes:
        """Preamble, prefix and File Meta Information: all that comes before the data set."""
        elements = b"".join(
            (
                _EXPLICIT_LONG.pack(2, 0x0001, b"OB", 0, 2) + b"\0\1",
                _short(0x0002, b"UI", str(self.sop_class)),
                _short(0x0003, b"UI", str(self.sop_instance)),
                _short(0x0010, b"UI", str(self.transfer_syntax)),
                _short(0x0012, b"UI", str(IMPLEMENTATION_CLASS_UID)),
                _short(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
                _short(0x0017, b"AE", str(self.sending)),
                _short(0x0018, b"AE", str(self.receiving)),
            )
        )
        length = _EXPLICIT_SHORT.pack(2, 0, b"UL", 4) + struct.pack("<I", len(elements))
        return _MAGIC + length + elements


def read_file_meta(start: bytes | memoryview) -> tuple[FileMeta, int]:
    """The File Meta Information at the `start` of a file that we wrote, and where its data set begins.

    Raises `NotOurFile` for anything that `FileMeta.encode` cannot have written.
    """
    try:
        return _read(bytes(start[:_META_MAXIMUM]))
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise NotOurFile("the file does not begin with File Meta Information of this node") from error


def what_is_in(path: Path) -> tuple[Uid, Uid, Uid, int]:
    """SOP class, SOP instance and transfer syntax of a file by any writer, and where its data set begins.

    Raises `NotOurFile` for what is no Part 10 file, or none with a plain File Meta Information; `OSError`.
    """
    with path.open("rb", buffering=0) as file:
        start = file.read(_META_MAXIMUM)
    try:
        values, end = _elements(start)
        return Uid.parse(values[0x0002]), Uid.parse(values[0x0003]), Uid.parse(values[0x0010]), end
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise NotOurFile("the file does not begin with File Meta Information") from error


def _read(start: bytes) -> tuple[FileMeta, int]:
    values, end = _elements(start)
    meta = FileMeta(
        sop_class=Uid.parse(values[0x0002]),
        sop_instance=Uid.parse(values[0x0003]),
        transfer_syntax=Uid.parse(values[0x0010]),
        sending=AETitle.parse(values[0x0017]),
        receiving=AETitle.parse(values[0x0018]),
    )
    return meta, end


def _elements(start: bytes) -> tuple[dict[int, str], int]:
    """The elements of group 0002 as text, and where they end. Raises what broken bytes make Python raise."""
    if start[128:132] != b"DICM" or _EXPLICIT_SHORT.unpack_from(start, 132) != (2, 0, b"UL", 4):
        raise ValueError("no prefix or group length")
    position = 144
    end = position + int(struct.unpack_from("<I", start, 140)[0])
    values: dict[int, str] = {}
    while position < end:
        group, element, vr, length = _EXPLICIT_SHORT.unpack_from(start, position)
        position += 8
        if vr in _LONG_VRS:
            (length,) = struct.unpack_from("<I", start, position)
            position += 4
        if group != 2 or position + length > len(start):
            raise ValueError("no file meta element")
        values[element] = start[position : position + length].decode("latin-1").rstrip("\0 ")
        position += length
    return values, position


def _short(element: int, vr: bytes, text: str) -> bytes:
    # Values have even length: UI is padded by NUL, text by a space (PS3.5 §6.2).
    value = text.encode("ascii")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return _EXPLICIT_SHORT.pack(2, element, vr, len(value)) + value
