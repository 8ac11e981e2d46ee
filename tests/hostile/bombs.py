"""Small things that want to become large: a corpus of instances that nobody should have to read.

Each is built in code, from the ways in which a file can say more than it brings. Some are caught by the node
(their headers cannot be filed), the others are series that a rule chooses, so that a worker opens them.
"""

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pydicom.encaps
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.dicom_node.datasets import ROOT, encoded
from tests.worker.series import Series, noise

HTJ2K = "1.2.840.10008.1.2.4.202"
_UNDEFINED = 0xFFFFFFFF
_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, _UNDEFINED)
_ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
_SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


@dataclass(frozen=True, slots=True)
class Bomb:
    """Instances of one series, as they are sent."""

    name: str
    syntax: str
    sop_class: str
    instances: tuple[tuple[str, bytes], ...]  #: SOP Instance UID and data set
    study: str
    opened: bool = False  #: A model opens it, where the node files it at all.


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An element in explicit VR, which may lie about its length."""
    count = len(value) if length is None else length
    if vr in (b"OB", b"OW", b"SQ", b"UC", b"UN", b"UT"):
        return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, count) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, count & 0xFFFF) + value


def _uid(text: str) -> bytes:
    return text.encode("latin-1") + b"\0" * (len(text) % 2)


# Headers


def _around(number: int, bomb: bytes, *, study: str = "", series: str = "", tail: bytes = b"") -> Bomb:
    """A plain header with `bomb` between its group 0008 and its UIDs of study and series."""
    uid, study_uid = f"{ROOT}.90.{number}", study or f"{ROOT}.91.{number}"
    data = (
        element(0x00080016, b"UI", _uid(CTImageStorage))
        + element(0x00080018, b"UI", _uid(uid))
        + element(0x00080060, b"CS", b"CT")
        + bomb
        + element(0x0020000D, b"UI", _uid(study_uid))
        + element(0x0020000E, b"UI", _uid(series or f"{study_uid}.1"))
        + tail
    )
    return Bomb("", str(ExplicitVRLittleEndian), str(CTImageStorage), ((uid, data),), study_uid)


def _bytes_only(number: int, data: bytes) -> Bomb:
    uid = f"{ROOT}.90.{number}"
    return Bomb("", str(ExplicitVRLittleEndian), str(CTImageStorage), ((uid, data),), f"{ROOT}.91.{number}")


_SQ = partial(element, 0x00081115, b"SQ")
_NESTED = struct.pack("<HH2sHI", 8, 0x1115, b"SQ", 0, _UNDEFINED) + _ITEM


def _nested_defined(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = _SQ(struct.pack("<HHI", 0xFFFE, 0xE000, len(data)) + data)
    return data


def _deflated() -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(b"\0" * (64 << 20)) + compressor.flush()


HEADERS: dict[str, Callable[[int], Bomb]] = {
    "a million empty items": lambda n: _around(
        n, _SQ((_ITEM + _ITEM_END) * 1_000_000 + _SEQUENCE_END, _UNDEFINED)
    ),
    "a million empty items of known length": lambda n: _around(
        n, _SQ(struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 1_000_000)
    ),
    "sequences nested 10 000 deep": lambda n: _around(
        n, _NESTED * 10_000 + (_ITEM_END + _SEQUENCE_END) * 10_000
    ),
    "sequences nested 10 000 deep that never end": lambda n: _around(n, _NESTED * 10_000),
    "sequences of known length nested 3000 deep": lambda n: _around(n, _nested_defined(3000)),
    "a number with four million values": lambda n: _around(n, element(0x00200013, b"UN", b"1\\" * 4_000_000)),
    "text with four million values": lambda n: _around(n, element(0x00080008, b"UC", b"\\" * 4_000_000)),
    "half a million private elements": lambda n: _around(
        n, b"".join(element(0x00090000 + (i & 0xFFFF), b"CS", b"") for i in range(500_000))
    ),
    "a private element of 24 MiB before the UIDs": lambda n: _around(
        n, element(0x00091010, b"OB", bytes(24 << 20))
    ),
    "UN of undefined length, 100 000 times": lambda n: _around(
        n, (element(0x00091010, b"UN", b"", _UNDEFINED) + _SEQUENCE_END) * 100_000
    ),
    "a length beyond the end": lambda n: _around(n, element(0x00091010, b"OB", b"", 0xFFFFFFFE)),
    "undefined length where none may be": lambda n: _around(n, element(0x00091010, b"UT", b"", _UNDEFINED)),
    "an end without a beginning": lambda n: _around(n, _SEQUENCE_END + _ITEM_END),
    "an unknown VR": lambda n: _around(n, struct.pack("<HH2sH", 9, 0x1010, b"\0\xff", 4) + b"abcd"),
    "file meta information with a bad VR in the data set": lambda n: _around(
        n, element(0x00020010, b"?!", b"1.2.840.10008.1.2.1\0") + element(0x00020000, b"UL", b"\xff" * 4)
    ),
    "the study twice": lambda n: _around(n, element(0x0020000D, b"UI", b"1.2.3.4.")),
    "a study that is a path": lambda n: _around(n, b"", study="../../../../tmp/x"),
    "a study that is a web page": lambda n: _around(n, b"", study="<script>alert(1)</script>"),
    "a study with control characters": lambda n: _around(n, b"", study="1.2.3\x1b[2J\x07.4"),
    "a study of 4000 digits": lambda n: _around(n, b"", study="1." + "2" * 4000),
    "a series with a null byte inside": lambda n: _around(n, b"", series="1.2\x003.4"),
    "character sets without end": lambda n: _around(
        n,
        element(0x00080005, b"CS", b"\\".join([b"ISO 2022 IR 87"] * 60))
        + element(0x00100010, b"PN", b"\x1b$B" * 300),
    ),
    "escapes of a character set that nobody knows": lambda n: _around(
        n, element(0x00080005, b"CS", b"ISO_IR 9999 ") + element(0x00100010, b"PN", b"\x1b-\xff^=\\" * 160)
    ),
    "nothing at all": lambda n: _bytes_only(n, b""),
    "one byte": lambda n: _bytes_only(n, b"\x08"),
    "a deflated data set of 64 MiB": lambda n: _bytes_only(n, _deflated()),
    "a ZIP file": lambda n: _bytes_only(n, b"PK\x03\x04" + b"\0" * 500),
    "noise": lambda n: _bytes_only(n, random.Random(n).randbytes(100_000)),
    "cut off in the middle of its header": lambda n: _bytes_only(
        n, _around(n, element(0x00091010, b"OB", bytes(4000))).instances[0][1][:900]
    ),
}


# Pixels


Change = Callable[[int, Dataset], None]


def _opened(
    number: int, change: Change, *, syntax: str = str(ExplicitVRLittleEndian), cut: int = 0, rows: int = 16
) -> Bomb:
    """Three slices that would be a volume, had `change` not been at them, and less `cut` bytes at the end."""
    study = f"{ROOT}.93.{number}"
    series = Series(
        noise((3, rows, rows)),
        headers={
            "StudyInstanceUID": study,
            "SeriesInstanceUID": f"{study}.1",
            "FrameOfReferenceUID": f"{study}.2",
            "BodyPartExamined": "CHEST",
        },
    )
    instances = []
    for k in range(3):
        dataset = series.dataset(k)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{study}.1.{k + 1}"
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
        change(k, dataset)
        if pydicom.uid.UID(syntax).is_encapsulated and not dataset["PixelData"].is_undefined_length:
            dataset["PixelData"].is_undefined_length = True
        data = encoded(dataset)
        instances.append((str(dataset.SOPInstanceUID), data[: len(data) - cut]))
    return Bomb("", syntax, str(CTImageStorage), tuple(instances), study, opened=True)


def setting(**values: object) -> Change:
    def change(k: int, dataset: Dataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return change


def _frame(stream: bytes, **values: object) -> Change:
    """One encapsulated frame, and header values to go with it."""

    def change(k: int, dataset: Dataset) -> None:
        setting(**values)(k, dataset)
        dataset.PixelData = pydicom.encaps.encapsulate([stream + b"\0" * (len(stream) % 2)])
        dataset["PixelData"].VR = "OB"

    return change


def _raw_fragments(value: bytes) -> Change:
    def change(k: int, dataset: Dataset) -> None:
        dataset.PixelData = value
        dataset["PixelData"].VR = "OB"

    return change


def _j2k(
    rows: int, columns: int, *, tile: int | None = None, components: int = 1, tail: bytes = b"\xff\xd9"
) -> bytes:
    """SOC and SIZ of a JPEG 2000 codestream (ISO 15444-1 §A.5.1), COD and QCD, and hardly anything else."""
    width, height = tile or columns, tile or rows
    siz = (
        struct.pack(">HLLLLLLLLH", 0, columns, rows, 0, 0, width, height, 0, 0, components)
        + b"\x0f\1\1" * components
    )
    cod = struct.pack(">HBBHBBBBBB", 12, 0, 0, 1, 0, 5, 4, 4, 0, 1)
    qcd = struct.pack(">HB", 19, 0x40) + bytes([0x48] * 16)
    sot = struct.pack(">HHLBB", 10, 0, 14, 0, 1) + b"\xff\x93"
    return (
        b"\xff\x4f\xff\x51" + struct.pack(">H", len(siz) + 2) + siz
        + b"\xff\x52" + cod + b"\xff\x5c" + qcd + b"\xff\x90" + sot + tail
    )  # fmt: skip


def _jpeg(kind: int, rows: int, columns: int, bits: int = 8, *, scan: bytes = bytes(64)) -> bytes:
    """A JPEG of the process `kind` (SOF0, SOF3, SOF55 …) with no honest scan (ISO 10918-1 §B.2)."""
    frame = b"\xff" + bytes([kind]) + struct.pack(">HBHHB", 11, bits, rows, columns, 1) + b"\1\x11\0"
    tables = b"\xff\xdb\0\x43\0" + b"\1" * 64
    codes = b"".join(
        b"\xff\xc4" + struct.pack(">H", 20) + bytes([which]) + b"\0\1" + b"\0" * 14 + b"\0"
        for which in (0, 16)
    )
    scan_header = (
        b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\1\0" + (b"\1\0\0" if kind == 0xC3 else b"\0\x3f\0")
    )
    middle = b"" if kind == 0xF7 else tables + codes
    return b"\xff\xd8" + middle + frame + scan_header + scan + b"\xff\xd9"


def _rle(segments: int, offsets: list[int], data: bytes) -> bytes:
    header = struct.pack("<16L", segments, *(offsets + [0] * 15)[:15])
    return header + data


def _enhanced(
    number: int, frames: int | str, *, items: int = 0, syntax: str = str(ExplicitVRLittleEndian)
) -> Bomb:
    """One multi-frame image that says it has `frames` frames."""
    study = f"{ROOT}.93.{number}"
    series = Series(noise((3, 16, 16)), headers={})
    dataset = series.enhanced()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{study}.1.1"
    dataset.BodyPartExamined = "CHEST"
    dataset.NumberOfFrames = 3
    dataset["NumberOfFrames"]._value = frames
    if items:
        dataset.PerFrameFunctionalGroupsSequence = [Dataset() for _ in range(items)]
    data = encoded(dataset)
    return Bomb(
        "", syntax, str(EnhancedCTImageStorage), ((str(dataset.SOPInstanceUID), data),), study, opened=True
    )


_BIG_OFFSETS = struct.pack("<HHI", 0xFFFE, 0xE000, 12) + struct.pack("<3L", 0, 0x7FFFFFFE, 0xFFFFFFFE)
_TINY_FRAGMENTS = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 200_000
_LYING_FRAGMENT = (
    struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE000, 0x7FFFFFF0) + b"\xff\xd8"
)

_J2K, _LS, _RLE = str(JPEG2000Lossless), str(JPEGLSLossless), str(RLELossless)

PIXELS: dict[str, Callable[[int], Bomb]] = {
    "JPEG 2000 of 60 000 × 60 000": lambda n: _opened(n, _frame(_j2k(60_000, 60_000)), syntax=_J2K),
    "JPEG 2000 of 12 000 × 12 000, as its header says": lambda n: _opened(
        n, _frame(_j2k(12_000, 12_000), Rows=12_000, Columns=12_000), syntax=_J2K
    ),
    "JPEG 2000 in a million tiles of one pixel": lambda n: _opened(
        n, _frame(_j2k(1024, 1024, tile=1) + bytes(2048), Rows=1024, Columns=1024), syntax=_J2K
    ),
    "JPEG 2000 with 16 384 components": lambda n: _opened(
        n, _frame(_j2k(16, 16, components=16_384)), syntax=_J2K
    ),
    "JPEG 2000 that ends in its first tile": lambda n: _opened(
        n, _frame(_j2k(16, 16, tail=b"")), syntax=_J2K
    ),
    "JPEG 2000 in boxes that lie": lambda n: _opened(
        n,
        _frame(b"\0\0\0\x0cjP  \r\n\x87\n" + struct.pack(">I4s", 0xFFFFFFFF, b"jp2h") + _j2k(16, 16)),
        syntax=_J2K,
    ),
    "HTJ2K of 60 000 × 60 000": lambda n: _opened(n, _frame(_j2k(60_000, 60_000)), syntax=HTJ2K),
    "HTJ2K that is noise behind its header": lambda n: _opened(
        n, _frame(_j2k(16, 16, tail=random.Random(n).randbytes(400))), syntax=HTJ2K
    ),
    "JPEG-LS of 65 535 × 65 535": lambda n: _opened(n, _frame(_jpeg(0xF7, 65_535, 65_535, 16)), syntax=_LS),
    "JPEG-LS of noise": lambda n: _opened(
        n, _frame(_jpeg(0xF7, 16, 16, 16, scan=random.Random(n).randbytes(300))), syntax=_LS
    ),
    "JPEG of 65 535 × 65 535": lambda n: _opened(
        n,
        _frame(_jpeg(0xC0, 65_535, 65_535), BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0),
        syntax=str(JPEGBaseline8Bit),
    ),
    "JPEG without a scan": lambda n: _opened(
        n,
        _frame(
            _jpeg(0xC0, 16, 16, scan=b""), BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0
        ),
        syntax=str(JPEGBaseline8Bit),
    ),
    "lossless JPEG of 65 535 × 65 535": lambda n: _opened(
        n, _frame(_jpeg(0xC3, 65_535, 65_535, 16)), syntax=str(JPEGLosslessSV1)
    ),
    "lossless JPEG of noise": lambda n: _opened(
        n, _frame(_jpeg(0xC3, 16, 16, 16, scan=random.Random(n).randbytes(200))), syntax=str(JPEGLosslessSV1)
    ),
    "twelve-bit JPEG": lambda n: _opened(n, _frame(_jpeg(0xC1, 16, 16, 12)), syntax=str(JPEGExtended12Bit)),
    "a JPEG whose marker has no length": lambda n: _opened(
        n, _frame(b"\xff\xd8" + b"\xff\xe0\0\0" * 2000), syntax=str(JPEGBaseline8Bit)
    ),
    "RLE of 65 535 × 65 535": lambda n: _opened(
        n, _frame(_rle(2, [64, 66], b"\x81\0\x81\0"), Rows=65_535, Columns=65_535), syntax=_RLE
    ),
    "RLE with four thousand million segments": lambda n: _opened(
        n, _frame(_rle(0xFFFFFFFF, [64] * 15, b"\x81\0")), syntax=_RLE
    ),
    "RLE whose offsets lie": lambda n: _opened(
        n, _frame(_rle(2, [0xFFFFFFF0, 0x7FFFFFFF], b"\x81\0" * 40)), syntax=_RLE
    ),
    "an offset table that lies": lambda n: _opened(
        n, _raw_fragments(_BIG_OFFSETS + _SEQUENCE_END), syntax=_J2K
    ),
    "200 000 empty fragments": lambda n: _opened(n, _raw_fragments(_TINY_FRAGMENTS), syntax=_J2K),
    "a fragment that lies about its length": lambda n: _opened(
        n, _raw_fragments(_LYING_FRAGMENT), syntax=_J2K, cut=8
    ),
    "65 535 × 65 535 in a few bytes": lambda n: _opened(n, setting(Rows=65_535, Columns=65_535)),
    "no rows": lambda n: _opened(n, setting(Rows=0, Columns=0)),
    "65 535 samples": lambda n: _opened(n, setting(SamplesPerPixel=65_535)),
    "no bits": lambda n: _opened(n, setting(BitsAllocated=0, BitsStored=0, HighBit=0)),
    "65 535 bits": lambda n: _opened(n, setting(BitsAllocated=65_535, BitsStored=65_535, HighBit=65_534)),
    "pixels cut off": lambda n: _opened(n, setting(), cut=100),
    "positions that are no numbers": lambda n: _opened(
        n, setting(ImagePositionPatient=["1e308", "-1e308", "1e308"], PixelSpacing=["1e-308", "1e-308"])
    ),
    "no distance between the slices": lambda n: _opened(n, setting(ImagePositionPatient=[0, 0, 0])),
    "two thousand million frames": lambda n: _enhanced(n, "2147483647"),
    "minus one frame": lambda n: _enhanced(n, "-1"),
    "20 000 frames that say nothing": lambda n: _enhanced(n, "20000", items=20_000),
    "frames in three slices": lambda n: _opened(n, setting(NumberOfFrames=1_000_000)),
    "a rescale slope of 1e308": lambda n: _opened(
        n, setting(RescaleSlope="1e308", RescaleIntercept="-1e308")
    ),
    "an overlay of 65 535 × 65 535": lambda n: _opened(n, _overlay),
    "a sequence of 90 000 items in implicit VR": lambda n: _opened(
        n, _many_items, syntax=str(ImplicitVRLittleEndian)
    ),
}


def _overlay(k: int, dataset: Dataset) -> None:
    dataset.add_new(0x60000010, "US", 65_535)
    dataset.add_new(0x60000011, "US", 65_535)
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60000102, "US", 0)
    dataset.add_new(0x60003000, "OW", b"\0\0")


def _many_items(k: int, dataset: Dataset) -> None:
    dataset.ReferencedImageSequence = [Dataset() for _ in range(30_000)]


# Requests for storage commitment: Action Information in implicit VR, not an instance


def _list_of(items: bytes, tag: int = 0x1199) -> bytes:
    return struct.pack("<HHI", 8, tag, _UNDEFINED) + items + _SEQUENCE_END


_EMPTY_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
COMMITMENTS: dict[str, Callable[[], bytes]] = {
    "7 MiB of empty items": lambda: _list_of(_EMPTY_ITEM * 917_000),
    "7 MiB of empty items in a sequence that nobody reads": lambda: _list_of(_EMPTY_ITEM * 917_000, 0x1115),
    "sequences nested 400 000 deep": lambda: (struct.pack("<HHI", 8, 0x1199, _UNDEFINED) + _ITEM) * 400_000,
    "900 000 elements that nobody knows": lambda: b"".join(
        struct.pack("<HHI", 0x0010, number & 0xFFFF, 0) for number in range(900_000)
    ),
    "9 MiB of nothing": lambda: bytes(9 << 20),
}


def corpus() -> Iterator[Bomb]:
    """All of them, one at a time: some are large."""
    for number, (name, make) in enumerate([*HEADERS.items(), *PIXELS.items()], start=1):
        bomb = make(number)
        yield Bomb(name, bomb.syntax, bomb.sop_class, bomb.instances, bomb.study, bomb.opened)


def normal(number: int) -> Bomb:
    """Three slices that are a volume, for comparison."""
    body = np.full((3, 16, 16), 1000, dtype=np.int16)

    def change(k: int, dataset: Dataset) -> None:
        dataset.PixelData = body[k].tobytes()

    made = _opened(number, change)
    return Bomb("a normal study", made.syntax, made.sop_class, made.instances, made.study, opened=True)
