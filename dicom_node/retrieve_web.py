"""WADO-RS: instances fetched over the web (PS3.18 §10.4), as they are stored there.

What comes goes the way of every instance (`Receiver`): the same checks, the same spool, the same promise.
It goes to the disk as it comes, whatever its size, and only what was asked for is taken. How much is here in
the end is not asked of the peer: that is what the ledger says.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from dicom_node.contexts import storage_sop_classes, transfer_syntax
from dicom_node.dicomweb.frames import file_meta
from dicom_node.dicomweb.media import DICOM, MULTIPART, OCTETS, parse
from dicom_node.dicomweb.multipart import Event, MultipartReader, PartBegins, PartData, PartEnds
from dicom_node.dicomweb.refusals import BadRequest
from dicom_node.listing import Portion
from dicom_node.part10 import NotOurFile
from dicom_node.peers import PeerSettings
from dicom_node.receive import Offer, Receiver, Reception
from dicom_node.retrieve import RetrievalRefused, RetrievalStopped, Retrieved
from dicom_node.settings import NodeSettings
from dicom_node.status import StoreStatus
from dicom_node.upper_layer import PeerConfused
from dicom_node.web_session import WebRefused, WebSession
from ledger.identifiers import AETitle, StudyId, Uid

CALLING = "WADO-RS"  #: what rules and the ledger see of a peer without an AE title

# Every transfer syntax as it is: a server that has to convert may lose something (PS3.18 §8.7.3.5.2).
_ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_HEAD_BYTES = 1 << 16  # More than the File Meta Information of any file.
_STORABLE = frozenset(storage_sop_classes())


@dataclass(frozen=True, slots=True, kw_only=True)
class WebGetter:
    """Fetches from one peer into our own spool and ledger."""

    peer: PeerSettings
    own: AETitle
    receiver: Receiver
    limits: NodeSettings
    stored: Callable[[StudyId], None]  #: told the study of every instance that was taken
    deadline_s: float  #: for everything that is asked for at once
    silence_s: float  #: without a byte
    stopping: threading.Event

    def get(self, portions: Sequence[Portion], wanted: Collection[Uid]) -> Retrieved:
        """Ask for `portions`, which are the instances `wanted`.

        Raises `RetrievalRefused` or another `PeerError`; what came before stands.
        """
        taking = _Taking(self, frozenset(map(str, wanted)))
        with WebSession.to(self.peer, deadline_s=self.deadline_s, silence_s=self.silence_s) as session:
            address = session.web.wado_url or session.web.url
            try:
                for url in (each for portion in portions for each in urls(address, portion)):
                    with session.opened(url, _ACCEPT) as (content_type, pieces):
                        taking.answer(content_type, pieces)
            except WebRefused as refused:
                because = f"{self.peer.name} does not give it by WADO-RS: {refused}"
                if refused.status == 404:
                    because += f"; is {address} what stands before /studies?"
                raise RetrievalRefused(because) from refused
            except BadRequest as error:
                raise PeerConfused(f"its answer to WADO-RS cannot be read: {error}") from error
            finally:
                taking.drop()
        return taking.came


def urls(address: str, portion: Portion) -> Iterator[str]:
    """What to ask for below `address`: a study, a series, or instances one by one."""
    url = f"{address}/studies/{portion.study}"
    if portion.series is not None:
        url += f"/series/{portion.series}"
    if portion.instances:
        yield from (f"{url}/instances/{instance}" for instance in portion.instances)
    else:
        yield url


class _Taking:
    """What comes in the answers of one peer, instance by instance."""

    def __init__(self, getter: WebGetter, wanted: frozenset[str]) -> None:
        self.came = Retrieved()
        self._getter, self._wanted = getter, wanted
        self._most = getter.peer.instance_bytes_max or getter.limits.instance_bytes_max
        self._head = bytearray()
        self._size = 0
        self._reception: Reception | None = None
        self._unwanted = False

    def answer(self, content_type: str, pieces: Iterator[bytes]) -> None:
        """One whole answer. Raises `BadRequest` where it is none, and `PeerError`."""
        type, parameters = parse(content_type) if content_type else ("", {})
        if type == MULTIPART:
            reader = MultipartReader(parameters.get("boundary", ""))
            for piece in pieces:
                for event in reader.feed(piece):
                    self._take(event)
                if self._getter.stopping.is_set():
                    raise RetrievalStopped("the node is stopping: the rest is asked for after the next start")
            reader.close()
        elif type in (DICOM, OCTETS):  # Some answer so where there is only one.
            self._take(PartBegins(type, parameters))
            for piece in pieces:
                self._take(PartData(piece))
            self._take(PartEnds())
        else:
            raise BadRequest(f"it is {type or 'of no type'}, not {MULTIPART}")

    def drop(self) -> None:
        """Leave nothing behind of an instance that was not finished."""
        reception, self._reception = self._reception, None
        if reception is not None:
            reception.drop()

    def _take(self, event: Event) -> None:
        match event:
            case PartBegins():
                self._head, self._size, self._unwanted = bytearray(), 0, False
            case PartData(data=data):
                self._size += len(data)
                if self._size > self._most:
                    raise PeerConfused(f"it sends an instance of more than {self._most} bytes")
                self._append(data)
            case PartEnds():
                if self._reception is None and not self._unwanted:
                    self._begin()
                self._end()

    def _append(self, data: bytes) -> None:
        if self._reception is not None:
            self._reception.append([memoryview(data)])
        elif not self._unwanted:
            self._head += data
            if len(self._head) >= _HEAD_BYTES:
                self._begin()

    def _begin(self) -> None:
        """The head is here: what does it say that it is?"""
        head = memoryview(bytes(self._head))
        try:
            sop_class, sop_instance, syntax, offset = file_meta(head)
        except NotOurFile as error:
            self._refuse(f"it sent what is no file of Part 10: {error}")
            return
        if str(sop_instance) not in self._wanted:
            self._refuse("it sent what was not asked for")
        elif str(sop_class) not in _STORABLE or transfer_syntax(str(syntax)) is None:
            self._refuse(f"{sop_class} in transfer syntax {syntax} is not taken here")
        else:
            getter = self._getter
            self._reception = getter.receiver.begin(
                Offer(
                    sop_class=str(sop_class),
                    sop_instance=str(sop_instance),
                    abstract_syntax=str(sop_class),
                    transfer_syntax=syntax,
                    calling=AETitle.parse(getter.peer.ae_title or CALLING),
                    called=getter.own,
                    address=_host(getter.peer),
                )
            )
            self._reception.append([head[offset:]])

    def _end(self) -> None:
        reception, self._reception = self._reception, None
        if reception is None:
            return
        try:
            status, study_id = reception.finish()
        finally:
            reception.drop()
        if study_id is not None:
            self._getter.stored(study_id)
        if status is StoreStatus.SUCCESS:
            self.came = self.came.plus(Retrieved(completed=1))
        else:
            self._refuse(f"status 0x{status:04X} here")

    def _refuse(self, because: str) -> None:
        self._unwanted = True
        self.came = self.came.plus(Retrieved(failed=1, said=(because,)))


def _host(peer: PeerSettings) -> str:
    assert peer.web is not None
    return urlsplit(peer.web.wado_url or peer.web.url).hostname or ""
