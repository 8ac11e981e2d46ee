"""Bodies of several parts (RFC 2046 §5.1), read and written piece by piece.

Reading: a boundary may be split between two pieces of the body, so the last few bytes of each piece wait for
the next one. Nothing is kept but that, so a part may be of any size.
"""

import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from dicom_node.dicomweb.media import parse
from dicom_node.dicomweb.refusals import BadRequest

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046 §5.1.1
_HEADERS_MAXIMUM = 16_384
# Bytes that are looked at together: each part moves those behind it, and parts may be tiny.
_STRIDE = 65_536


@dataclass(frozen=True, slots=True)
class PartBegins:
    """A part begins; its media type and parameters."""

    type: str
    parameters: dict[str, str]


class PartData(NamedTuple):
    """Some bytes of the part that began last."""

    data: bytes


class PartEnds(NamedTuple):
    """The part is whole."""


Event = PartBegins | PartData | PartEnds


class MultipartReader:
    """Feed it a body; it tells what is in it. Raises `BadRequest` where the body is none."""

    def __init__(self, boundary: str) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise BadRequest("the boundary of the multipart body is missing or malformed")
        self._delimiter = b"\r\n--" + boundary.encode()
        # The first delimiter may stand at the very beginning.
        self._buffer = b"\r\n"
        self._state = "preamble"

    def feed(self, piece: bytes) -> Iterator[Event]:
        """What the next piece of the body brings."""
        for begin in range(0, len(piece), _STRIDE):
            self._buffer += piece[begin : begin + _STRIDE]
            yield from self._steps()

    def close(self) -> None:
        """The body ends. Raises `BadRequest` where its last delimiter has not come."""
        if self._state != "epilogue":
            raise BadRequest("the multipart body ends before its last boundary")

    def _steps(self) -> Iterator[Event]:
        while True:
            before = (self._state, len(self._buffer))
            yield from self._step()
            if (self._state, len(self._buffer)) == before:
                return

    def _step(self) -> Iterator[Event]:
        if self._state in ("preamble", "data"):
            yield from self._until_delimiter()
        elif self._state == "delimiter":
            self._after_delimiter()
        elif self._state == "headers":
            yield from self._headers()
        else:  # What comes after the last delimiter is nobody's.
            self._buffer = b""

    def _until_delimiter(self) -> Iterator[Event]:
        at = self._buffer.find(self._delimiter)
        sure = at if at >= 0 else max(0, len(self._buffer) - len(self._delimiter) + 1)
        if self._state == "data" and sure:
            yield PartData(self._buffer[:sure])
        if at >= 0:
            if self._state == "data":
                yield PartEnds()
            self._buffer, self._state = self._buffer[at + len(self._delimiter) :], "delimiter"
        else:
            self._buffer = self._buffer[sure:]

    def _after_delimiter(self) -> None:
        if self._buffer[:2] == b"--":
            self._buffer, self._state = b"", "epilogue"
            return
        line, end, rest = self._buffer.partition(b"\r\n")
        if end and not line.strip(b" \t"):
            self._buffer, self._state = b"\r\n" + rest, "headers"
        elif end or len(self._buffer) > _HEADERS_MAXIMUM:
            raise BadRequest("a boundary of the multipart body does not end its line")

    def _headers(self) -> Iterator[Event]:
        text, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            if len(self._buffer) > _HEADERS_MAXIMUM:
                raise BadRequest("the headers of a part are too long")
            return
        if len(text) > _HEADERS_MAXIMUM:
            raise BadRequest("the headers of a part are too long")
        type, parameters = "application/octet-stream", dict[str, str]()
        for line in text.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            if name.strip().lower() == "content-type":
                type, parameters = parse(value)
        self._buffer, self._state = rest, "data"
        yield PartBegins(type, parameters)


def new_boundary() -> str:
    """A boundary that is in none of the parts: nobody can have put it there."""
    return secrets.token_hex(16)


def written(boundary: str, parts: Iterable[tuple[str, str | None, Iterable[bytes]]]) -> Iterator[bytes]:
    """A body of `parts`: content type, location and contents of each."""
    for content_type, location, contents in parts:
        head = f"--{boundary}\r\nContent-Type: {content_type}\r\n"
        if location is not None:
            head += f"Content-Location: {location}\r\n"
        yield f"{head}\r\n".encode()
        yield from contents
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()
