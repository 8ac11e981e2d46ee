"""The attributes that we file an instance under, read from bytes that may be wrong or hostile.

This is not a DICOM parser. It walks the top level of a data set once, without copying it, skips everything
that it does not keep, and stops at the pixel data. It makes no objects per element, and believes no length
that the bytes at hand do not cover. It follows sequences into their items to find their end, and to count:
a full parser can be made to work for minutes by four megabytes of empty items, so a data set of such a shape
is told apart here, where counting costs little, and no parser is let near it.
"""

import struct
from collections.abc import Generator, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from pydicom.charset import decode_bytes, python_encoding
from pydicom.datadict import dictionary_keyword, dictionary_VR, tag_for_keyword

from dicom_node.contexts import transfer_syntax
from dicom_node.limits import DataSetSettings
from ledger.errors import StudyError
from ledger.identifiers import Uid

_ANY_SITE = DataSetSettings()
#: What is held was judged when it came, by the limits that were in force then.
HELD = DataSetSettings(
    depth_max=1000,
    items_max=1 << 40,
    elements_max=1 << 40,
    text_bytes_max=1 << 40,
    values_max=1 << 40,
)

Headers = Mapping[str, str]  #: keyword → text; several values are joined by a backslash, as on the wire

# An enhanced CT has about 17 and 60 in its functional groups.
_ITEMS_PER_FRAME, _ELEMENTS_PER_FRAME = 40, 200
_FRAME_BYTES_MINIMUM = 4096  # A frame without so many bytes of data set is not one that counts.
_LEVEL_BYTES_MINIMUM = 16  # A sequence within an item costs so much: its own header and that of its item.
_LONG_VALUE = 65_534  # bytes; only longer ones can have more values than they may
_VALUE_KEPT_MAXIMUM = 1024  # bytes; longer values are no names of anything
_KEPT_MAXIMUM = 1000  # values

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_FIRST_PIXELS = 0x7FE00000  # (7FE0,xxxx): nothing that we need comes behind it
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_SPECIFIC_CHARACTER_SET = 0x00080005
_NUMBER_OF_FRAMES = 0x00280008

_TAG = struct.Struct("<HH")
_IMPLICIT = struct.Struct("<HHI")
_EXPLICIT_SHORT = struct.Struct("<HH2sH")
_LONG_LENGTH = struct.Struct("<I")

# Explicit VRs with two reserved bytes and a length of 32 bits (PS3.5 §7.1.2).
_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"}
    | {b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
_NUMBERS = {b"US": "H", b"SS": "h", b"UL": "I", b"SL": "i", b"FL": "f", b"FD": "d", b"UV": "Q", b"SV": "q"}
_TEXTS = frozenset({b"AE", b"AS", b"CS", b"DA", b"DS", b"DT", b"IS", b"TM", b"UI", b"UR"})
# Only these follow Specific Character Set (PS3.5 §6.1.2.2).
_LOCAL_TEXTS = frozenset({b"LO", b"LT", b"PN", b"SH", b"ST", b"UC", b"UT"})
_ONE_VALUE = frozenset({b"LT", b"ST", b"UR", b"UT"})  # A backslash is a character of theirs (PS3.5 §6.2).


class HeaderUnreadable(StudyError):
    """The data set cannot be read as DICOM. The message says where and why, and quotes no value."""


class UnsafeDataSet(HeaderUnreadable):
    """The data set is of a shape that no scanner writes and parsers suffer from: see `[data_set]`."""


class MoreNeeded(Exception):
    """The beginning of the data set was not enough: more of it has to be looked at."""


class _Element(NamedTuple):
    tag: int
    vr: bytes  #: b"" where implicit VR does not say
    start: int  #: of the value
    length: int  #: may be _UNDEFINED


class _Level(NamedTuple):
    """A sequence, or an item of one, that the walker is in."""

    among_items: bool  #: or among the elements of an item
    implicit_vr: bool  #: in there
    end: int  #: where it ends at the latest
    defined: bool  #: It ends there, and without a delimiter.
    fragments: bool  #: Its items hold encapsulated pixel data (PS3.5 §A.4), not elements.


def read_headers(
    data: bytes | bytearray | memoryview,
    syntax: Uid,
    *,
    whole: int | None = None,
    shape: DataSetSettings = _ANY_SITE,
) -> Headers:
    """The top-level attributes of the data set `data` that have a keyword and at most 1 KiB of value.

    Where `data` is only the beginning of a data set, `whole` is the length of all of it. Raises
    `HeaderUnreadable`, and nothing else, for whatever cannot be read, its `UnsafeDataSet` for what is beyond
    `shape`, and `MoreNeeded` where the pixel data do not begin within that beginning; `data` is never copied.
    """
    known = transfer_syntax(str(syntax))
    if known is None:
        raise HeaderUnreadable(f"transfer syntax {syntax} is not one that this node reads")
    with memoryview(data) as view, view.cast("B") as octets:
        size = len(octets) if whole is None else whole
        return _kept(_Walker(octets, implicit_vr=known.implicit_vr, whole=size, shape=shape))


def _kept(walker: "_Walker") -> Headers:
    kept: dict[str, tuple[bytes, bytes]] = {}
    charset = b""
    data = walker.data
    for element in walker.top_level():
        tag, vr, start, length = element
        if not 0 < length <= _VALUE_KEPT_MAXIMUM:
            if _LONG_VALUE < length != _UNDEFINED:
                walker.check_text(element)
            continue
        if start + length > len(data):
            raise MoreNeeded("the beginning of the data set ends before its pixel data")
        keyword, dictionary_vr = _names(tag)
        if not keyword:
            continue
        if keyword in kept:
            # Each at most once (PS3.5 §7.1): two readers must not file one instance under two studies.
            raise HeaderUnreadable(f"element {_name(tag)} is there twice")
        if len(kept) < _KEPT_MAXIMUM:
            value = bytes(data[start : start + length])
            # UN is what a converter writes that does not know the element: then the dictionary knows better.
            kept[keyword] = (dictionary_vr if vr in (b"", b"UN") else vr, value)
            if tag == _SPECIFIC_CHARACTER_SET:
                charset = value
    encodings = _encodings(charset)
    return {keyword: _text(vr, value, encodings) for keyword, (vr, value) in kept.items()}


def read_items(
    data: bytes | memoryview, syntax: Uid, wanted: frozenset[str], *, shape: DataSetSettings = _ANY_SITE
) -> Iterator[tuple[str, Headers]]:
    """Each item of the top-level sequences: the keyword of its sequence, and what the item itself says.

    At last comes, under the empty keyword, what is said at the top level. Only the `wanted` keywords are
    read, of sequences and of values of at most 1 KiB; all else is stepped over, and so are sequences within
    items. One item at a time exists, so that whoever finds nothing in one can stop before the next is read.
    Raises `HeaderUnreadable`, its `UnsafeDataSet` for what is beyond `shape`.
    """
    known = transfer_syntax(str(syntax))
    if known is None:
        raise HeaderUnreadable(f"transfer syntax {syntax} is not one that this node reads")
    octets = memoryview(data).cast("B")
    walker = _Walker(octets, implicit_vr=known.implicit_vr, whole=len(octets), shape=shape)
    all_of_it = _Level(False, known.implicit_vr, len(octets), defined=True, fragments=False)
    _, said = yield from walker.said(0, all_of_it, _tags(wanted), charset=b"")
    yield "", said


class PixelPlace(NamedTuple):
    """Where the pixel data of a data set is."""

    tag: int  #: (7FE0,0010), or the float ones (7FE0,0008) and (7FE0,0009)
    start: int  #: of the value, in bytes from the start of the data set
    length: int | None  #: in bytes; None where it is encapsulated, in items of its own


def find_pixels(data: bytes | memoryview, syntax: Uid) -> PixelPlace | None:
    """Where the pixel data of the data set `data` is; None where it has none. Raises `HeaderUnreadable`."""
    known = transfer_syntax(str(syntax))
    if known is None:
        raise HeaderUnreadable(f"transfer syntax {syntax} is not one that this node reads")
    view = memoryview(data).cast("B")
    walker = _Walker(view, implicit_vr=known.implicit_vr, whole=len(view), shape=HELD)
    for element in walker.top_level(pixels=True):
        if element.tag in _PIXELS:
            return PixelPlace(element.tag, element.start, _defined(element.length))
    return None


def _defined(length: int) -> int | None:
    return None if length == _UNDEFINED else length


class _Walker:
    """Goes from element to element and never beyond the end."""

    def __init__(self, data: memoryview, *, implicit_vr: bool, whole: int, shape: DataSetSettings) -> None:
        self.data = data
        self._whole = whole  # bytes of the data set, of which `data` may be the beginning
        self._implicit_vr = implicit_vr
        self._shape = shape
        self._elements, self._elements_max = 0, shape.elements_max
        self._items, self._items_max = 0, shape.items_max

    def top_level(self, *, pixels: bool = False) -> Iterator[_Element]:
        """The elements before the pixel data, in the order of the bytes; with `pixels`, that one too."""
        position, end = 0, self._whole
        data, explicit_until = self.data, 0 if self._implicit_vr else len(self.data) - 8
        while position < end:
            # Nearly all elements, without a call for each: a short value, of explicit VR, that is here.
            if position < explicit_until:
                group, number, vr, length = _EXPLICIT_SHORT.unpack_from(data, position)
                start, tag = position + 8, group << 16 | number
                if vr in _SHORT_VRS and group < 0x7FE0 and tag != _NUMBER_OF_FRAMES:
                    position = start + length
                    if position <= len(data) and self._elements < self._elements_max:
                        self._elements += 1
                        yield _Element(tag, vr, start, length)
                        continue
                    position = start - 8
            element = self._element(position, end, implicit_vr=self._implicit_vr)
            if element.tag >= _FIRST_PIXELS and not pixels:
                return
            yield element
            if element.tag in _PIXELS:
                return
            if element.tag == _NUMBER_OF_FRAMES:
                self._allow_for_frames(element)
            if element.length == _UNDEFINED:
                position = self._end_of_sequence(element)
            else:
                position = element.start + element.length
                if self._is_worth_counting(element):
                    self._end_of_sequence(element)

    def said(
        self, position: int, level: _Level, wanted: "_Wanted", *, charset: bytes, entering: bool = True
    ) -> Generator[tuple[str, Headers], None, tuple[int, Headers]]:
        """Each item of the `wanted` sequences from `position` on, unless they are not entered.

        In the end: where the bytes after `level` begin, and the `wanted` values of its elements. `charset` is
        Specific Character Set (0008,0005) as it is around.
        """
        kept: dict[str, tuple[bytes, bytes]] = {}
        while not level.defined or position < level.end:
            element = self._element(position, level.end, implicit_vr=level.implicit_vr)
            tag, vr, start, length = element
            if tag == _ITEM_END and not level.defined:
                position = start
                break
            if tag >> 16 == 0xFFFE:
                raise HeaderUnreadable(f"an item is broken at byte {position}: {_name(tag)}")
            keyword, dictionary_vr = wanted.get(tag, ("", b""))
            if keyword in kept:
                # Each at most once (PS3.5 §7.1), and whoever read the last would read another list.
                raise HeaderUnreadable(f"element {_name(tag)} is there twice")
            if dictionary_vr == b"SQ" and entering:
                position = yield from self._items_of(element, level, wanted, charset)
                kept[keyword] = (b"SQ", b"")
            elif length == _UNDEFINED:
                position = self._end_of_sequence(element)
                if position > level.end:
                    raise HeaderUnreadable(f"element {_name(tag)} ends behind the item that it is in")
            else:
                position = start + length
                if keyword and 0 < length <= _VALUE_KEPT_MAXIMUM:
                    value = bytes(self.data[start:position])
                    kept[keyword] = (dictionary_vr if vr in (b"", b"UN") else vr, value)
                    if tag == _SPECIFIC_CHARACTER_SET:
                        charset = value
        encodings = _encodings(charset)
        return position, {keyword: _text(vr, value, encodings) for keyword, (vr, value) in kept.items()}

    def _items_of(
        self, sequence: _Element, around: _Level, wanted: "_Wanted", charset: bytes
    ) -> Generator[tuple[str, Headers], None, int]:
        """Each item of one sequence; in the end, where the bytes after it begin."""
        if sequence.vr not in (b"", b"SQ", b"UN"):
            raise HeaderUnreadable(f"element {_name(sequence.tag)} is no sequence")
        level = self._level(sequence, around.end, implicit_vr=around.implicit_vr, among_items=True)
        position = sequence.start
        while not level.defined or position < level.end:
            element = self._element(position, level.end, implicit_vr=level.implicit_vr)
            if element.tag == _SEQUENCE_END and not level.defined:
                return element.start
            if element.tag != _ITEM:
                raise HeaderUnreadable(f"a sequence is broken at byte {position}: {_name(element.tag)}")
            self._count_item()
            item = self._level(element, level.end, implicit_vr=level.implicit_vr, among_items=False)
            position, said = yield from self.said(
                element.start, item, wanted, charset=charset, entering=False
            )
            yield wanted[sequence.tag][0], said
        return position

    def check_text(self, element: _Element) -> None:
        """Raise `UnsafeDataSet` where a long value is text, and longer or of more values than it may be."""
        vr = element.vr
        if vr in (b"", b"UN"):
            vr = _names(element.tag)[1]
        if vr not in _TEXTS and vr not in _LOCAL_TEXTS:
            return
        if element.length > self._shape.text_bytes_max:
            raise UnsafeDataSet(
                f"element {_name(element.tag)} has {element.length} bytes of text, and "
                f"{self._shape.text_bytes_max} are let in ([data_set] text_bytes_max)"
            )
        if vr in _ONE_VALUE:
            return
        if element.start + element.length > len(self.data):
            raise MoreNeeded("a long value ends behind the beginning of the data set")
        value = bytes(self.data[element.start : element.start + element.length])
        if (values := value.count(b"\\") + 1) > self._shape.values_max:
            raise UnsafeDataSet(
                f"element {_name(element.tag)} has {values} values, and {self._shape.values_max} are let in "
                "([data_set] values_max)"
            )

    def _allow_for_frames(self, element: _Element) -> None:
        """Functional groups come once for each frame (PS3.3 §C.7.6.16): with the frames grow the limits."""
        text = bytes(self.data[element.start : element.start + min(element.length, 12)])
        try:
            said = int(text.strip(b" \0"))
        except ValueError:
            return
        frames = max(0, min(said, self._whole // _FRAME_BYTES_MINIMUM))
        self._items_max = self._shape.items_max + _ITEMS_PER_FRAME * frames
        self._elements_max = self._shape.elements_max + _ELEMENTS_PER_FRAME * frames

    def _is_worth_counting(self, element: _Element) -> bool:
        """Whether this is a sequence of defined length that could be nested too deep or have many items."""
        if element.length <= _LEVEL_BYTES_MINIMUM * self._shape.depth_max:
            return False
        return element.vr == b"SQ" or (not element.vr and _names(element.tag)[1] == b"SQ")

    def _element(self, position: int, end: int, *, implicit_vr: bool) -> _Element:
        """The element whose tag is at `position`; its value, if its length is defined, ends before `end`."""
        if position + 8 > end:
            raise HeaderUnreadable(f"the data set ends inside the element at byte {position}")
        if position + 12 > len(self.data) < end:
            raise MoreNeeded("the beginning of the data set ends before its pixel data")
        group, number = _TAG.unpack_from(self.data, position)
        tag = group << 16 | number
        self._elements += group != 0xFFFE  # Items are counted by themselves.
        if self._elements > self._elements_max:
            raise UnsafeDataSet(
                f"there are more than {self._elements_max} elements ([data_set] elements_max)"
            )
        vr, start = b"", position + 8
        if implicit_vr or group == 0xFFFE:  # Items and delimiters never have a VR (PS3.5 §7.5).
            length = int(_LONG_LENGTH.unpack_from(self.data, position + 4)[0])
        else:
            _, _, vr, length = _EXPLICIT_SHORT.unpack_from(self.data, position)
            if vr in _LONG_VRS:
                if position + 12 > end:
                    raise HeaderUnreadable(f"the data set ends inside the element at byte {position}")
                length, start = int(_LONG_LENGTH.unpack_from(self.data, position + 8)[0]), position + 12
            elif vr not in _SHORT_VRS:
                raise HeaderUnreadable(f"element {_name(tag)} at byte {position} has no known VR")
        if length != _UNDEFINED and start + length > end:
            raise HeaderUnreadable(
                f"element {_name(tag)} at byte {position} says {length} bytes, but {end - start} are left"
            )
        return _Element(tag, vr, start, length)

    def _end_of_sequence(self, sequence: _Element) -> int:
        """Where the bytes after a sequence begin. The stack is our own: no recursion."""
        if sequence.length == _UNDEFINED and sequence.vr not in (b"", b"SQ", b"UN", b"OB", b"OW"):
            raise HeaderUnreadable(f"element {_name(sequence.tag)} may not have undefined length")
        levels = [self._level(sequence, self._whole, implicit_vr=self._implicit_vr, among_items=True)]
        position = sequence.start
        while levels:
            level = levels[-1]
            if level.defined and position >= level.end:
                levels.pop()
                continue
            try:
                position = self._step(position, levels)
            except UnsafeDataSet:
                raise
            except HeaderUnreadable:
                # What is broken within a known length is nobody's business here: it can be stepped over.
                outermost = next((index for index, each in enumerate(levels) if each.defined), None)
                if outermost is None:
                    raise
                position = levels[outermost].end
                del levels[outermost:]
        return position

    def _step(self, position: int, levels: list[_Level]) -> int:
        """Where the element or item that comes after the one at `position` is; enters and leaves levels."""
        level = levels[-1]
        element = self._element(position, level.end, implicit_vr=level.implicit_vr)
        among_items = level.among_items
        if among_items and element.tag == _ITEM:
            self._count_item()
            if level.fragments and element.length != _UNDEFINED:
                return element.start + element.length
            enters = element.length > 0
        elif not level.defined and element.tag == (_SEQUENCE_END if among_items else _ITEM_END):
            levels.pop()
            return element.start
        elif among_items or element.tag >> 16 == 0xFFFE:
            raise HeaderUnreadable(f"a sequence is broken at byte {position}: {_name(element.tag)}")
        else:
            enters = element.length == _UNDEFINED or self._is_sequence(element)
        if not enters:
            if element.length > _LONG_VALUE:
                self.check_text(element)
            return element.start + element.length
        levels.append(
            self._level(element, level.end, implicit_vr=level.implicit_vr, among_items=not among_items)
        )
        if len(levels) > 2 * self._shape.depth_max:
            raise UnsafeDataSet(
                f"sequences are nested more than {self._shape.depth_max} deep ([data_set] depth_max)"
            )
        return element.start

    def _count_item(self) -> None:
        self._items += 1
        if self._items > self._items_max:
            raise UnsafeDataSet(
                f"there are more than {self._items_max} sequence items ([data_set] items_max)"
            )

    def _level(self, element: _Element, end: int, *, implicit_vr: bool, among_items: bool) -> _Level:
        defined = element.length != _UNDEFINED
        return _Level(
            among_items,
            # A UN of undefined length holds implicit VR, whatever is around it (PS3.5 §6.2.2 note 2).
            implicit_vr or element.vr == b"UN",
            element.start + element.length if defined else end,
            defined,
            element.vr in (b"OB", b"OW"),
        )

    def _is_sequence(self, element: _Element) -> bool:
        return element.length > 0 and (
            element.vr == b"SQ" or (not element.vr and _names(element.tag)[1] == b"SQ")
        )


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


@lru_cache(maxsize=4096)
def _names(tag: int) -> tuple[str, bytes]:
    """Keyword and VR of a standard element; an empty keyword for private, repeated and unknown ones."""
    # Overlays and curves repeat their keywords in groups 60xx and 50xx (PS3.5 §7.6).
    if tag >> 16 & 1 or tag >> 24 in (0x50, 0x60):
        return "", b"UN"
    try:
        return dictionary_keyword(tag), dictionary_VR(tag)[:2].encode("ascii")  # "US or SS" is read as US
    except KeyError:
        return "", b"UN"


_Wanted = Mapping[int, tuple[str, bytes]]  # tag → keyword and VR


@lru_cache(maxsize=64)
def _tags(keywords: frozenset[str]) -> _Wanted:
    """The tags of standard keywords, and that of Specific Character Set."""
    tags = [tag for keyword in keywords if (tag := tag_for_keyword(keyword)) is not None]
    return {tag: _names(tag) for tag in (_SPECIFIC_CHARACTER_SET, *tags)}


@lru_cache(maxsize=64)
def _encodings(charset: bytes) -> tuple[str, ...]:
    """The Python names of the terms of Specific Character Set; unknown ones count as ISO 8859-1."""
    terms = charset.decode("ascii", "replace").rstrip("\0 ").split("\\")
    return tuple(python_encoding.get(term.strip(" "), "iso8859") for term in terms)


@lru_cache(maxsize=1024)  # The slices of a series have nearly all of them in common.
def _text(vr: bytes, value: bytes, encodings: tuple[str, ...]) -> str:
    if vr in _NUMBERS:
        size = struct.calcsize(_NUMBERS[vr])
        numbers = struct.unpack(f"<{len(value) // size}{_NUMBERS[vr]}", value[: len(value) // size * size])
        return "\\".join(str(number) for number in numbers)
    if vr in _TEXTS:
        return value.decode("latin-1").strip(" \0")
    if vr in _LOCAL_TEXTS:
        return _decode(value, encodings).strip(" \0")
    if vr == b"AT":
        tags = struct.unpack(f"<{len(value) // 4 * 2}H", value[: len(value) // 4 * 4])
        pairs = zip(tags[::2], tags[1::2], strict=True)
        return "\\".join(f"{group:04X}{number:04X}" for group, number in pairs)
    return ""  # binary: it has a place in the file, not in a table


def _decode(value: bytes, encodings: tuple[str, ...]) -> str:
    if b"\x1b" in value:  # code extensions (PS3.5 §6.1.2.5): the only case that needs more than one codec
        try:
            return decode_bytes(value, list(encodings), {0x5C, 0x5E, 0x3D, 0x0A, 0x0D, 0x0C, 0x09})
        except Exception:  # noqa: S110
            pass
    try:
        return value.decode(encodings[0], "replace")
    except LookupError:
        return value.decode("latin-1")
