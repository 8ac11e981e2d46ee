"""C-GET: the PACS sends on the association that we asked on, and we are the SCP of storage there
(PS3.4 §C.4.3, PS3.7 §D.3.3.4). It needs no port that the PACS can reach, and no entry of ours over there.

What comes goes the way of every instance (`Stream`, `Receiver`): the same checks, the same spool, the same
promise before the answer. Only what was asked for is taken.
"""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from dicom_node.contexts import TRANSFER_SYNTAXES, storage_sop_classes
from dicom_node.fragments import Piece
from dicom_node.listing import Listing, Portion
from dicom_node.peers import IMPLICIT_LITTLE_ENDIAN, PeerSettings
from dicom_node.reach import Deadline, PeerSilent
from dicom_node.receive import Offer, Receiver, Reception
from dicom_node.requestor import RequestedAssociation, associate
from dicom_node.retrieve import (
    SOME_FAILED,
    SUCCESS,
    Progress,
    RetrievalRefused,
    RetrievalStopped,
    Retrieved,
    concluded,
    progress_in,
    request,
)
from dicom_node.settings import NodeSettings
from dicom_node.status import StoreStatus
from dicom_node.store_messages import announces_data_set
from dicom_node.stream import Peer, Stream, Taken
from dicom_node.upper_layer import ContextResult, PeerConfused, ProposedContext, parse_elements
from ledger.identifiers import AETitle, StudyId, Uid

STUDY_ROOT_GET = Uid("1.2.840.10008.5.1.4.1.2.2.3")

_C_GET_REQUEST, _C_GET_RESPONSE = 0x0010, 0x8010
_LOOK_S = 0.2  # How often to look whether to stop.
_CONTEXTS_MAX = 128  # PS3.8 §9.3.2.2
_ANSWER_BYTES_MAX = 1 << 20

_IMAGE = "1.2.840.10008.5.1.4.1.1"
#: Modality → the ends of the SOP classes that are most likely in it: archives need not say SOP classes.
_LIKELY: dict[str, tuple[str, ...]] = {
    "CT": ("2", "2.1"),
    "MR": ("4", "4.1", "4.2"),
    "PT": ("128", "130"),
    "NM": ("20",),
    "CR": ("1",),
    "DX": ("1.1", "1"),
    "MG": ("1.2", "13.1.3"),
    "US": ("6.1", "3.1"),
    "XA": ("12.1", "12.1.1"),
    "RF": ("12.2", "12.2.1"),
    "SC": ("7",),
    "OT": ("7", "30"),
    "SEG": ("66.4",),
    "SR": ("88.11", "88.22", "88.33", "88.67"),
    "KO": ("88.59",),
    "PR": ("11.1",),
    "RTSTRUCT": ("481.3",),
    "RTPLAN": ("481.5",),
    "RTDOSE": ("481.2",),
}
#: After those: what comes with images nearly everywhere.
_USUAL = ("7", "88.11", "88.22", "88.33", "88.59", "88.67", "11.1", "66.4", "104.1", "7.2", "7.4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Getter:
    """Fetches from one peer into our own spool and ledger."""

    peer: PeerSettings
    own: AETitle
    receiver: Receiver
    limits: NodeSettings
    stored: Callable[[StudyId], None]  #: told the study of every instance that was taken
    deadline_s: float  #: for everything that is asked for at once
    silence_s: float  #: between two messages
    stopping: threading.Event
    each_syntax: bool = True  #: of every class a context for each transfer syntax

    def get(self, portions: Sequence[Portion], wanted: Collection[Uid], listing: Listing) -> Retrieved:
        """Ask for `portions`, which are the instances `wanted` of the study that the peer lists so.

        Raises `RetrievalRefused` or another `PeerError`; what came before stands.
        """
        get = ProposedContext(STUDY_ROOT_GET, (Uid(IMPLICIT_LITTLE_ENDIAN),))
        contexts = [get, *storage_contexts(listing, each_syntax=self.each_syntax)]
        deadline = Deadline(self.deadline_s)
        total = Retrieved()
        with associate(self.peer, calling=self.own, contexts=contexts, deadline=deadline) as association:
            context_id, answer = association.answered(get)
            if answer.result is not ContextResult.ACCEPTED:
                raise RetrievalRefused(f"{self.peer.name} does not answer C-GET at study root")
            hearing = _Hearing(self, association, deadline, frozenset(wanted))
            try:
                for message_id, portion in enumerate(portions, start=1):
                    association.send(
                        context_id, *request(STUDY_ROOT_GET, _C_GET_REQUEST, message_id, portion)
                    )
                    try:
                        last = hearing.last_answer(message_id)
                    except (PeerSilent, RetrievalStopped):
                        association.cancel(context_id, message_id)
                        raise
                    if last.status not in (SUCCESS, SOME_FAILED):
                        raise RetrievalRefused(f"{self.peer.name} answered C-GET with {last.words}")
                    total = total.plus(concluded(last))
            finally:
                hearing.drop()
        return total


def storage_contexts(listing: Listing, *, each_syntax: bool) -> list[ProposedContext]:
    """The contexts in which the peer may send: at most 127, for C-GET itself needs one.

    An archive that does not convert sends an instance only in the transfer syntax that it has it in, and
    takes one syntax for each context. So with `each_syntax`, what is surely or likely in the study gets a
    context for each, as far as there is room. Without it the peer chooses one for each class: some use no
    other context of a class than the first. Where the peer does not say its SOP classes, every other class
    gets a context, too.
    """
    ours = storage_sop_classes()
    likely = {f"{_IMAGE}.{end}" for modality in listing.unsaid for end in _LIKELY.get(modality, ())}
    classes = [uid for uid in ours if uid in likely or Uid(uid) in listing.sop_classes]
    syntaxes = tuple(Uid(syntax.uid) for syntax in TRANSFER_SYNTAXES)
    room = _CONTEXTS_MAX - 1
    if not each_syntax:
        groups = [syntaxes]
    elif len(classes) * (len(syntaxes) - 1) <= room:
        groups = [syntaxes[:2], *((syntax,) for syntax in syntaxes[2:])]
    else:
        groups = [syntaxes[:2], syntaxes[2:]] if len(classes) * 2 <= room else [syntaxes]
    found = [ProposedContext(Uid(each), group, as_scp=True) for each in classes for group in groups]
    if listing.unsaid:
        usual = [f"{_IMAGE}.{end}" for end in _USUAL]
        others = dict.fromkeys(uid for uid in [*usual, *ours] if uid in ours and uid not in classes)
        found += [ProposedContext(Uid(each), syntaxes, as_scp=True) for each in others]
    return found[:room]


class _Hearing:
    """What the peer says on one association: instances for the node, and answers to our requests."""

    def __init__(
        self, getter: Getter, association: RequestedAssociation, deadline: Deadline, wanted: frozenset[Uid]
    ) -> None:
        self._getter, self._association, self._deadline = getter, association, deadline
        self._command = b""
        self._data = bytearray()
        self._answers: list[bytes] = []
        self._answer_at = time.monotonic()
        _, address = association.ends
        receiver = getter.receiver
        self._stream = Stream(
            Peer(
                calling=AETitle.parse(getter.peer.ae_title),
                called=getter.own,
                address=address,
                contexts={
                    context_id: (str(context.abstract_syntax), syntax)
                    for context_id, (context, syntax) in association.accepted.items()
                },
                maximum_length=association.maximum_length,
                instance_bytes_max=getter.peer.instance_bytes_max or getter.limits.instance_bytes_max,
            ),
            receiver=OnlyAskedFor(
                spool=receiver.spool,
                ledger=receiver.ledger,
                group=receiver.group,
                books=receiver.books,
                settings=receiver.settings,
                quotas=receiver.quotas,
                refusals=receiver.refusals,
                long_headers=receiver.long_headers,
                wanted=frozenset(map(str, wanted)),
            ),
            limits=getter.limits,
            forward=self._other,
            answer=association.send_raw,
            stored=getter.stored,
        )

    def drop(self) -> None:
        """Leave nothing behind of an instance that was not finished."""
        self._stream.drop()

    def last_answer(self, message_id: int) -> Progress:
        """The last response to a request, after all that comes before it."""
        doing = "fetching from it by C-GET"
        heard_at = time.monotonic()
        while True:
            if self._getter.stopping.is_set():
                raise RetrievalStopped("the node is stopping: the rest is asked for after the next start")
            if self._take(doing):
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > self._getter.silence_s:
                raise PeerSilent(f"it was silent for {self._getter.silence_s:g} s after C-GET")
            while self._answers:
                command = parse_elements(self._answers.pop(0))
                answer = progress_in(command, expected=_C_GET_RESPONSE, asked=message_id)
                if not answer.pending:
                    return answer

    def _take(self, doing: str) -> bool:
        """Deal with what has come, waiting a moment for it; whether something had."""
        taken = self._association.receive_by(self._stream.take, doing)
        if taken in (Taken.OTHER, Taken.CLOSED):
            # What is no P-DATA-TF ends an association, and the association knows how to say so.
            self._association.receive(doing)
            raise PeerConfused("it sent something that is no message while we were " + doing)
        if taken is Taken.NOTHING:
            self._association.speaks(min(_LOOK_S, self._deadline.left(doing)))
        return taken is Taken.SOME

    def _other(self, piece: Piece) -> bool:
        """A piece of a message that is no C-STORE: gathered until it is whole."""
        if piece.is_command:
            self._command = bytes(piece.data)
            if not announces_data_set(self._command):
                self._answers.append(self._command)
            return True
        self._data += piece.data
        if len(self._data) > _ANSWER_BYTES_MAX:
            raise PeerConfused(f"its answer is longer than {_ANSWER_BYTES_MAX} bytes")
        if piece.ends:
            self._answers.append(self._command)
            self._data.clear()
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlyAskedFor(Receiver):
    """Takes in what was asked for, and nothing else: a C-GET is no open door."""

    wanted: frozenset[str]  #: SOP Instance UIDs, as text: what is no UID is none of them

    def begin(self, offer: Offer, told: Callable[[StudyId], None] | None = None) -> Reception:
        """Take in what `offer` announces, or refuse it."""
        if offer.sop_instance in self.wanted:
            # Whoever asked for it looks into the ledger next: without `told` the row is there first.
            return Receiver.begin(self, offer)
        return _NotAskedFor()


class _NotAskedFor(Reception):
    """Reads and forgets."""

    def __init__(self) -> None:
        self.size = 0

    def append(self, pieces: Sequence[memoryview]) -> None:
        self.size += sum(map(len, pieces))

    def finish(self) -> tuple[StoreStatus, StudyId | None]:
        return StoreStatus.NOT_AUTHORIZED, None

    def drop(self) -> None:
        """There is nothing to leave behind."""
