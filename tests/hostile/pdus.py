"""Protocol data units that nobody should send, each at a moment when nobody expects it (PS3.8 §9.3).

Hypothesis draws them, so a seed draws the same ones again, and a test that fails shrinks to the few bytes
that matter.
"""

import struct
from dataclasses import dataclass
from enum import Enum

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from dicom_node.upper_layer import ABORT, RELEASE_REPLY, RELEASE_REQUEST, data_header
from tests.dicom_node.datasets import ROOT, ct_slice, encoded
from tests.hostile.victim import CT, CT_CONTEXT, ECHO_CONTEXT, echo_message, request, store_message

INSTANCE = f"{ROOT}.66.1"
_SLICE = encoded(ct_slice(1, series=f"{ROOT}.66", rows=8))
_REQUEST = request("FUZZER")


class Moment(Enum):
    """Where the association stands when the wrong bytes come."""

    BEFORE = "before the association"
    ESTABLISHED = "established"
    COMMAND = "in the middle of a command"
    DATA_SET = "in the middle of a data set"
    VALUE = "in the middle of a presentation data value"
    STORED = "after an instance was stored"
    RELEASING = "after a release request"


class End(Enum):
    """How the connection ends, if the node does not end it before."""

    WAIT = "says that it is finished, and waits for the node to close"
    CLOSE = "closes"
    RESET = "resets"


@dataclass(frozen=True, slots=True)
class Plan:
    """One hostile connection."""

    moment: Moment
    pdus: tuple[bytes, ...]  #: each sent by itself
    end: End


PREFIXES: dict[Moment, bytes] = {
    Moment.BEFORE: b"",
    Moment.ESTABLISHED: b"",
    Moment.COMMAND: data_header(CT_CONTEXT, 8, command=True, last=False) + struct.pack("<HHI", 0, 0, 4),
    Moment.DATA_SET: store_message(INSTANCE, b"")[:-12]
    + data_header(CT_CONTEXT, 400, command=False, last=False)
    + _SLICE[:400],
    Moment.VALUE: struct.pack(">BxIIBB", 4, 5006, 5002, CT_CONTEXT, 1) + b"\0" * 100,
    Moment.STORED: store_message(INSTANCE, _SLICE),
    Moment.RELEASING: RELEASE_REQUEST,
}

_lies = st.sampled_from([0, 1, 2, 3, 5, 255, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF])
_few = st.binary(max_size=64)
_contexts = st.sampled_from([CT_CONTEXT, ECHO_CONTEXT, 0, 2, 5, 255])
_kinds = st.one_of(st.integers(1, 7), st.integers(0, 255))
_titles = st.one_of(
    st.just(b"FUZZER".ljust(16)), st.just(b"WETREAD".ljust(16)), st.binary(min_size=16, max_size=16)
)
_uids = st.one_of(
    st.sampled_from(
        [str(CT).encode(), b"1.2.840.10008.1.1", b"1.2.840.10008.1.20.1", b"1.2.840.10008.1.2.1"]
    ),
    st.binary(max_size=80),
    st.sampled_from([b"", b"1", b"1..2", b"../../etc/passwd", b"1." * 40, b"1.2\0\0", b"\xff" * 70]),
)


def _pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BxI", kind, len(body) if length is None else length) + body


def _item(kind: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BxH", kind, (len(value) if length is None else length) & 0xFFFF) + value


def _value(data: bytes, context: int, control: int, length: int | None) -> bytes:
    return struct.pack(">IBB", len(data) + 2 if length is None else length, context, control) + data


_any_pdu = st.builds(_pdu, _kinds, _few, st.one_of(st.none(), _lies))
_values = st.builds(_value, _few, _contexts, st.integers(0, 255), st.one_of(st.none(), st.none(), _lies))
_data_pdu = st.builds(
    lambda values, length: _pdu(4, b"".join(values), length),
    st.lists(_values, max_size=4),
    st.one_of(st.none(), st.none(), _lies),
)

_syntax_item = st.builds(_item, st.sampled_from([0x30, 0x40, 0x40, 0x99]), _uids, st.one_of(st.none(), _lies))
_context_item = st.builds(
    lambda number, items, length: _item(0x20, bytes([number, 0, 0, 0]) + b"".join(items), length),
    st.integers(0, 255),
    st.lists(_syntax_item, max_size=4),
    st.one_of(st.none(), st.none(), _lies),
)
_user_item = st.builds(
    lambda items, length: _item(0x50, b"".join(items), length),
    st.lists(
        st.builds(_item, st.sampled_from([0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59]), _few),
        max_size=5,
    ),
    st.one_of(st.none(), st.none(), _lies),
)
_request_pdu = st.builds(
    lambda kind, version, called, calling, items, length: _pdu(
        kind, struct.pack(">HH16s16s32x", version, 0, called, calling) + b"".join(items), length
    ),
    st.sampled_from([1, 1, 1, 2]),
    st.sampled_from([1, 1, 0, 2, 0xFFFF]),
    _titles,
    _titles,
    st.lists(
        st.one_of(
            st.just(_item(0x10, b"1.2.840.10008.3.1.1.1")),
            _context_item,
            _context_item,
            _user_item,
            st.builds(_item, st.integers(0, 255), _few, st.one_of(st.none(), _lies)),
        ),
        max_size=6,
    ),
    st.one_of(st.none(), st.none(), _lies),
)

_element = st.builds(
    lambda group, number, value, length: (
        struct.pack("<HHI", group, number, len(value) if length is None else length) + value
    ),
    st.sampled_from([0, 0, 0, 0, 8, 0xFFFE]),
    st.sampled_from([0, 2, 3, 0x100, 0x110, 0x120, 0x700, 0x800, 0x900, 0x1000, 0x1001, 0x1008]),
    st.one_of(
        st.sampled_from(
            [b"\1\0", b"\x30\0", b"\1\1", b"\x20\0", b"\x30\1", b"\x01\x80", b"\0\0", b"\1\0\0\0"]
        ),
        _uids,
    ),
    st.one_of(st.none(), st.none(), st.none(), _lies),
)
_message_pdu = st.builds(
    lambda elements, context, control: _pdu(4, _value(b"".join(elements), context, control, None)),
    st.lists(_element, max_size=9),
    _contexts,
    st.sampled_from([3, 3, 3, 1, 2, 0]),
)

_honest = st.sampled_from(
    [
        _REQUEST,
        RELEASE_REQUEST,
        RELEASE_REPLY,
        ABORT,
        echo_message(),
        store_message(INSTANCE, _SLICE),
        store_message("1.2.3", _SLICE),
        store_message("../../etc/passwd", _SLICE),
        store_message(INSTANCE, b""),
        store_message(INSTANCE, _SLICE[:200]),
    ]
)


def _damaged(whole: bytes, flips: list[tuple[int, int]], cut: int | None, tail: bytes) -> bytes:
    changed = bytearray(whole)
    for place, value in flips:
        changed[place % len(changed)] ^= value
    return bytes(changed[: len(changed) if cut is None else cut % (len(changed) + 1)]) + tail


_damaged_pdu = st.builds(
    _damaged,
    _honest,
    st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 255)), max_size=6),
    st.one_of(st.none(), st.integers(0, 4000)),
    st.one_of(st.just(b""), _few),
)

#: One hostile PDU.
pdus = st.one_of(_any_pdu, _data_pdu, _request_pdu, _message_pdu, _damaged_pdu, _honest)

#: One hostile connection.
plans = st.builds(
    Plan,
    st.sampled_from(Moment),
    st.lists(pdus, min_size=1, max_size=6).map(tuple),
    st.sampled_from([End.WAIT, End.WAIT, End.CLOSE, End.RESET]),
)


def drawn(count: int, number: int) -> list[Plan]:
    """Plans with at least `count` PDUs in all, the same ones for the same seed `number`."""
    found: list[Plan] = []
    enough = 0

    @seed(number)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(plans)
    def draw(plan: Plan) -> None:
        nonlocal enough
        if enough < count:
            enough += len(plan.pdus)
            found.append(plan)

    draw()
    return found
