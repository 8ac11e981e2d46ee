"""The bytes of an association as its requestor writes and reads them (PS3.8 §9.3, PS3.7 §9.3, Annex E).

Pure functions over bytes, small because a requestor needs little: it proposes contexts, sends one command
with one data set, reads one answer, and releases. What a peer writes is never trusted: every length is
checked, and anything odd is a `PeerConfused`.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from ledger.errors import PeerError
from ledger.identifiers import AETitle, Uid
from ledger.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 §A.2.1
#: Who we are, in associations and files: a UUID-derived UID (PS3.5 §B.2, PS3.7 §D.3.3.2).

RELEASE_REQUEST = b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00"
RELEASE_REPLY = b"\x06\x00\x00\x00\x00\x04\x00\x00\x00\x00"
ABORT = b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00"  # source 0: the service user, that is us (PS3.8 §9.3.8)


class PeerConfused(PeerError):
    """The peer sent something that DICOM does not allow at this place."""


class PDUType(IntEnum):
    """The first byte of a protocol data unit (PS3.8 §9.3.1)."""

    ASSOCIATE_REQUEST = 0x01
    ASSOCIATE_ACCEPT = 0x02
    ASSOCIATE_REJECT = 0x03
    DATA = 0x04
    RELEASE_REQUEST = 0x05
    RELEASE_REPLY = 0x06
    ABORT = 0x07


class ContextResult(IntEnum):
    """What the acceptor said of a presentation context (PS3.8 §9.3.3.2)."""

    ACCEPTED = 0
    USER_REJECTION = 1
    NO_REASON = 2
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """An abstract syntax with the transfer syntaxes that its data sets may be sent in."""

    abstract_syntax: Uid
    transfer_syntaxes: tuple[Uid, ...]
    #: We ask for the association but are the SCP of this service: role selection (PS3.7 §D.3.3.4).
    as_scp: bool = False


@dataclass(frozen=True, slots=True)
class AnsweredContext:
    """The acceptor's answer; `transfer_syntax` is the one it chose, where it accepted."""

    result: ContextResult
    transfer_syntax: Uid | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """An A-ASSOCIATE-AC: `maximum_length` of a P-DATA-TF that the acceptor takes, 0 for any."""

    contexts: Mapping[int, AnsweredContext]
    maximum_length: int
    #: SOP classes for which it refused us the role of SCP that was proposed (PS3.7 §D.3.3.4).
    not_as_scp: frozenset[str] = frozenset()


def associate_request(
    *, calling: AETitle, called: AETitle, contexts: Sequence[ProposedContext], maximum_length: int
) -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 §9.3.2). The context at index i has the identifier 2 i + 1."""
    proposed = b"".join(
        _item(
            0x20,
            bytes([2 * index + 1, 0, 0, 0])
            + _item(0x30, _ascii(context.abstract_syntax))
            + b"".join(_item(0x40, _ascii(syntax)) for syntax in context.transfer_syntaxes),
        )
        for index, context in enumerate(contexts)
    )
    user_information = (
        _item(0x51, struct.pack(">I", maximum_length))
        + _item(0x52, _ascii(IMPLEMENTATION_CLASS_UID))
        + b"".join(map(_role, dict.fromkeys(each.abstract_syntax for each in contexts if each.as_scp)))
        + _item(0x55, IMPLEMENTATION_VERSION_NAME.encode("ascii"))
    )
    body = (
        struct.pack(">HH16s16s32x", 1, 0, _padded(called), _padded(calling))
        + _item(0x10, APPLICATION_CONTEXT.encode("ascii"))
        + proposed
        + _item(0x50, user_information)
    )
    return struct.pack(">BxI", PDUType.ASSOCIATE_REQUEST, len(body)) + body


def parse_associate_accept(body: bytes) -> Accepted:
    """What an A-ASSOCIATE-AC says (PS3.8 §9.3.3), from the bytes after its length."""
    if len(body) < 68:
        raise PeerConfused(f"an A-ASSOCIATE-AC of {len(body)} bytes is too short")
    contexts: dict[int, AnsweredContext] = {}
    maximum_length = 0
    not_as_scp: set[str] = set()
    for kind, value in _items(body[68:]):
        if kind == 0x21:
            if len(value) < 4:
                raise PeerConfused("a presentation context item is too short")
            contexts[value[0]] = _answered(value)
        elif kind == 0x50:
            for sub_kind, sub_value in _items(value):
                if sub_kind == 0x51 and len(sub_value) == 4:
                    maximum_length = int.from_bytes(sub_value, "big")
                elif sub_kind == 0x54 and len(sub_value) > 4 and sub_value[-1] == 0:
                    not_as_scp.add(sub_value[2:-2].decode("ascii", "replace"))
    # Too small to carry a PDV header and one byte: nothing could ever be sent (PS3.8 §D.1).
    if 0 < maximum_length < 8:
        raise PeerConfused(f"it takes PDUs of at most {maximum_length} bytes, which is none")
    return Accepted(contexts, maximum_length, frozenset(not_as_scp))


def data_header(context_id: int, length: int, *, command: bool, last: bool) -> bytes:
    """What stands before a fragment of `length` bytes in a P-DATA-TF of its own (PS3.8 §9.3.5, §E.2)."""
    return struct.pack(">BxIIBB", PDUType.DATA, length + 6, length + 2, context_id, command | last << 1)


def fragments_of(body: bytes) -> Iterator[tuple[int, bool, bool, bytes]]:
    """Each fragment of a P-DATA-TF: context identifier, is it of a command, is it the last, its bytes."""
    at = 0
    while at < len(body):
        if at + 6 > len(body):
            raise PeerConfused("a presentation data value ends in its header")
        length, context_id, control = struct.unpack_from(">IBB", body, at)
        if length < 2 or at + 4 + length > len(body):
            raise PeerConfused("a presentation data value is longer than its PDU")
        yield context_id, bool(control & 1), bool(control & 2), body[at + 6 : at + 4 + length]
        at += 4 + length


#: What an element that we write may hold; several UIDs are a list of UIDs (PS3.4 §C.2.2.2.2).
Value = Uid | int | str | tuple[Uid, ...]


def command_set(elements: Mapping[int, Value]) -> bytes:
    """A command set in implicit VR little endian (PS3.7 §6.3.1): element number of group 0000 → value."""
    rest = elements_of_group(0x0000, elements)
    return elements_of_group(0x0000, {0x0000: _Length(len(rest))}) + rest


def elements_of_group(group: int, elements: Mapping[int, "Value | _Length"]) -> bytes:
    """Elements of one group in implicit VR little endian, in the order of their numbers (PS3.5 §7.1.3)."""
    return b"".join(_element(group, number, elements[number]) for number in sorted(elements))


def parse_elements(data: bytes) -> dict[tuple[int, int], bytes]:
    """Flat elements in implicit VR little endian: (group, element) → bytes.

    Ends before the first sequence of undefined length.
    """
    found: dict[tuple[int, int], bytes] = {}
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise PeerConfused("an element ends in its header")
        group, element, length = struct.unpack_from("<HHI", data, at)
        if length == 0xFFFFFFFF:
            break
        if at + 8 + length > len(data):
            raise PeerConfused(f"element ({group:04x},{element:04x}) is longer than what was sent")
        found[group, element] = data[at + 8 : at + 8 + length]
        at += 8 + length
    return found


def number(value: bytes | None) -> int | None:
    """The value of a US element, if it is one."""
    return int.from_bytes(value, "little") if value is not None and len(value) == 2 else None


class _Length(int):
    """A UL value; a plain `int` is written as US."""


def _element(group: int, element: int, value: "Value | _Length") -> bytes:
    match value:
        case _Length():
            data = struct.pack("<I", value)
        case int():
            data = struct.pack("<H", value)
        case Uid():
            data = _even(_ascii(value), b"\0")
        case tuple():
            data = _even(b"\\".join(map(_ascii, value)), b"\0")
        case str():
            data = _even(value.encode("ascii"), b" ")
    return struct.pack("<HHI", group, element, len(data)) + data


def _even(data: bytes, padding: bytes) -> bytes:
    return data + padding * (len(data) % 2)


def _answered(value: bytes) -> AnsweredContext:
    # Only 0 to 4 are defined (PS3.8 §9.3.3.2): what is unknown is no acceptance.
    result = ContextResult(value[2]) if value[2] <= 4 else ContextResult.NO_REASON
    syntaxes = [text for kind, text in _items(value[4:]) if kind == 0x40]
    if result is not ContextResult.ACCEPTED:
        return AnsweredContext(result, None)
    if len(syntaxes) != 1:
        raise PeerConfused(f"an accepted presentation context names {len(syntaxes)} transfer syntaxes")
    try:
        return AnsweredContext(result, Uid.parse(syntaxes[0].decode("ascii")))
    except ValueError as error:
        raise PeerConfused(
            f"an accepted presentation context has a broken transfer syntax: {error}"
        ) from None


def _role(sop_class: Uid) -> bytes:
    """An SCP/SCU Role Selection sub-item: not SCU, but SCP."""
    uid = _ascii(sop_class)
    return _item(0x54, struct.pack(">H", len(uid)) + uid + b"\x00\x01")


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise PeerConfused("an item ends in its header")
        kind, length = struct.unpack_from(">BxH", data, at)
        if at + 4 + length > len(data):
            raise PeerConfused(f"an item of type 0x{kind:02x} is longer than its PDU")
        yield kind, data[at + 4 : at + 4 + length]
        at += 4 + length


def _ascii(uid: Uid) -> bytes:
    return str(uid).encode("ascii")


def _padded(title: AETitle) -> bytes:
    return str(title).ljust(16).encode("ascii")
