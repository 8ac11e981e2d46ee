"""C-FIND at study root: questions to a peer's database on one association, under one deadline (PS3.4 §C.4.1).

Matches come back as flat elements in implicit VR little endian, the one transfer syntax that every archive
has to accept (PS3.5 §10.1). Nothing that a peer says of a match is believed to be what was asked for:
whoever asks compares.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Self

from dicom_node.peers import IMPLICIT_LITTLE_ENDIAN, PeerSettings
from dicom_node.reach import Deadline
from dicom_node.requestor import RequestedAssociation, associate
from dicom_node.send import response_status
from dicom_node.upper_layer import (
    ContextResult,
    PeerConfused,
    ProposedContext,
    Value,
    command_set,
    elements_of_group,
    parse_elements,
)
from ledger.errors import PeerError
from ledger.identifiers import AETitle, Uid

STUDY_ROOT_FIND = Uid("1.2.840.10008.5.1.4.1.2.2.1")

_SUCCESS = 0x0000
_MATCHES_MAX = 100_000  # of one question; the largest studies have some ten thousand instances
_PENDING = frozenset({0xFF00, 0xFF01})  # FF01: some optional key was not supported (PS3.4 §C.4.1.1.4)

#: (group, element) → bytes of one match
Match = Mapping[tuple[int, int], bytes]


class QueryRefused(PeerError):
    """The peer answers no C-FIND, or not this one: what it has stays unknown."""


class Query:
    """An open association for questions. Each question is asked to its end before the next."""

    def __init__(self, peer: PeerSettings, association: RequestedAssociation, context_id: int) -> None:
        """Use `Query.to`."""
        self._peer = peer
        self._association = association
        self._context_id = context_id
        self._asked = 0

    @classmethod
    @contextmanager
    def to(cls, peer: PeerSettings, *, calling: AETitle, deadline_s: float) -> Iterator[Self]:
        """Raises `QueryRefused` where the peer takes no questions, or another `PeerError`."""
        context = ProposedContext(STUDY_ROOT_FIND, (Uid(IMPLICIT_LITTLE_ENDIAN),))
        deadline = Deadline(deadline_s)
        with associate(peer, calling=calling, contexts=[context], deadline=deadline) as association:
            context_id, answer = association.answered(context)
            if answer.result is not ContextResult.ACCEPTED:
                raise QueryRefused(f"{peer.name} does not answer C-FIND at study root")
            yield cls(peer, association, context_id)

    def find(self, level: str, keys: Mapping[tuple[int, int], Uid | str]) -> Iterator[Match]:
        """The matches of one question. An empty text in `keys` asks for the value (PS3.4 §C.2.2.2.3).

        Raises `QueryRefused` where the peer ends it with anything but Success, `PeerConfused` where it never
        does.
        """
        self._asked += 1
        wanted = {(0x0008, 0x0052): level, **keys}
        identifier = b"".join(
            elements_of_group(
                group, {element: value for (of, element), value in wanted.items() if of == group}
            )
            for group in sorted({group for group, _ in wanted})
        )
        request: dict[int, Value] = {
            0x0002: STUDY_ROOT_FIND,
            0x0100: 0x0020,  # C-FIND-RQ
            0x0110: self._asked,
            0x0700: 0x0000,
            0x0800: 0x0001,
        }
        self._association.send(self._context_id, command_set(request), identifier)
        for _ in range(_MATCHES_MAX):
            command, data = self._association.receive("waiting for its answer to C-FIND")
            status, comment = response_status(command, expected=0x8020, asked=self._asked)
            if status == _SUCCESS:
                return
            if status not in _PENDING:
                words = f" ({comment})" if comment else ""
                raise QueryRefused(f"{self._peer.name} answered C-FIND with status 0x{status:04X}{words}")
            yield parse_elements(data)
        raise PeerConfused(f"it answered one C-FIND with more than {_MATCHES_MAX} matches")


def uid_in(match: Match, group: int, element: int) -> Uid | None:
    """The UID of one element, if it is there and is one."""
    try:
        return Uid.parse(match.get((group, element), b"").decode("ascii"))
    except ValueError:
        return None


def text_in(match: Match, group: int, element: int) -> str:
    """The text of one element, "" where it is absent. What is not ASCII is a question mark."""
    text = match.get((group, element), b"").decode("ascii", "replace").strip(" \0")
    return text.replace("\N{REPLACEMENT CHARACTER}", "?")


def count_in(match: Match, group: int, element: int) -> int | None:
    """The number in one element of VR IS, if it is there and is one that counts."""
    text = match.get((group, element), b"").decode("ascii", "replace").strip(" \0")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None
