"""Data sets that were valid once: what pydicom's own files and our phantoms become when bytes go wrong.

Hypothesis draws the damage, most of it where an element begins, because that is where a reader decides.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from hypothesis import strategies as st

from dicom_node.contexts import transfer_syntax
from tests.dicom_node.datasets import ct_slice, data_set_of, encoded
from tests.worker.series import Series, noise

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
_LARGEST = 7_000  # bytes of a seed: Hypothesis shows what fails, and that has to be readable
_VRS = (
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT ZZ"
)
_UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Seed:
    """A data set before anything happens to it."""

    name: str
    data: bytes
    syntax: str
    places: tuple[int, ...]  #: where elements begin, more or less


@lru_cache(maxsize=1)
def seeds() -> tuple[Seed, ...]:
    """pydicom's files in the transfer syntaxes that we take, and data sets of our own."""
    found = [
        _seed("a CT slice", encoded(ct_slice(3, rows=4)), EXPLICIT),
        _seed("a CT slice in implicit VR", encoded(ct_slice(3, rows=4, implicit_vr=True)), IMPLICIT),
        _seed("an enhanced CT", encoded(Series(noise((3, 4, 4))).enhanced()), EXPLICIT),
        _seed("values", _values(), EXPLICIT),
    ]
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm")):
        contents = path.read_bytes()
        if contents[128:132] != b"DICM" or len(contents) > _LARGEST:
            continue
        meta = pydicom.filereader.read_file_meta_info(path)
        syntax = str(meta.get("TransferSyntaxUID", ""))
        if transfer_syntax(syntax) is not None:
            found.append(_seed(path.name, data_set_of(contents), syntax))
    return tuple(found)


def _values() -> bytes:
    """One element of each kind that is kept."""
    ds = ct_slice(1, rows=2)
    ds.SelectorSLValue, ds.SelectorFDValue = [1, -2], [0.5, float(np.pi)]
    ds.SelectorATValue = [0x00100010]
    ds.add_new(0x00091010, "UN", b"\0" * 9)
    ds.EncapsulatedDocument = b"\0" * 30
    return encoded(ds)


def _seed(name: str, data: bytes, syntax: str) -> Seed:
    places = {0, len(data)}
    known = transfer_syntax(syntax)
    assert known is not None
    header = 8
    ds = pydicom.filereader.read_dataset(
        BytesIO(data), is_implicit_VR=known.implicit_vr, is_little_endian=True, bytelength=len(data)
    )
    for tag in sorted(ds.keys()):
        raw = ds.get_item(tag)
        place = getattr(raw, "value_tell", None) or getattr(raw, "file_tell", None)
        if place:
            places.update(max(0, place - back) for back in (header, header + 4, 2, 4))
    return Seed(name, data, syntax, tuple(sorted(places)))


_extremes = st.sampled_from([0, 1, 2, 7, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFE, _UNDEFINED])
_noise = st.binary(min_size=1, max_size=40)
_sequence_parts = st.sampled_from(
    [
        struct.pack("<HHI", 0xFFFE, 0xE000, _UNDEFINED),
        struct.pack("<HHI", 0xFFFE, 0xE000, 0),
        struct.pack("<HHI", 0xFFFE, 0xE000, 0x7FFFFFFF),
        struct.pack("<HHI", 0xFFFE, 0xE00D, 0),
        struct.pack("<HHI", 0xFFFE, 0xE0DD, 0),
        struct.pack("<HHI", 0xFFFE, 0xE0DD, 5),
        struct.pack("<HH2sHI", 8, 0x1115, b"SQ", 0, _UNDEFINED),
        struct.pack("<HH2sHI", 8, 0x1115, b"SQ", 0, 24),
        struct.pack("<HH2sHI", 9, 0x1010, b"UN", 0, _UNDEFINED),
        struct.pack("<HHI", 8, 0x1115, _UNDEFINED),
        struct.pack("<HH2sH", 0x20, 0x0D, b"UI", 4) + b"1.2\0",
        struct.pack("<HHI", 0x20, 0x0D, 4) + b"1.3\0",
        struct.pack("<HH2sH", 8, 0x18, b"UI", 4) + b"1.4\0",
        struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, _UNDEFINED),
        struct.pack("<HH2sH", 8, 5, b"CS", 14) + b"ISO 2022 IR 87",
    ]
)


@st.composite
def damaged(draw: st.DrawFn, only: str = "") -> tuple[str, str, bytes]:
    """The name of the seed, transfer syntax, and a data set that something happened to, once or some times.

    `only` is how the names of the seeds begin.
    """
    seed = draw(st.sampled_from([seed for seed in seeds() if seed.name.startswith(only)]))
    data = bytearray(seed.data)
    for _ in range(draw(st.integers(1, 5))):
        if not data:
            break
        place = draw(st.one_of(st.sampled_from(seed.places), st.integers(0, len(seed.data)))) % len(data)
        match draw(
            st.sampled_from(["flip", "length", "short", "vr", "insert", "noise", "cut", "drop", "twice"])
        ):
            case "flip":
                data[place] ^= draw(st.integers(1, 255))
            case "length":
                data[place : place + 4] = struct.pack("<I", draw(_extremes))
            case "short":
                data[place : place + 2] = struct.pack("<H", draw(_extremes) & 0xFFFF)
            case "vr":
                vrs = _VRS.split()
                data[place : place + 2] = draw(st.sampled_from(vrs))
            case "insert":
                data[place:place] = draw(_sequence_parts) * draw(st.integers(1, 3))
            case "noise":
                data[place:place] = draw(_noise)
            case "cut":
                del data[place:]
            case "drop":
                del data[place : place + draw(st.integers(1, 64))]
            case "twice":
                length = draw(st.integers(4, 128))
                data[place:place] = data[place : place + length]
    # Now and then it is read as what it is not.
    syntax = draw(st.sampled_from([seed.syntax, seed.syntax, seed.syntax, EXPLICIT, IMPLICIT]))
    return seed.name, syntax, bytes(data)
