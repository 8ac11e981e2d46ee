"""One C-STORE: a file as it lies there to one peer, and what its answer means.

Rule 1: the bytes of the data set are those of the file, so that every retry is the same instance to the last
bit. Only between explicit and implicit VR little endian, which say the same, is one written as the other: for
a peer that takes no other, or whose `transfer_syntaxes` ask for it, and then every time in the same way.

Rule 2: every answer, and every absence of one, is of one of five kinds, and the kind decides what happens
next.

Rule 3: everything ends at the deadline, whatever the peer does. It covers the whole delivery: where the
line is slow and the results are large, the peer's `deadline_s` has to allow for it.

An archive that rejects our association "permanently" is asked again all the same, with growing pauses: that
is nearly always a setting over there that somebody is about to mend, and then everything should flow by
itself.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from dicom_node.part10 import NotOurFile, what_is_in
from dicom_node.peers import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, PeerSettings
from dicom_node.reach import Deadline
from dicom_node.requestor import RequestedAssociation, associate
from dicom_node.upper_layer import ContextResult, PeerConfused, ProposedContext, command_set, number
from ledger.errors import PeerError, SiteError
from ledger.identifiers import AETitle, Uid

VERIFICATION = Uid("1.2.840.10008.1.1")

#: They say the same, and either can be written as the other.
_NATIVE = frozenset({EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN})

#: SOP classes of supplements that are newer than pydicom's dictionary.
_NEWER_NAMES = {Uid("1.2.840.10008.5.1.4.1.1.66.7"): "Label Map Segmentation Storage"}


class AnswerKind(StrEnum):
    """What an answer means for the delivery."""

    ACCEPTED = "accepted"  #: The peer has it.
    WARNING = "warning"  #: The peer has it and changed or missed something.
    RETRY = "retry"  #: The peer does not have it; the same bytes again later.
    UNKNOWN = "unknown"  #: Nobody can say whether it has it; the same bytes again later do no harm.
    REFUSED = "refused"  #: The peer would say the same again: an operator decides.


class Objection(StrEnum):
    """What a peer that refuses has against the object: another object may be welcome."""

    SOP_CLASS = "SOP class"  #: It takes no such objects.
    TRANSFER_SYNTAX = "transfer syntax"  #: It takes none that are encoded so.


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one C-STORE or STOW-RS. `status` is None where no answer came."""

    status: int | None
    kind: AnswerKind
    because: str
    objects_to: Objection | None = None  #: Where it refused for good


@dataclass(frozen=True, slots=True)
class EchoAnswer:
    """What became of one C-ECHO."""

    reached: bool
    because: str
    took_s: float


class ResultUnreadable(SiteError):
    """A file that was to be sent is gone from the spool, or is no DICOM file."""


#: First and last status → kind and meaning (PS3.4 §B.2.3, PS3.7 §C). The first row that holds it counts.
STATUS: tuple[tuple[int, int, AnswerKind, str], ...] = (
    (0x0000, 0x0000, AnswerKind.ACCEPTED, "stored"),
    # Our UIDs are derived from the inputs and our bytes never change: what it has is this.
    (0x0111, 0x0111, AnswerKind.WARNING, "it has this instance already"),
    (0xB000, 0xB000, AnswerKind.WARNING, "stored, with elements coerced"),
    (0xB006, 0xB006, AnswerKind.WARNING, "stored, with elements discarded"),
    (0xB007, 0xB007, AnswerKind.WARNING, "stored, though the data set does not match its SOP class"),
    (0xB000, 0xBFFF, AnswerKind.WARNING, "stored, with a warning"),
    # What dcm4chee says of rejection notes: its own words in the range of those who are out of resources.
    (0xA770, 0xA770, AnswerKind.WARNING, "it has this rejection note already"),
    (0xA771, 0xA771, AnswerKind.REFUSED, "it was told to reject this object, and does not take it again"),
    (0xA772, 0xA772, AnswerKind.RETRY, "it does not yet have what the rejection note names"),
    (0xA773, 0xA773, AnswerKind.REFUSED, "what the rejection note names is something else there"),
    (0xA774, 0xA774, AnswerKind.WARNING, "it has rejected that already"),
    (
        0xA775,
        0xA775,
        AnswerKind.REFUSED,
        'nobody may end a retention there: set superseded = "reject" for it',
    ),
    (0xA776, 0xA776, AnswerKind.REFUSED, 'it has to retain that study: set superseded = "reject" for it'),
    (0xA700, 0xA7FF, AnswerKind.RETRY, "it is out of resources"),
    (0xA900, 0xA9FF, AnswerKind.REFUSED, "it says that the data set does not match its SOP class"),
    (0xC122, 0xC122, AnswerKind.REFUSED, "it does not support the transfer syntax"),  # PS3.18 Table I.2-2
    (0xC000, 0xCFFF, AnswerKind.REFUSED, "it cannot understand the data set"),
    (0x0110, 0x0110, AnswerKind.RETRY, "it failed while processing it"),
    (0x0117, 0x0117, AnswerKind.REFUSED, "it holds the SOP Instance UID for invalid"),
    (0x0122, 0x0122, AnswerKind.REFUSED, "it does not support the SOP class"),
    (0x0124, 0x0124, AnswerKind.RETRY, "we are not authorized to store there: that has to be allowed there"),
    (0x0210, 0x0210, AnswerKind.RETRY, "it took the message for a duplicate"),
    (0x0211, 0x0211, AnswerKind.REFUSED, "it does not recognize C-STORE"),
    (0x0212, 0x0212, AnswerKind.REFUSED, "it found an argument of the wrong type"),
    (0x0213, 0x0213, AnswerKind.RETRY, "its resources are limited"),
    (0x0000, 0xFFFF, AnswerKind.UNKNOWN, "that is no status of C-STORE"),
)


def meaning(status: int, comment: str = "") -> Answer:
    """The answer that a C-STORE status stands for. `comment` is the peer's Error Comment (0000,0902)."""
    kind, words = next((kind, words) for first, last, kind, words in STATUS if first <= status <= last)
    because = f"status 0x{status:04X}: {words}"
    return Answer(status, kind, f"{because} ({comment})" if comment else because, _objection(status))


def _objection(status: int) -> Objection | None:
    if status == 0xC122:
        return Objection.TRANSFER_SYNTAX
    return Objection.SOP_CLASS if status == 0x0122 or 0xA900 <= status <= 0xA9FF else None


def send(path: Path, peer: PeerSettings, *, calling: AETitle, deadline_s: float) -> Answer:
    """Store the file at `path` with `peer`.

    Trouble with the peer is an answer. Raises `ResultUnreadable` where the file is the trouble.
    """
    return send_many([path], peer, calling=calling, deadline_s=deadline_s)[0]


def send_many(
    paths: Sequence[Path], peer: PeerSettings, *, calling: AETitle, deadline_s: float
) -> list[Answer]:
    """Store the files on one association, in their order, all under one deadline: an answer for each."""
    files = [_read_meta(path) for path in paths]
    contexts = list(dict.fromkeys(context for file in files for context in file.offered_to(peer)))
    # More would need a second association; no study of ours has so many kinds of objects (PS3.8 §9.3.2.2).
    if len(contexts) > 128:
        raise ValueError(f"{len(contexts)} kinds of objects cannot be proposed on one association")
    answers: list[Answer] = []
    sending = False
    try:
        with associate(
            peer, calling=calling, contexts=contexts, deadline=Deadline(deadline_s)
        ) as association:
            for message_id, file in enumerate(files, start=1):
                chosen = _chosen(file, peer, association)
                if isinstance(chosen, Answer):
                    answers.append(chosen)
                    continue
                sending = True
                answers.append(_store(file, *chosen, message_id % 0xFFFF, association))
                sending = False
    except PeerError as error:
        # Once the first byte of a message has left, the peer may have stored it, whatever it says after.
        kind = AnswerKind.UNKNOWN if sending else AnswerKind.RETRY
        answers.append(Answer(None, kind, str(error)))
        because = f"not sent, for an instance before it failed: {error}"
        answers += [Answer(None, AnswerKind.RETRY, because)] * (len(files) - len(answers))
    return answers


def echo(peer: PeerSettings, calling: AETitle, deadline_s: float | None = None) -> EchoAnswer:
    """Whether `peer` answers a C-ECHO (PS3.7 §9.1.5), by its own deadline unless another is given."""
    context = ProposedContext(VERIFICATION, (Uid(IMPLICIT_LITTLE_ENDIAN),))
    began = time.monotonic()
    try:
        deadline = Deadline(deadline_s if deadline_s is not None else peer.deadline_s)
        with associate(peer, calling=calling, contexts=[context], deadline=deadline) as association:
            answer = verified(association, context)
    except PeerError as error:
        return EchoAnswer(False, str(error), time.monotonic() - began)
    return replace(answer, took_s=time.monotonic() - began)


def verified(association: RequestedAssociation, context: ProposedContext) -> EchoAnswer:
    """The answer to one C-ECHO on an association that proposed `context` for it. Raises `PeerError`."""
    began = time.monotonic()
    context_id, answer = association.answered(context)
    if answer.result is not ContextResult.ACCEPTED:
        return EchoAnswer(False, "it does not accept Verification", time.monotonic() - began)
    request: dict[int, Uid | int | str] = {0x0002: VERIFICATION, 0x0100: 0x0030, 0x0110: 1, 0x0800: 0x0101}
    association.send(context_id, command_set(request))
    command, _ = association.receive("waiting for its answer to C-ECHO")
    status, _ = response_status(command, expected=0x8030, asked=1)
    return EchoAnswer(status == 0x0000, f"status 0x{status:04X}", time.monotonic() - began)


@dataclass(frozen=True, slots=True)
class _File:
    """What has to be known of a file before it is sent."""

    path: Path
    sop_instance: Uid
    sop_class: Uid
    transfer_syntax: Uid
    offset: int  # where the data set begins, in bytes

    def offered_to(self, peer: PeerSettings) -> list[ProposedContext]:
        """The ways in which it can be sent, each as a context of its own: as it lies there before any other.

        Of one context with two transfer syntaxes the peer would choose, and most choose without need.
        """
        mine = str(self.transfer_syntax)
        if mine not in _NATIVE:
            return [ProposedContext(self.sop_class, (self.transfer_syntax,))]
        ways = [one for one in peer.transfer_syntaxes if one in _NATIVE] or [mine]
        ways.sort(key=lambda way: way != mine)
        return [ProposedContext(self.sop_class, (Uid(way),)) for way in ways]

    @contextmanager
    def open(self, transfer_syntax: Uid) -> Iterator[tuple[BinaryIO, int]]:
        """The file, standing at its data set, and the size of that in bytes."""
        if transfer_syntax != self.transfer_syntax:
            written = written_as(self.path, transfer_syntax)
            yield BytesIO(written), len(written)
            return
        with self.path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size - self.offset
            file.seek(self.offset)
            yield file, size


def written_as(path: Path, transfer_syntax: Uid) -> bytes:
    """The data set of a file in explicit VR little endian in implicit, or the other way round: no value
    changes, and the same file gives the same bytes.
    """
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = str(transfer_syntax) == IMPLICIT_LITTLE_ENDIAN
    buffer.is_little_endian = True
    write_dataset(buffer, dcmread(path))
    return buffer.getvalue()


def _read_meta(path: Path) -> _File:
    try:
        sop_class, sop_instance, transfer_syntax, offset = what_is_in(path)
    except (OSError, NotOurFile) as error:
        raise ResultUnreadable(f"{path.name} cannot be sent: {error}") from error
    return _File(path, sop_instance, sop_class, transfer_syntax, offset)


def _chosen(file: _File, peer: PeerSettings, association: RequestedAssociation) -> tuple[int, Uid] | Answer:
    """The first context that the peer accepted, with its transfer syntax; else the peer's refusal."""
    results = []
    for context in file.offered_to(peer):
        context_id, answer = association.answered(context)
        if answer.result is ContextResult.ACCEPTED:
            return context_id, context.transfer_syntaxes[0]
        results.append(answer.result)
    sop_class = name_of(file.sop_class)
    tried = " or ".join(name_of(context.transfer_syntaxes[0]) for context in file.offered_to(peer))
    match results[0]:
        case ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED:
            because = f"it does not accept {sop_class} in {tried}"
            return Answer(None, AnswerKind.REFUSED, because, Objection.TRANSFER_SYNTAX)
        case ContextResult.USER_REJECTION:
            because = f"it refuses {sop_class} in {tried}"
            return Answer(None, AnswerKind.REFUSED, because, Objection.SOP_CLASS)
        case ContextResult.NO_REASON:
            return Answer(None, AnswerKind.RETRY, f"it refuses {sop_class} and gives no reason")
        case _:
            because = f"it does not accept {sop_class}"
            return Answer(None, AnswerKind.REFUSED, because, Objection.SOP_CLASS)


def name_of(uid: Uid) -> str:
    """What the standard calls it."""
    return _NEWER_NAMES.get(uid) or UID(str(uid)).name


def _store(
    file: _File, context_id: int, transfer_syntax: Uid, message_id: int, association: RequestedAssociation
) -> Answer:
    request: dict[int, Uid | int | str] = {
        0x0002: file.sop_class,
        0x0100: 0x0001,  # C-STORE-RQ
        0x0110: message_id,
        0x0700: 0x0000,  # medium priority; hardly any archive looks at it
        0x0800: 0x0001,  # a data set follows
        0x1000: file.sop_instance,
    }
    try:
        with file.open(transfer_syntax) as (data, size):
            association.send_from(context_id, command_set(request), data, size)
    except OSError as error:
        raise ResultUnreadable(f"{file.path.name} cannot be read: {error}") from error
    command, _ = association.receive("waiting for its answer to C-STORE")
    return meaning(*response_status(command, expected=0x8001, asked=message_id))


def response_status(
    command: Mapping[tuple[int, int], bytes], *, expected: int, asked: int
) -> tuple[int, str]:
    """Status (0000,0900) and Error Comment (0000,0902) of a response to message `asked`.

    `expected` is its Command Field (0000,0100).
    """
    if number(command.get((0, 0x0100))) != expected or number(command.get((0, 0x0120))) != asked:
        raise PeerConfused("it answered something that it was not asked")
    status = number(command.get((0, 0x0900)))
    if status is None:
        raise PeerConfused("its answer has no status")
    comment = command.get((0, 0x0902), b"")[:64].decode("ascii", "replace").strip(" \0")
    return status, "".join(character for character in comment if character.isprintable())
