"""Retrieval from a PACS: what C-MOVE and C-GET have in common (PS3.4 §C.4.2, §C.4.3).

What a peer says of its sub-operations is kept as a reason for people. Whether something came is not asked of
the peer: that is what spool and ledger say.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from dicom_node.listing import Portion
from dicom_node.send import response_status
from dicom_node.upper_layer import Value, command_set, elements_of_group, number
from ledger.errors import PeerError
from ledger.identifiers import AETitle, Uid

SUCCESS, CANCELLED, PENDING = 0x0000, 0xFE00, 0xFF00
SOME_FAILED = 0xB000
UNKNOWN_DESTINATION = 0xA801

#: First and last status → what it means (PS3.4 §C.4.2.1.5, §C.4.3.1.4). The first row that holds it counts.
STATUS: tuple[tuple[int, int, str], ...] = (
    (SUCCESS, SUCCESS, "all of it was sent"),
    (SOME_FAILED, SOME_FAILED, "some of it could not be sent"),
    (CANCELLED, CANCELLED, "it stopped, as it was asked to"),
    (0xA701, 0xA701, "it is out of resources: it cannot say how much it would send"),
    (0xA702, 0xA702, "it is out of resources: it cannot send"),
    (UNKNOWN_DESTINATION, UNKNOWN_DESTINATION, "it does not know the destination"),
    (0xA900, 0xA900, "it says that the question does not match its SOP class"),
    (0xC000, 0xCFFF, "it cannot process the question"),
    (0x0122, 0x0122, "it does not support this kind of retrieval"),
    (0x0124, 0x0124, "we are not authorized to retrieve there: that has to be allowed there"),
    (0x0000, 0xFFFF, "that is no status of a retrieval"),
)


class RetrievalRefused(PeerError):
    """The peer does not give us what we ask for; why, and what to change there, is in the message."""


class RetrievalStopped(PeerError):
    """The node is being stopped: what has not come will be asked for again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """What a peer said in the end: its numbers of sub-operations, over all requests."""

    completed: int = 0
    failed: int = 0
    warnings: int = 0
    said: tuple[str, ...] = ()  #: why something did not come, in the peer's words

    def plus(self, other: "Retrieved") -> "Retrieved":
        """Both together."""
        return Retrieved(
            completed=self.completed + other.completed,
            failed=self.failed + other.failed,
            warnings=self.warnings + other.warnings,
            said=self.said + tuple(words for words in other.said if words not in self.said),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One response to C-MOVE or C-GET. Numbers that the peer leaves out are None."""

    status: int
    comment: str
    remaining: int | None
    completed: int | None
    failed: int | None
    warnings: int | None

    @property
    def pending(self) -> bool:
        """Whether another one follows."""
        return self.status == PENDING

    @property
    def words(self) -> str:
        """What the status means."""
        meaning = next(words for first, last, words in STATUS if first <= self.status <= last)
        comment = f" ({self.comment})" if self.comment else ""
        return f"status 0x{self.status:04X}: {meaning}{comment}"


def request(
    sop_class: Uid, field: int, message_id: int, portion: Portion, *, destination: AETitle | None = None
) -> tuple[bytes, bytes]:
    """Command set and identifier of a C-MOVE-RQ or C-GET-RQ; `field` is its Command Field (0000,0100)."""
    command: dict[int, Value] = {
        0x0002: sop_class,
        0x0100: field,
        0x0110: message_id,
        0x0700: 0x0000,
        0x0800: 0x0001,
    }
    if destination is not None:
        command[0x0600] = str(destination)
    relation: dict[int, Value] = {0x000D: portion.study}
    if portion.series is not None:
        relation[0x000E] = portion.series
    identification: dict[int, Value] = {0x0052: portion.level}
    if portion.instances:
        identification[0x0018] = portion.instances
    return command_set(command), elements_of_group(0x0008, identification) + elements_of_group(
        0x0020, relation
    )


def progress_in(command: Mapping[tuple[int, int], bytes], *, expected: int, asked: int) -> Progress:
    """A C-MOVE-RSP or C-GET-RSP to message `asked`. Raises `PeerConfused` where it is something else."""
    status, comment = response_status(command, expected=expected, asked=asked)
    remaining, completed, failed, warnings = (number(command.get((0, at))) for at in range(0x1020, 0x1024))
    return Progress(
        status=status,
        comment=comment,
        remaining=remaining,
        completed=completed,
        failed=failed,
        warnings=warnings,
    )


def concluded(last: Progress) -> Retrieved:
    """What the last response of one request comes to."""
    said = () if last.status == SUCCESS and not last.failed else (last.words,)
    return Retrieved(
        completed=last.completed or 0, failed=last.failed or 0, warnings=last.warnings or 0, said=said
    )
