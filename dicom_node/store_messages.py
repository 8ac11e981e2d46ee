"""C-STORE on the wire: the request's command set read by hand, the response written from a template.

PS3.7 §9.3.1. Only what decides about an instance is read; the UIDs go back in the response as they came, for
the sender compares them with what it sent.
"""

import struct
from dataclasses import dataclass

from dicom_node.upper_layer import data_header, number, parse_elements

_C_STORE_REQUEST, _C_STORE_RESPONSE = 0x0001, 0x8001
_NO_DATA_SET = 0x0101
_UID_BYTES_MAXIMUM = 64  # PS3.5 §9.1; a longer one is none, and is not repeated
_SHORT = struct.Struct("<HHIH")  # an element of VR US


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE-RQ that a data set follows; the UIDs as the bytes that were sent, padding included."""

    message_id: int
    sop_class: bytes
    sop_instance: bytes


def parse_store_request(command: bytes | bytearray) -> StoreRequest | None:
    """The request in a whole command set; None where it is another message, or announces no data set.

    Raises `PeerConfused` where the bytes are no command set.
    """
    elements = parse_elements(bytes(command))
    message_id = number(elements.get((0, 0x0110)))
    if (
        number(elements.get((0, 0x0100))) != _C_STORE_REQUEST
        or number(elements.get((0, 0x0800))) in (None, _NO_DATA_SET)
        or message_id is None
    ):
        return None
    return StoreRequest(message_id, elements.get((0, 0x0002), b""), elements.get((0, 0x1000), b""))


def announces_data_set(command: bytes | bytearray) -> bool:
    """Whether a data set follows this command set. Raises `PeerConfused` where it is none."""
    return number(parse_elements(bytes(command)).get((0, 0x0800))) not in (None, _NO_DATA_SET)


def store_response(context_id: int, request: StoreRequest, status: int, *, maximum_length: int) -> bytes:
    """The P-DATA-TF with the answer, in PDUs of at most `maximum_length` bytes (0: any)."""
    elements = b"".join(
        (
            _uid(0x0002, request.sop_class),
            _SHORT.pack(0, 0x0100, 2, _C_STORE_RESPONSE),
            _SHORT.pack(0, 0x0120, 2, request.message_id),
            _SHORT.pack(0, 0x0800, 2, _NO_DATA_SET),
            _SHORT.pack(0, 0x0900, 2, status),
            _uid(0x1000, request.sop_instance),
        )
    )
    command = struct.pack("<HHII", 0, 0, 4, len(elements)) + elements
    # A PDU's maximum length counts the value's header (PS3.8 §D.1).
    size = max(1, maximum_length - 6) if maximum_length else len(command)
    return b"".join(
        data_header(context_id, len(command[at : at + size]), command=True, last=at + size >= len(command))
        + command[at : at + size]
        for at in range(0, len(command), size)
    )


def _uid(element: int, value: bytes) -> bytes:
    if not value or len(value) > _UID_BYTES_MAXIMUM:
        return b""
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, element, len(value)) + value
