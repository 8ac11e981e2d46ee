"""STOW-RS (PS3.18 §10.5): instances that come over the web go the way of those that come over C-STORE.

A part of the body is written to a file without a name beside those that the node writes, looked at, and
handed to the node, which files it by its own rules and answers. Each instance has an answer of its own;
one that is refused does not hinder the others.
"""

import mmap
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from dicom_node.contexts import storage_sop_classes, transfer_syntax
from dicom_node.dicomweb.attributes import Json
from dicom_node.dicomweb.frames import file_meta
from dicom_node.dicomweb.media import DICOM, MULTIPART, OCTETS
from dicom_node.dicomweb.multipart import MultipartReader, PartBegins, PartData
from dicom_node.dicomweb.refusals import BadRequest, NotDicom, TooLarge
from dicom_node.dicomweb.settings import DicomWebSettings
from dicom_node.hand_in import HandIn, Handing, NodeAway
from dicom_node.headers import HeaderUnreadable, read_headers
from dicom_node.limits import DataSetSettings
from dicom_node.part10 import NotOurFile
from dicom_node.refusals import Kind, Refusals
from dicom_node.spool import INCOMING, Room, Spool
from dicom_node.status import StoreStatus
from ledger.identifiers import Uid

log = structlog.get_logger()

CALLING = "STOW-RS"  #: what rules and the ledger see where a C-STORE has the calling AE title

# PS3.18 Table I.2-2, beside those that C-STORE has as well.
_SOP_CLASS_NOT_SUPPORTED, _TRANSFER_SYNTAX_NOT_SUPPORTED = 0x0122, 0xC122
_WARNING = 0xB  # the first digit of every warning (PS3.7 §C.3)
_FULL = "the disk is full up to its mark, or could not be written"
_STORABLE = frozenset(storage_sop_classes())


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one instance; UIDs are None where they could not be read."""

    status: int  #: 0, a Failure Reason (0008,1197) or a Warning Reason (0008,1196)
    sop_class: Uid | None = None
    sop_instance: Uid | None = None
    study: Uid | None = None
    series: Uid | None = None


@dataclass(slots=True)
class Upload:
    """One request. Feed it the body, then close it; not for several threads at once.

    Raises `BadRequest`, `NotDicom` and `TooLarge`, which end the request; what was stored before stays.
    """

    spool: Spool
    settings: DicomWebSettings
    shape: DataSetSettings
    called: str
    address: str
    study: Uid | None  #: the only one that may be stored into, where the URL names one
    refusals: Refusals | None = None  #: hears of what is refused here; the node tells of what it refuses
    outcomes: list[Outcome] = field(default_factory=list)
    _reader: MultipartReader | None = None
    _file: Any = None
    _size: int = 0
    _total: int = 0
    _full: bool = False
    _node: Handing | None = None

    def begin(self, type: str, parameters: dict[str, str]) -> None:
        """The Content-Type of the request."""
        if type == MULTIPART:
            if parameters.get("type", DICOM).lower() != DICOM:
                raise NotDicom("instances are taken as application/dicom only, not as metadata and bulk data")
            self._reader = MultipartReader(parameters.get("boundary", ""))
        elif type == DICOM:
            self._begin_part(DICOM)
        else:
            raise NotDicom('send multipart/related; type="application/dicom", or one application/dicom')

    def feed(self, piece: bytes) -> None:
        """The next bytes of the body."""
        self._total += len(piece)
        if self._total > self.settings.upload_bytes_max:
            raise TooLarge(f"a request may have {self.settings.upload_bytes_max} bytes: send it in several")
        if self._reader is None:
            self._write(piece)
            return
        for event in self._reader.feed(piece):
            if isinstance(event, PartBegins):
                self._begin_part(event.type)
            elif isinstance(event, PartData):
                self._write(event.data)
            else:
                self._end_part()

    def finish(self) -> None:
        """The body has ended."""
        if self._reader is None:
            self._end_part()
        else:
            self._reader.close()
        if not self.outcomes:
            raise BadRequest("the request has no instances in it")

    def close(self) -> None:
        """Let go of everything, at the end or in the middle."""
        if self._file is not None:
            self._file.close()
        if self._node is not None:
            self._node.close()

    def _begin_part(self, type: str) -> None:
        if type not in (DICOM, OCTETS):
            raise NotDicom("every part of the body has to be application/dicom")
        # Each costs a file, and memory until all are answered, however small it is.
        if len(self.outcomes) >= self.settings.upload_parts_max:
            raise TooLarge(
                f"a request may have {self.settings.upload_parts_max} instances: send them in several"
            )
        self._size = 0
        self._full = self.spool.room() is Room.HARD
        self._file = tempfile.TemporaryFile(dir=self.spool.path / INCOMING, buffering=0)  # noqa: SIM115

    def _write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self.settings.instance_bytes_max:
            raise TooLarge(f"an instance may have {self.settings.instance_bytes_max} bytes")
        if self._full:
            return
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError:  # Whatever it is: it was not stored, and may be once the disk is well.
            self._full = True

    def _end_part(self) -> None:
        try:
            if self._full:
                outcome = self._refuse(StoreStatus.OUT_OF_RESOURCES, _FULL)
            elif self._size == 0:
                outcome = self._refuse(
                    StoreStatus.CANNOT_UNDERSTAND, "an instance of a STOW-RS request is empty"
                )
            else:
                outcome = self._store()
        finally:
            self._file.close()
            self._file = None
        self.outcomes.append(outcome)

    def _store(self) -> Outcome:
        view = memoryview(mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ))
        try:
            sop_class, sop_instance, syntax, offset = file_meta(view)
        except NotOurFile as error:
            return self._refuse(StoreStatus.CANNOT_UNDERSTAND, str(error))
        known: dict[str, Any] = {"sop_class": sop_class, "sop_instance": sop_instance}
        if str(sop_class) not in _STORABLE:
            because = f"SOP class {sop_class} is not one of those that are stored"
            return self._refuse(_SOP_CLASS_NOT_SUPPORTED, because, **known)
        if transfer_syntax(str(syntax)) is None:
            because = f"transfer syntax {syntax} is not one of those that are stored"
            return self._refuse(_TRANSFER_SYNTAX_NOT_SUPPORTED, because, **known)
        with suppress(HeaderUnreadable, ValueError):
            headers = read_headers(view[offset:], syntax, shape=self.shape)
            known["study"] = Uid.parse(headers.get("StudyInstanceUID", ""))
            known["series"] = Uid.parse(headers.get("SeriesInstanceUID", ""))
        if self.study is not None and known.get("study", self.study) != self.study:
            because = "the instance is of another study than the one in the URL"
            return self._refuse(StoreStatus.DOES_NOT_MATCH, because, **known)
        try:
            if self._node is None:
                self._node = Handing(self.spool.path)
            status = self._node.hand_in(
                HandIn(
                    sop_class=str(sop_class),
                    sop_instance=str(sop_instance),
                    transfer_syntax=str(syntax),
                    offset=offset,
                    calling=CALLING,
                    called=self.called,
                    address=self.address,
                ),
                self._file.fileno(),
            )
        except NodeAway as error:
            if self._node is not None:
                self._node.close()
                self._node = None
            return self._refuse(StoreStatus.OUT_OF_RESOURCES, str(error), **known)
        return Outcome(status=status, **known)

    def _refuse(self, status: int, because: str, **known: Any) -> Outcome:
        kind = Kind.POSTPONED if status == StoreStatus.OUT_OF_RESOURCES else Kind.INSTANCE
        if self.refusals is not None:
            self.refusals.note(kind, because, address=self.address, calling=CALLING, reason=f"{status:04X}")
        else:
            log.warning(f"instance.{kind}", because=because, calling=CALLING)
        return Outcome(status=status, **known)


def answer(outcomes: list[Outcome], url: Callable[..., str]) -> tuple[int, Json]:
    """The status of HTTP and the Store Instances Response (PS3.18 §10.5.3); `url` makes a Retrieve URL."""
    stored = [each for each in outcomes if each.status == 0]
    # A warning: it is kept, but not where it could be retrieved.
    warned = [each for each in outcomes if each.status >> 12 == _WARNING]
    failed = [each for each in outcomes if each.status != 0 and each.status >> 12 != _WARNING]
    response: Json = {}
    studies = {each.study for each in stored}
    if len(studies) == 1:
        response["00081190"] = {"vr": "UR", "Value": [url(*studies)]}
    if failed:
        response["00081198"] = {
            "vr": "SQ",
            "Value": [_named(each) | {"00081197": {"vr": "US", "Value": [each.status]}} for each in failed],
        }
    if stored or warned:
        response["00081199"] = {
            "vr": "SQ",
            "Value": [
                _named(each)
                | {"00081190": {"vr": "UR", "Value": [url(each.study, each.series, each.sop_instance)]}}
                for each in stored
            ]
            + [_named(each) | {"00081196": {"vr": "US", "Value": [each.status]}} for each in warned],
        }
    if not failed and not warned:
        return 200, response
    if stored or warned:
        return 202, response
    later = all(each.status == StoreStatus.OUT_OF_RESOURCES for each in failed)
    return (503 if later else 409), response


def _named(outcome: Outcome) -> Json:
    named: Json = {}
    for tag, uid in (("00081150", outcome.sop_class), ("00081155", outcome.sop_instance)):
        named[tag] = {"vr": "UI", "Value": [str(uid)]} if uid else {"vr": "UI"}
    return named
