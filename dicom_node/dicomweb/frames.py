"""One frame out of a file, without reading the others (PS3.5 §8.2, §A.4).

Native frames lie one behind the other, in bits; compressed frames in items, whose order the offset tables
tell or the items themselves. Nothing is decoded here: this only reads lengths, none of which is believed
beyond the end of the file.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dicom_node.dicomweb.refusals import NotAcceptable, NotHere
from dicom_node.headers import HELD, Headers, HeaderUnreadable, PixelPlace, find_pixels, read_headers
from dicom_node.part10 import NotOurFile, read_file_meta
from ledger.identifiers import Uid

_META_MAXIMUM = 65_536
_ITEMS_MAXIMUM = 1_000_000
_SAMPLE_BITS = {0x7FE00008: 32, 0x7FE00009: 64}


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file of the spool, mapped: its bytes, and where its data set begins."""

    view: memoryview
    start: int
    transfer_syntax: Uid

    @property
    def data_set(self) -> memoryview:
        """Everything behind the File Meta Information."""
        return self.view[self.start :]

    def headers(self) -> Headers:
        """The top-level attributes. Raises `NotAcceptable` where they cannot be read."""
        try:
            return read_headers(self.data_set, self.transfer_syntax, shape=HELD)
        except HeaderUnreadable as error:
            raise NotAcceptable("the header of this instance cannot be read") from error

    def pixels(self) -> PixelPlace:
        """Where the pixel data is. Raises `NotHere` where there is none, `NotAcceptable`."""
        try:
            place = find_pixels(self.data_set, self.transfer_syntax)
        except HeaderUnreadable as error:
            raise NotAcceptable("the header of this instance cannot be read") from error
        if place is None:
            raise NotHere("this instance has no pixel data")
        return place


def open_file(path: Path) -> OpenFile:
    """The file at `path`. Raises `NotHere` where it has been deleted meanwhile, `NotAcceptable`."""
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise NotHere("the instance has just been deleted") from error
    with file:
        # Not closed by hand: it is unmapped with the last view of it, wherever that is.
        view = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    try:
        _, _, syntax, start = file_meta(view)
    except NotOurFile as error:
        raise NotAcceptable("the file of this instance is damaged") from error
    return OpenFile(view, start, syntax)


def file_meta(view: bytes | memoryview) -> tuple[Uid, Uid, Uid, int]:
    """SOP class, SOP instance and transfer syntax of any file of Part 10, and where its data set begins.

    Raises `NotOurFile` for what is none.
    """
    try:
        meta, start = read_file_meta(view)
    except NotOurFile:
        pass
    else:
        return meta.sop_class, meta.sop_instance, meta.transfer_syntax, start
    head = bytes(view[:_META_MAXIMUM])
    if head[128:132] != b"DICM":
        raise NotOurFile("this is no file of Part 10: there is no DICM at byte 128")
    values: dict[int, str] = {}
    position = 132
    try:
        # Group length is sometimes wrong: the group ends where another one begins.
        while head[position : position + 2] == b"\2\0":
            _, element, vr, length = struct.unpack_from("<HH2sH", head, position)
            position += 8
            if vr in (b"OB", b"UN", b"UT", b"OW", b"SQ"):
                (length,) = struct.unpack_from("<I", head, position)
                position += 4
            values[element] = head[position : position + length].decode("ascii", "replace")
            position += length
        uids = [Uid.parse(values[number]) for number in (0x0002, 0x0003, 0x0010)]
    except (struct.error, KeyError, ValueError) as error:
        raise NotOurFile("the File Meta Information is broken, too long or incomplete") from error
    return uids[0], uids[1], uids[2], position


def frame_count(headers: Headers) -> int:
    """Number of Frames (0028,0008); absent means one."""
    text = headers.get("NumberOfFrames", "1")
    return int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 10 else 1


def native_frames(file: OpenFile, numbers: list[int]) -> Iterator[bytes]:
    """The uncompressed frames `numbers` (from 1), each in whole bytes. Raises `NotHere`, `NotAcceptable`."""
    headers, place = file.headers(), file.pixels()
    bits = frame_bits(headers, place)
    assert place.length is not None
    check_numbers(numbers, min(frame_count(headers), place.length * 8 // bits))
    data = file.data_set
    for number in numbers:
        first = (number - 1) * bits
        begin, end = place.start + first // 8, place.start + (first + bits + 7) // 8
        piece = bytes(data[begin:end])
        if first % 8 or bits % 8:
            # Frames of single bits follow each other within a byte (PS3.5 §8.1.1).
            unpacked = np.unpackbits(np.frombuffer(piece, np.uint8), bitorder="little")
            piece = np.packbits(unpacked[first % 8 :][:bits], bitorder="little").tobytes()
        yield piece


def frame_bits(headers: Headers, place: PixelPlace) -> int:
    """How many bits an uncompressed frame has. Raises `NotAcceptable` where the header does not say."""
    try:
        rows, columns = int(headers["Rows"]), int(headers["Columns"])
        samples = int(headers.get("SamplesPerPixel", "1"))
        allocated = _SAMPLE_BITS.get(place.tag) or int(headers["BitsAllocated"])
    except (KeyError, ValueError) as error:
        raise NotAcceptable("the header does not say how large a frame is") from error
    # In YBR 4:2:2, two pixels share their colour (PS3.3 §C.7.6.3.1.2).
    if headers.get("PhotometricInterpretation") == "YBR_FULL_422" and samples == 3:
        samples = 2
    bits = rows * columns * samples * allocated
    if not 0 < bits <= (1 << 34):
        raise NotAcceptable("the header does not say how large a frame is")
    return bits


def compressed_frames(file: OpenFile, numbers: list[int]) -> Iterator[bytes]:
    """The compressed frames `numbers` (from 1), as they are stored. Raises `NotHere`, `NotAcceptable`."""
    count = frame_count(file.headers())
    check_numbers(numbers, count)
    frames = _fragments_of_frames(file.data_set, file.pixels().start, count)
    if len(frames) < count:
        raise NotAcceptable(f"the compressed pixel data holds {len(frames)} frames and claims {count}")
    for number in numbers:
        yield b"".join(bytes(file.data_set[begin:end]) for begin, end in frames[number - 1])


def _fragments_of_frames(data: memoryview, position: int, count: int) -> list[list[tuple[int, int]]]:
    """For each frame, where its fragments lie (PS3.5 §A.4). Raises `NotAcceptable`."""
    items = _items(data, position)
    if not items:
        raise NotAcceptable("the compressed pixel data has no items")
    (begin, end), fragments = items[0], items[1:]
    # An Extended Offset Table needs one fragment for each frame and an empty basic one (PS3.3 §C.7.6.3.1.8).
    if len(fragments) == count:
        return [[fragment] for fragment in fragments]
    if count == 1:
        return [fragments]
    frames: list[list[tuple[int, int]]] = []
    if end > begin:
        offsets = struct.unpack_from(f"<{(end - begin) // 4}I", data, begin)
        first = end  # Offsets are counted from the item after the table.
        starts = {first + offset + 8 for offset in offsets}
        for fragment in fragments:
            if fragment[0] in starts or not frames:
                frames.append([])
            frames[-1].append(fragment)
        return frames
    # No table: a frame ends with its End of Image (JPEG) or End of Codestream (JPEG 2000) marker.
    whole = True
    for fragment in fragments:
        if whole:
            frames.append([])
        frames[-1].append(fragment)
        whole = b"\xff\xd9" in bytes(data[max(fragment[0], fragment[1] - 10) : fragment[1]])
    return frames


def _items(data: memoryview, position: int) -> list[tuple[int, int]]:
    """Where the contents of the items from `position` on begin and end. Raises `NotAcceptable`."""
    items: list[tuple[int, int]] = []
    while position + 8 <= len(data) and len(items) <= _ITEMS_MAXIMUM:
        group, element, length = struct.unpack_from("<HHI", data, position)
        position += 8
        if (group, element) == (0xFFFE, 0xE0DD):
            return items
        if (group, element) != (0xFFFE, 0xE000) or position + length > len(data):
            break
        items.append((position, position + length))
        position += length
    raise NotAcceptable("the compressed pixel data is broken")


def check_numbers(numbers: list[int], count: int) -> None:
    """Raise `NotHere` where one of `numbers` is beyond the frames that there are."""
    if any(not 1 <= number <= count for number in numbers):
        raise NotHere(f"this instance has frames 1 to {count}")
