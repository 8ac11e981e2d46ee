"""An A-ASSOCIATE-RQ, looked at before anything is made of it (PS3.8 §9.3.2).

It comes from somebody whom nobody has judged yet, and each of its items becomes an object of pynetdicom. So
its items are counted here first, in place, and what the standard does not allow ends the connection: a
presentation context identifier that is even or used twice has no meaning that two readers would agree on.
"""

import struct
from collections.abc import Iterator

from dicom_node.upper_layer import PeerConfused

CONTEXTS_MAXIMUM = 128  # There are that many odd identifiers (PS3.8 §9.3.2.2).
TRANSFER_SYNTAXES_MAXIMUM = 64  # for one context; there are about 45 in all
USER_INFORMATION_MAXIMUM = 64 << 10  # bytes

_FIXED_BYTES = 68  # between the length of the PDU and its first item
_ITEM = struct.Struct(">BxH")
_CONTEXT, _USER_INFORMATION = 0x20, 0x50
_ABSTRACT_SYNTAX, _TRANSFER_SYNTAX = 0x30, 0x40
_UID_BYTES_MAXIMUM = 64  # PS3.5 §9.1
_PADDED_UID_BYTES_MAXIMUM = _UID_BYTES_MAXIMUM + 1  # Some pad to even length where nobody asks them to.


def check_associate_request(pdu: bytes | bytearray | memoryview) -> None:
    """Raise `PeerConfused` where the whole PDU `pdu`, header included, is more or other than it may be."""
    body = memoryview(pdu)[6:]
    if len(body) < _FIXED_BYTES:
        raise PeerConfused(f"an A-ASSOCIATE-RQ of {len(body)} bytes is too short")
    identifiers: set[int] = set()
    user_bytes = 0
    for kind, value in _items(body[_FIXED_BYTES:]):
        if kind == _CONTEXT:
            if len(identifiers) == CONTEXTS_MAXIMUM:
                raise PeerConfused(f"an A-ASSOCIATE-RQ proposes more than {CONTEXTS_MAXIMUM} contexts")
            identifier = _context(value)
            if identifier in identifiers:
                raise PeerConfused(f"an A-ASSOCIATE-RQ uses the context identifier {identifier} twice")
            identifiers.add(identifier)
        elif kind == _USER_INFORMATION:
            user_bytes += len(value)
            if user_bytes > USER_INFORMATION_MAXIMUM:
                raise PeerConfused("an A-ASSOCIATE-RQ has more than 64 KiB of user information")


def _context(value: memoryview) -> int:
    if len(value) < 4:
        raise PeerConfused("a presentation context item is too short")
    identifier = value[0]
    if identifier % 2 == 0:
        raise PeerConfused(f"a presentation context has the even identifier {identifier}")
    abstract = transfer = 0
    for kind, uid in _items(value[4:]):
        abstract += kind == _ABSTRACT_SYNTAX
        transfer += kind == _TRANSFER_SYNTAX
        if len(uid) > _PADDED_UID_BYTES_MAXIMUM:
            raise PeerConfused(f"a presentation context names a UID of {len(uid)} bytes")
    if abstract != 1 or not transfer:
        raise PeerConfused("a presentation context needs one abstract syntax and a transfer syntax")
    if transfer > TRANSFER_SYNTAXES_MAXIMUM:
        raise PeerConfused(
            f"a presentation context proposes more than {TRANSFER_SYNTAXES_MAXIMUM} transfer syntaxes"
        )
    return identifier


def _items(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    at = 0
    while at < len(data):
        if len(data) - at < _ITEM.size:
            raise PeerConfused("an A-ASSOCIATE-RQ ends inside an item")
        kind, length = _ITEM.unpack_from(data, at)
        at += _ITEM.size
        if length > len(data) - at:
            raise PeerConfused("an item of an A-ASSOCIATE-RQ is longer than what it is in")
        yield kind, data[at : at + length]
        at += length
