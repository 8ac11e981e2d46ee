import struct
import time
from contextlib import suppress

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.contexts import TRANSFER_SYNTAXES
from dicom_node.headers import HeaderUnreadable, read_headers
from ledger.identifiers import Uid
from tests.dicom_node.datasets import ct_slice, data_set_of, encoded, transfer_syntax_of
from tests.peers.programs import real_data

EXPLICIT = Uid("1.2.840.10008.1.2.1")
IMPLICIT = Uid("1.2.840.10008.1.2")


def explicit(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def sequence(tag: int, inside: bytes) -> bytes:
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"SQ", 0, 0xFFFFFFFF) + inside + SEQUENCE_END


ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


@pytest.mark.parametrize("implicit_vr", [False, True])
def test_explicit_and_implicit_vr_say_the_same(implicit_vr: bool) -> None:
    ds = ct_slice(7, implicit_vr=implicit_vr)
    ds.PatientName = "Åström^Zoë"

    headers = read_headers(encoded(ds), IMPLICIT if implicit_vr else EXPLICIT)

    assert headers["StudyInstanceUID"] == ds.StudyInstanceUID
    assert headers["InstanceNumber"] == "7"
    assert headers["Rows"] == "32"
    assert headers["ImagePositionPatient"].split("\\") == ["0.0", "0.0", "7.0"]
    assert headers["PatientName"] == "Åström^Zoë"
    assert "PixelData" not in headers


def test_text_follows_the_specific_character_set() -> None:
    japanese = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"
    data = explicit(0x00080005, b"CS", b"\\ISO 2022 IR 87 ") + explicit(0x00100010, b"PN", japanese)

    assert read_headers(data, EXPLICIT)["PatientName"] == "Yamada^Tarou=山田^太郎"


def test_an_unknown_character_set_spoils_names_and_nothing_else() -> None:
    data = explicit(0x00080005, b"CS", b"ISO_IR 9999 ") + explicit(0x00100010, b"PN", b"M\xfcller")

    assert read_headers(data, EXPLICIT)["PatientName"].startswith("M")


def test_sequences_of_undefined_length_are_stepped_over_however_they_nest() -> None:
    inner = sequence(0x00081199, ITEM + explicit(0x00081155, b"UI", b"1.2\0") + ITEM_END)
    data = sequence(0x00081115, ITEM + inner + ITEM_END) + explicit(0x0020000D, b"UI", b"1.2.3\0")

    headers = read_headers(data, EXPLICIT)

    assert headers == {"StudyInstanceUID": "1.2.3"}


def test_an_icon_before_the_uids_does_not_end_the_header() -> None:
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    fragment = struct.pack("<HHI", 0xFFFE, 0xE000, 2) + b"\xff\xd8"
    icon = sequence(0x00080200, ITEM + pixels + fragment + SEQUENCE_END + ITEM_END)

    assert (
        read_headers(icon + explicit(0x0020000D, b"UI", b"1.2.3\0"), EXPLICIT)["StudyInstanceUID"] == "1.2.3"
    )


def test_un_of_undefined_length_holds_implicit_vr() -> None:
    inside = struct.pack("<HHI", 0x0008, 0x1155, 4) + b"1.2\0"
    unknown = (
        struct.pack("<HH2sHI", 0x0009, 0x1001, b"UN", 0, 0xFFFFFFFF) + ITEM + inside + ITEM_END + SEQUENCE_END
    )

    assert read_headers(unknown + explicit(0x0020000D, b"UI", b"1.2.3\0"), EXPLICIT) == {
        "StudyInstanceUID": "1.2.3"
    }


@pytest.mark.parametrize(
    ("data", "because"),
    [
        (explicit(0x00080018, b"UI", b"1.2\0")[:-1], "are left"),
        (explicit(0x00080018, b"UI", b"1.2\0")[:6], "ends inside"),
        (explicit(0x00080018, b"ZZ", b"1.2\0"), "no known VR"),
        (explicit(0x00080018, b"UI", b"1.2\0") * 2, "twice"),
        (sequence(0x00081115, ITEM)[:-8], "ends inside"),
        (sequence(0x00081115, explicit(0x00081155, b"UI", b"")), "is broken"),
        (struct.pack("<HH2sHI", 0x0008, 0x1115, b"UT", 0, 0xFFFFFFFF), "undefined length"),
    ],
)
def test_what_cannot_be_read_is_named(data: bytes, because: str) -> None:
    with pytest.raises(HeaderUnreadable, match=because):
        read_headers(data, EXPLICIT)


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("four million empty items", sequence(0x00081115, (ITEM + ITEM_END) * 250_000)),
        ("nesting without end", (struct.pack("<HH2sHI", 8, 0x1115, b"SQ", 0, 0xFFFFFFFF) + ITEM) * 100_000),
        (
            "a million elements",
            b"".join(explicit(0x00090000 + i % 65536, b"CS", b"") for i in range(500_000)),
        ),
        (
            "a value of eight million parts",
            struct.pack("<HH2sHI", 8, 8, b"UC", 0, 8_000_000) + b"\\" * 8_000_000,
        ),
    ],
)
def test_no_bomb_takes_longer_than_its_bytes_are_worth(what: str, data: bytes) -> None:
    began = time.process_time()

    with suppress(HeaderUnreadable):
        read_headers(data, EXPLICIT)

    assert time.process_time() - began < 2.0, what


@settings(max_examples=400, deadline=2000)
@given(data=st.binary(max_size=400), syntax=st.sampled_from(TRANSFER_SYNTAXES))
def test_noise_is_read_or_refused_and_nothing_else(data: bytes, syntax) -> None:
    with suppress(HeaderUnreadable):
        read_headers(data, Uid(syntax.uid))


_WHOLE = encoded(ct_slice(3, rows=2))


@settings(max_examples=600, deadline=2000)
@given(
    cut=st.integers(0, len(_WHOLE)),
    changes=st.lists(st.tuples(st.integers(0, len(_WHOLE) - 1), st.integers(0, 255)), max_size=6),
    implicit_vr=st.booleans(),
)
def test_a_damaged_header_is_read_or_refused_and_nothing_else(cut: int, changes, implicit_vr: bool) -> None:
    damaged = bytearray(_WHOLE)
    for place, value in changes:
        damaged[place] = value
    try:
        headers = read_headers(memoryview(damaged)[:cut], IMPLICIT if implicit_vr else EXPLICIT)
    except HeaderUnreadable:
        return
    assert all(isinstance(value, str) for value in headers.values())


@pytest.mark.real
@pytest.mark.parametrize("folder", ["ct_thorax_cip64", "mr_enhanced_dcmqa", "ts_pydicom_data", "mg_fodicom"])
def test_an_independent_reader_finds_the_same_uids_in_real_images(folder: str) -> None:
    compared = 0
    ours = {syntax.uid for syntax in TRANSFER_SYNTAXES}
    for path in sorted(real_data(folder).rglob("*.dcm"))[:40]:
        if transfer_syntax_of(path) not in ours:
            continue
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        headers = read_headers(data_set_of(path.read_bytes()), Uid(transfer_syntax_of(path)))
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality"):
            assert headers.get(keyword, "") == str(ds.get(keyword, "") or "").strip(), (
                f"{path.name} {keyword}"
            )
        compared += 1
    assert compared
