"""The top-level elements of a data set, found without decoding any of them.

pydicom takes three times as long to read the header of a CT slice; this walk leaves every element raw, so
that pydicom decodes what somebody asks for and nothing else. It reads little endian, explicit or implicit,
which is every transfer syntax in use but Deflated and Big Endian (PS3.5 §A). Every step is bounded: no length
is believed before it is compared with the bytes that are there.
"""

from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Any

from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import FileMetaDataset
from pydicom.tag import BaseTag, Tag

from worker.defects import Unusable

#: A header of a thousand-frame image is some MiB. Deeper or longer than this is an attack or an accident.
DEPTH_LIMIT = 32
ELEMENT_LIMIT = 200_000

#: Pixel Data, Float Pixel Data, Double Float Pixel Data: where the header ends for us.
PIXEL_TAGS = frozenset({0x7FE00010, 0x7FE00008, 0x7FE00009})
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
# PS3.5 §7.1.2: these have two reserved bytes and a length of four.
_LONG = {code: code.decode() for code in b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()}
_SHORT = {
    code: code.decode() for code in b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
}
_EXPLICIT = Struct("<HH2sH").unpack_from
_IMPLICIT = Struct("<HHL").unpack_from
_LENGTH = Struct("<L").unpack_from
# A header is some hundred elements and a series some hundred headers. Making a named tuple through its own
# class checks nothing more and takes three times as long.
_raw = tuple.__new__


class HeaderUnreadable(Unusable):
    """The bytes are not a data set that this reader believes."""


class MoreBytes(Exception):
    """The buffer ends inside the header; ask again with more of the file."""


@lru_cache(maxsize=4096)
def _tag(value: int) -> BaseTag:
    """One object per tag, of which a series repeats the same hundred in every file."""
    return BaseTag(value)


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Where the pixel data is. `length` is None for encapsulated (compressed) data."""

    tag: int
    offset: int  #: of the value, from the start of the buffer
    length: int | None


def read_elements(  # noqa: PLR0912 - the hot loop; every call in it would be paid a hundred times per file
    buffer: bytes, start: int, *, implicit: bool, whole: bool
) -> tuple[Dataset, PixelElement | None]:
    """The elements from `start` to the pixel data, raw, and where the pixel data is.

    `whole` says that the buffer holds the file to its end; else a buffer that ends too early raises
    `MoreBytes`. Raises `HeaderUnreadable`.
    """
    elements: dict[BaseTag, DataElement | RawDataElement] = {}
    position, end = start, len(buffer)
    pixel = None
    vr: str | None
    safe = end - 12  # Up to here an element's header is whole, whatever its kind.
    while position < end:
        # The common case of `_element`, written out: this loop is most of the time that a header takes.
        code = buffer[position + 4 : position + 6]
        if position <= safe and not implicit and code in _SHORT:
            group, element, _, length = _EXPLICIT(buffer, position)
            tag, vr, value = _tag(group << 16 | element), _SHORT[code], position + 8
        else:
            try:
                tag, vr, length, value = _element(buffer, position, implicit)
            except MoreBytes:
                if whole:
                    raise HeaderUnreadable(
                        f"the file ends inside an element's header, at byte {position}"
                    ) from None
                raise
        if tag in PIXEL_TAGS:
            pixel = PixelElement(tag, value, None if length == _UNDEFINED else length)
            break
        if length == _UNDEFINED:
            # Explicit UN of undefined length is an implicit sequence (PS3.5 §6.2.2 note).
            nested_implicit = implicit or vr == "UN"
            position, stop = _sequence_end(buffer, value, nested_implicit, whole)
            raw: tuple[Any, ...] = (
                tag,
                "SQ",
                stop - value,
                buffer[value:stop],
                value,
                nested_implicit,
                True,
                True,
                False,
            )
        else:
            position = value + length
            if position > end:
                if whole:
                    raise HeaderUnreadable(
                        f"{_name(tag)} claims {length} bytes; the file has {end - value} more"
                    )
                raise MoreBytes
            if (
                length > 65_536 and buffer[value : value + 4] == b"\xfe\xff\x00\xe0"
            ):  # It begins with an item.
                _count_elements(buffer, value, position, implicit)
            raw = (tag, vr, length, buffer[value:position], value, implicit, True, True, False)
        if tag in elements:
            # Each at most once (PS3.5 §7.1): the node files by the first it sees, and this reader must not
            # put the result of one study into another.
            raise HeaderUnreadable(f"{_name(tag)} is there twice")
        elements[tag] = _raw(RawDataElement, raw)
        if len(elements) > ELEMENT_LIMIT:
            raise HeaderUnreadable(f"more than {ELEMENT_LIMIT} elements")
    else:
        if not whole:
            raise MoreBytes

    dataset = Dataset(elements)
    character_set = dataset.get("SpecificCharacterSet") or "iso8859"
    try:
        encodings = convert_encodings(character_set)
    except (LookupError, ValueError, TypeError) as error:  # it ends up as the name of a Python codec
        raise HeaderUnreadable(f"unknown Specific Character Set {character_set!r}") from error
    dataset.set_original_encoding(implicit, True, encodings)
    return dataset, pixel


def value_of(dataset: Dataset, keyword: str) -> Any:
    """The decoded value of an attribute, None where it is absent. Not for text of a character set.

    Elements are decoded when they are asked for, and pydicom raises whatever broken bytes provoke. Here that
    becomes `HeaderUnreadable`, in this one place. The slices of a series say mostly the same, so what was
    decoded once is remembered by its bytes; callers only read what they get.
    """
    tag = _keyword_tag(keyword)
    try:
        raw = dataset.get_item(tag)
        if raw is None:
            return None
        if isinstance(raw, RawDataElement) and raw.value is not None and raw.length <= 256:
            return _decoded(tag, raw.VR, raw.value, raw.is_implicit_VR, raw.is_little_endian)
        return dataset[tag].value
    except Exception as error:
        raise HeaderUnreadable(f"{keyword} cannot be decoded: {error}") from error


def has(dataset: Dataset, keyword: str) -> bool:
    """Whether the attribute is there, empty or not. pydicom's `in` looks the keyword up each time."""
    return dataset.get_item(_keyword_tag(keyword)) is not None


@lru_cache(maxsize=256)
def _keyword_tag(keyword: str) -> BaseTag:
    return Tag(keyword)


@lru_cache(maxsize=8192)
def _decoded(tag: BaseTag, vr: str | None, value: bytes, implicit: bool, little: bool) -> Any:
    raw = RawDataElement(tag, vr, len(value), value, 0, implicit, little)
    return convert_raw_data_element(raw).value


def numbers_of(dataset: Dataset, keyword: str) -> list[float]:
    """The value as numbers, [] where it is absent or empty. Raises `HeaderUnreadable`."""
    value = value_of(dataset, keyword)
    if value is None or value == "":
        return []
    try:
        # DS of one value is a number, of several a list of them.
        return [float(number) for number in (value if hasattr(value, "__iter__") else [value])]
    except (TypeError, ValueError) as error:
        raise HeaderUnreadable(f"{keyword} is not made of numbers") from error


def read_file_meta(buffer: bytes) -> tuple[FileMetaDataset, int]:
    """The file meta information (PS3.10 §7.1) and where the data set begins. Raises `HeaderUnreadable`."""
    if buffer[128:132] != b"DICM":
        raise HeaderUnreadable("it is not a DICOM file: there is no DICM at byte 128")
    meta: dict[BaseTag, DataElement | RawDataElement] = {}
    position = 132
    # Group 0002 is explicit little endian, and its own length element is sometimes wrong: count by the tags.
    while buffer[position : position + 2] == b"\x02\x00":
        tag, vr, length, value = _element(buffer, position, False)
        position = value + length
        if position > len(buffer):
            raise MoreBytes
        meta[tag] = RawDataElement(tag, vr, length, buffer[value:position], value, False, True)
    return FileMetaDataset(meta), position


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _element(buffer: bytes, position: int, implicit: bool) -> tuple[BaseTag, str | None, int, int]:
    """(tag, VR, length, offset of the value) of the element at `position`."""
    if position + 12 > len(buffer):  # An element of 8 bytes and no value may end the buffer.
        buffer, shift = buffer[position:] + b"\0\0\0\0", position
        if len(buffer) < 12:
            raise MoreBytes
        tag, vr, length, value = _element(buffer, 0, implicit)
        if value + shift > position + len(buffer) - 4:
            raise MoreBytes
        return tag, vr, length, value + shift
    if not implicit:
        group, element, code, length = _EXPLICIT(buffer, position)
        if code in _SHORT:
            return _tag(group << 16 | element), _SHORT[code], length, position + 8
        if code in _LONG:
            return _tag(group << 16 | element), _LONG[code], _LENGTH(buffer, position + 8)[0], position + 12
        if group != 0xFFFE:  # Items have no VR in any syntax (PS3.5 §7.5).
            raise HeaderUnreadable(
                f"{_name(group << 16 | element)} at byte {position} has no value representation"
            )
    group, element, length = _IMPLICIT(buffer, position)
    return _tag(group << 16 | element), None, length, position + 8


def _sequence_end(buffer: bytes, start: int, implicit: bool, whole: bool) -> tuple[int, int]:
    """(offset after the delimiter, offset of the delimiter) of a sequence of undefined length at `start`."""
    # Each entry is a sequence or item still open. Defined lengths are stepped over without looking inside.
    open_ends = [_SEQUENCE_END]
    position = start
    try:
        for _ in range(ELEMENT_LIMIT):
            tag, vr, length, value = _element(buffer, position, implicit)
            if tag == open_ends[-1]:
                open_ends.pop()
                if not open_ends:
                    return value, position
                position = value
            elif length == _UNDEFINED:
                # An item opens in a sequence, a sequence in an item: each waits for its own delimiter.
                if (tag == _ITEM) != (open_ends[-1] == _SEQUENCE_END) or tag in (_ITEM_END, _SEQUENCE_END):
                    raise HeaderUnreadable(
                        f"sequence at byte {start}: {_name(tag)} at byte {position} is out of place"
                    )
                if vr == "UN":
                    raise HeaderUnreadable(f"sequence at byte {start}: a nested sequence of unknown encoding")
                open_ends.append(_ITEM_END if tag == _ITEM else _SEQUENCE_END)
                if len(open_ends) > 2 * DEPTH_LIMIT:
                    raise HeaderUnreadable(f"sequence at byte {start} is nested deeper than {DEPTH_LIMIT}")
                position = value
            else:
                position = value + length
                if position > len(buffer):
                    raise MoreBytes  # noqa: TRY301 - as `_element` does
    except MoreBytes:
        if whole:
            raise HeaderUnreadable(f"the sequence at byte {start} never ends") from None
        raise
    raise HeaderUnreadable(f"the sequence at byte {start} holds more than {ELEMENT_LIMIT} elements")


def _count_elements(buffer: bytes, start: int, end: int, implicit: bool) -> None:
    """Refuse a long sequence that consists of nothing but headers: pydicom makes an object of each."""
    position, seen = start, 0
    while position < end:
        try:
            tag, vr, length, value = _element(buffer, position, implicit)
        except MoreBytes:
            return
        # Step into items and sequences, over everything else.
        inside = tag in (_ITEM, _ITEM_END, _SEQUENCE_END) or vr == "SQ" or length == _UNDEFINED
        position = value if inside else value + length
        seen += 1
        if seen > ELEMENT_LIMIT:
            raise HeaderUnreadable(f"the sequence at byte {start} holds more than {ELEMENT_LIMIT} elements")
