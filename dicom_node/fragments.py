"""P-DATA-TF cut in place: from the bytes as they come off the socket to pieces of presentation data values.

A PDU is never gathered whole, and nothing is copied: a piece is a view of the caller's buffer, and one value
comes in as many pieces as reads were needed for it. So what a peer may say of lengths costs no memory here.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from dicom_node.upper_layer import PDUType, PeerConfused

_PDU = struct.Struct(">BxI")  # type, length (PS3.8 §9.3.5)
_VALUE = struct.Struct(">IBB")  # length, context, message control header (PS3.8 §9.3.5.1, §E.2)
_HEADER_BYTES = 6  # of either
_COMMAND, _LAST = 1, 2


class Piece(NamedTuple):
    """Some bytes of one fragment."""

    context_id: int
    is_command: bool  #: of the command set, not of the data set
    ends: bool  #: They are the last of the last fragment: command or data set is whole.
    data: memoryview


class Fragments:
    """Where one association's stream of P-DATA-TF stands."""

    def __init__(self, maximum_length: int) -> None:
        self._maximum_length = maximum_length
        self._pdu_left = self._value_left = 0  # bytes still to come
        self._context_id = self._control = 0
        self.used = 0  #: bytes of the last buffer that are dealt with
        self.more = False  #: There is something behind the piece that was given last.
        self.other = False  #: What follows is a PDU of another type.
        self.pdus = 0  #: begun so far

    @property
    def inside(self) -> bool:
        """Whether a PDU has begun and not ended."""
        return self._pdu_left > 0

    def cut(self, data: memoryview) -> Iterator[Piece]:
        """The pieces in `data`, which has to begin where `used` said that the last one ended.

        Raises `PeerConfused` for lengths that cannot be.
        """
        at, end = 0, len(data)
        self.used, self.other = 0, False
        while True:
            if self._value_left:
                if at == end:
                    return
                size = min(end - at, self._value_left)
                piece = data[at : at + size]
                at += size
                self._value_left -= size
                self._pdu_left -= size
                self.used, self.more = at, at < end
                yield self._piece(piece)
            elif self._pdu_left:
                if end - at < _HEADER_BYTES:
                    return
                length, self._context_id, self._control = _VALUE.unpack_from(data, at)
                if self._pdu_left < _HEADER_BYTES or not 2 <= length <= self._pdu_left - 4:
                    raise PeerConfused("a presentation data value is longer than its PDU, or has no header")
                at += _HEADER_BYTES
                self._pdu_left -= _HEADER_BYTES
                self._value_left = length - 2
                self.used, self.more = at, at < end
                if not self._value_left:
                    yield self._piece(data[at:at])
            else:
                if end - at < _HEADER_BYTES:
                    return
                kind, length = _PDU.unpack_from(data, at)
                if kind != PDUType.DATA:
                    self.other = True
                    return
                if length > self._maximum_length:
                    raise PeerConfused(
                        f"a P-DATA-TF says it has {length} bytes; at most {self._maximum_length} are taken"
                    )
                at += _HEADER_BYTES
                self.used, self._pdu_left = at, length
                self.pdus += 1

    def _piece(self, data: memoryview) -> Piece:
        ends = self._value_left == 0 and bool(self._control & _LAST)
        return Piece(self._context_id, bool(self._control & _COMMAND), ends, data)
