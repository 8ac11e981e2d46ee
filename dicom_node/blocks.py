"""One message as blocks of whole PDUs: what is sent lies in one buffer, and goes out in few system calls.

A P-DATA-TF is as small as the peer wants it, often 16 KiB. Sent one by one, each costs two system calls and a
copy, and a sender of results is slower than the network. So headers are written between the places that the
data set is read into, and many PDUs leave at a time (PS3.8 §9.3.5, §E.1).
"""

import errno
from collections.abc import Iterator
from typing import BinaryIO

from dicom_node.upper_layer import data_header

# The peer works on one block while the next is read; and it stays in the processor's cache.
_BLOCK_BYTES = 128 << 10
_HEADER_BYTES = 12


def blocks(
    context_id: int, command: bytes, data: BinaryIO, size: int, *, fragment_bytes: int
) -> Iterator[memoryview]:
    """The message of `command` and the next `size` bytes of `data`, in fragments of at most `fragment_bytes`.

    A block is a view of a buffer that is used again for the next one. Raises `OSError` where `data` cannot be
    read, or ends too early.
    """
    head = b"".join(
        data_header(context_id, len(part), command=True, last=start + len(part) == len(command)) + part
        for start in range(0, len(command), fragment_bytes)
        if (part := command[start : start + fragment_bytes])
    )
    headers = _HEADER_BYTES * -(-size // fragment_bytes)
    room = max(_BLOCK_BYTES, len(head), _HEADER_BYTES + fragment_bytes)
    view = memoryview(bytearray(min(room, len(head) + headers + size)))
    at = len(head)
    view[:at] = head
    left = size
    while left:
        part_bytes = min(fragment_bytes, left)
        if at + _HEADER_BYTES + part_bytes > len(view):
            yield view[:at]
            at = 0
        body = at + _HEADER_BYTES
        view[at:body] = data_header(context_id, part_bytes, command=False, last=part_bytes == left)
        at = body + part_bytes
        _fill(view[body:at], data)
        left -= part_bytes
    yield view[:at]


def _fill(view: memoryview, data: BinaryIO) -> None:
    at = 0
    while at < len(view):
        read = data.readinto(view[at:])  # type: ignore[attr-defined]  # BinaryIO is older than readinto.
        if not read:
            raise OSError(errno.EIO, "the file became shorter while it was read")
        at += read
