"""WADO-RS (PS3.18 §10.4): in which form an instance or a frame is given out, and its bytes.

What is stored is given as it is wherever the client takes that: no decoding, no copy, any size. Only where it
does not, a child process converts (see `reader`).
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.codecs import PLUGINS
from dicom_node.dicomweb.frames import compressed_frames, frame_bits, frame_count, native_frames, open_file
from dicom_node.dicomweb.media import DICOM, OCTETS, MediaRange
from dicom_node.dicomweb.readers import Readers
from dicom_node.dicomweb.refusals import NotAcceptable, NotHere
from dicom_node.dicomweb.zipped import ZIP
from dicom_node.peers import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN

_CHUNK = 1 << 18
_GATHERED = 1 << 20  # What a client that takes its answer slowly holds of our memory.
_NATIVE = frozenset({EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN})

#: Transfer syntax → media type of a single compressed frame (PS3.18 Table 8.7.3-5).
MEDIA: dict[str, str] = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
}


@dataclass(frozen=True, slots=True)
class Form:
    """How something is given out."""

    type: str  #: media type
    transfer_syntax: str
    converted: bool  #: not as it is stored
    multipart: bool

    @property
    def content_type(self) -> str:
        """What the part (or the answer, if it has but one) says of itself."""
        return f"{self.type}; transfer-syntax={self.transfer_syntax}"


def form_of_instance(ranges: Sequence[MediaRange], stored: str) -> Form:
    """The form that the client likes best of those that an instance stored in `stored` can have.

    Raises `NotAcceptable`. A client that names application/dicom without a transfer syntax asks for Explicit
    VR Little Endian (PS3.18 §8.7.3.3.2); one that takes anything gets what there is.
    """
    for each in ranges:
        if each.takes(DICOM):
            wanted = each.transfer_syntax or ("*" if each.type == "*/*" else EXPLICIT_LITTLE_ENDIAN)
            multipart = each.multipart or each.type == "*/*"
            if wanted in ("*", stored):
                return Form(DICOM, stored, False, multipart)
            if wanted == EXPLICIT_LITTLE_ENDIAN and (stored in _NATIVE or stored in PLUGINS):
                return Form(DICOM, EXPLICIT_LITTLE_ENDIAN, True, multipart)
    raise NotAcceptable(
        "instances are given as application/dicom in the transfer syntax that they are stored in (ask for "
        "transfer-syntax=*) or, where they can be decoded, in Explicit VR Little Endian"
    )


def wants_zip(ranges: Sequence[MediaRange]) -> bool:
    """Whether the client likes a ZIP file best: one that takes anything gets files of their own."""
    return bool(ranges) and ranges[0].type == ZIP and not ranges[0].multipart


def form_of_frames(ranges: Sequence[MediaRange], stored: str) -> Form:
    """The form that the client likes best of those that frames stored in `stored` can have.

    Raises `NotAcceptable`.
    """
    native = stored in _NATIVE
    own = OCTETS if native else MEDIA.get(stored, OCTETS)
    for each in ranges:
        wanted = each.transfer_syntax
        multipart = each.multipart or each.type == "*/*"
        as_stored = wanted in ("*", stored) or (wanted is None and (native or each.type != OCTETS))
        if each.takes(own) and as_stored:
            return Form(own, EXPLICIT_LITTLE_ENDIAN if native else stored, False, multipart)
        if each.takes(OCTETS):
            if wanted in ("*", stored):
                return Form(OCTETS, stored, False, multipart)
            if wanted in (None, EXPLICIT_LITTLE_ENDIAN) and (native or stored in PLUGINS):
                return Form(OCTETS, EXPLICIT_LITTLE_ENDIAN, not native, multipart)
    raise NotAcceptable(
        f"frames of this instance are given as {own} as they are stored (transfer-syntax={stored}) or, where "
        "they can be decoded, as application/octet-stream"
    )


def contents(path: Path) -> Iterator[bytes]:
    """The file, piece by piece. Raises `NotHere` where it has been deleted meanwhile."""
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise NotHere("the instance has just been deleted") from error
    with file:
        while piece := file.read(_CHUNK):
            yield piece


def instance(path: Path, form: Form, readers: Readers) -> Iterator[bytes]:
    """A file of Part 10 in `form`."""
    if form.converted:
        yield readers.ask({"do": "instance", "path": str(path)})
    else:
        yield from contents(path)


def frames(path: Path, numbers: list[int], form: Form, readers: Readers) -> Iterator[bytes]:
    """The frames `numbers` (from 1) in `form`, each whole. Raises `NotHere`, `NotAcceptable`."""
    file = open_file(path)
    if form.converted:
        for number in numbers:
            yield readers.ask({"do": "frame", "path": str(path), "frame": number - 1})
    elif file.pixels().length is None:
        yield from compressed_frames(file, numbers)
    else:
        yield from native_frames(file, numbers)


def number_of_frames(path: Path) -> int:
    """How many frames there are. Raises `NotHere` where the instance has no pixels at all."""
    file = open_file(path)
    place, headers = file.pixels(), file.headers()
    if place.length is not None:
        frame_bits(headers, place)
    return frame_count(headers)


def pixel_bytes(path: Path) -> Iterator[bytes]:
    """The uncompressed pixel data, whole, piece by piece."""
    file = open_file(path)
    place = file.pixels()
    assert place.length is not None
    for begin in range(place.start, place.start + place.length, _CHUNK):
        yield bytes(file.data_set[begin : min(begin + _CHUNK, place.start + place.length)])


def gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces: each costs a change of threads, and a part's head is small."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _GATHERED:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same, with the first piece made now: what goes wrong at once still gets a status."""
    first = next(pieces, b"")
    return itertools.chain([first], pieces)
