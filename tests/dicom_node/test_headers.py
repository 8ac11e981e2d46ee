import struct
import time
from contextlib import suppress

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.contexts import TRANSFER_SYNTAXES
from dicom_node.headers import HeaderUnreadable, MoreNeeded, UnsafeDataSet, read_headers
from dicom_node.limits import DataSetSettings
from ledger.identifiers import Uid
from tests.dicom_node.datasets import ct_slice, data_set_of, encoded, transfer_syntax_of
from tests.patience import patient
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


@settings(max_examples=400, deadline=patient(2000))
@given(data=st.binary(max_size=400), syntax=st.sampled_from(TRANSFER_SYNTAXES))
def test_noise_is_read_or_refused_and_nothing_else(data: bytes, syntax) -> None:
    with suppress(HeaderUnreadable):
        read_headers(data, Uid(syntax.uid))


_WHOLE = encoded(ct_slice(3, rows=2))


@settings(max_examples=600, deadline=patient(2000))
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


def defined(tag: int, inside: bytes) -> bytes:
    """A sequence of defined length."""
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"SQ", 0, len(inside)) + inside


def item(inside: bytes = b"") -> bytes:
    """An item of defined length."""
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(inside)) + inside


def long_text(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, len(value)) + value


def nested(depth: int) -> bytes:
    inside = b""
    for _ in range(depth):
        inside = defined(0x00081115, item(inside))
    return inside


def nested_undefined(depth: int) -> bytes:
    inside = b""
    for _ in range(depth):
        inside = sequence(0x00081115, ITEM + inside + ITEM_END)
    return inside


STUDY = explicit(0x0020000D, b"UI", b"1.2.3\0")


def test_the_limits_of_a_data_set_are_those_of_the_table() -> None:
    shape = DataSetSettings()
    assert (shape.depth_max, shape.items_max, shape.elements_max) == (32, 100_000, 200_000)
    assert (shape.text_bytes_max, shape.values_max) == (1 << 20, 65_535)


@pytest.mark.parametrize("nest", [nested, nested_undefined])
def test_depth_counts_however_the_lengths_are_written(nest) -> None:
    assert read_headers(nest(32) + STUDY, EXPLICIT)["StudyInstanceUID"] == "1.2.3"
    with pytest.raises(UnsafeDataSet, match="more than 32 deep"):
        read_headers(nest(33) + STUDY, EXPLICIT)


@pytest.mark.parametrize(
    ("data", "because"),
    [
        (defined(0x00081115, item() * 100_001), "more than 100000 sequence items"),
        (defined(0x00081115, item(defined(0x00081199, item() * 100_000))), "more than 100000 sequence items"),
        (sequence(0x00081115, (ITEM + ITEM_END) * 100_001), "more than 100000 sequence items"),
        (defined(0x00081115, item(explicit(0x00081155, b"UI", b"") * 200_000)), "more than 200000 elements"),
        (long_text(0x00080119, b"UC", b"x" * ((1 << 20) + 1)), r"\(0008,0119\) has 1048577 bytes of text"),
        (long_text(0x00080119, b"UC", b"\\" * 65_535), r"\(0008,0119\) has 65536 values"),
        (
            defined(0x00081115, item(long_text(0x00080119, b"UC", b"\\" * 70_000))),
            r"\(0008,0119\) has 70001 values",
        ),
    ],
)
def test_a_shape_that_hurts_parsers_is_told_apart_and_names_its_setting(data: bytes, because: str) -> None:
    with pytest.raises(UnsafeDataSet, match=because) as told:
        read_headers(data + STUDY, EXPLICIT)
    assert "[data_set]" in str(told.value)


def test_implicit_vr_hides_no_shape() -> None:
    def element(tag: int, value: bytes) -> bytes:
        return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value

    study = element(0x0020000D, b"1.2.3\0")
    with pytest.raises(UnsafeDataSet, match="sequence items"):
        read_headers(element(0x00081115, item() * 100_001) + study, IMPLICIT)
    # An IS value of four million backslashes: a minute of work and a gigabyte for a parser.
    with pytest.raises(UnsafeDataSet, match="bytes of text"):
        read_headers(element(0x00201208, b"\\" * 4_000_000) + study, IMPLICIT)
    with pytest.raises(UnsafeDataSet, match="has 65537 values"):
        read_headers(element(0x00201208, b"\\" * 65_536) + study, IMPLICIT)
    # Binary values have no such limit.
    assert (
        read_headers(element(0x00420011, b"\\" * 4_000_000) + study, IMPLICIT)["StudyInstanceUID"] == "1.2.3"
    )


def test_long_text_of_one_value_may_be_full_of_backslashes() -> None:
    text = long_text(0x0040A160, b"UT", b"\\" * 100_000)
    assert read_headers(STUDY + text, EXPLICIT) == {"StudyInstanceUID": "1.2.3"}


def test_what_is_broken_within_a_known_length_is_stepped_over() -> None:
    broken = defined(0x00081115, b"\xff" * 2000)
    within = sequence(0x00081115, item(b"\xff" * 2000))
    assert read_headers(broken + within + STUDY, EXPLICIT) == {"StudyInstanceUID": "1.2.3"}


def test_frames_bring_items_of_their_own_and_only_real_ones_do() -> None:
    frames = 9600  # An enhanced CT of a perfusion: 320 slices at 30 times.
    groups = item(b"".join(defined(0x00209111, item(explicit(0x00189074, b"DT", b""))) for _ in range(20)))
    header = explicit(0x00280008, b"IS", b"9600")
    per_frame = defined(0x52009230, groups * frames)
    whole = len(header) + len(per_frame) + frames * 4096
    with pytest.raises(MoreNeeded):  # It came to the pixel data, which are not here.
        read_headers(header + per_frame, EXPLICIT, whole=whole)
    # Whoever only says so has no more than others: there are no pixels for so many frames.
    with pytest.raises(UnsafeDataSet, match="items"):
        read_headers(header + per_frame, EXPLICIT)


def test_a_site_may_let_more_in() -> None:
    data = defined(0x00081115, item() * 100_001) + STUDY
    assert read_headers(data, EXPLICIT, shape=DataSetSettings(items_max=200_000)) == {
        "StudyInstanceUID": "1.2.3"
    }
