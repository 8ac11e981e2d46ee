"""One STOW-RS: a file as it lies there to one peer, and what its answer means (PS3.18 §10.5).

The rules are those of `send`: the same bytes every time, an answer of one of five kinds, an end at the
deadline. A request carries one instance, so that its answer is about that one; the file is read as it is
sent.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.errors import InvalidDicomError
from pynetdicom.dsutils import split_dataset

from dicom_node.dicomweb.multipart import new_boundary
from dicom_node.peers import PeerSettings
from dicom_node.send import Answer, AnswerKind, Objection, ResultUnreadable, meaning, name_of
from dicom_node.web_query import uid_of, value_of
from dicom_node.web_session import NotAdmitted, Redirected, Reply, SizedBody, WebSession
from ledger.errors import PeerError
from ledger.identifiers import Uid

_PIECE_BYTES = 1 << 17
_FAILED, _STORED = "00081198", "00081199"  # Failed SOP Sequence, Referenced SOP Sequence
_SOP_INSTANCE, _FAILURE, _WARNING = "00081155", "00081197", "00081196"
_JSON = frozenset({"application/dicom+json", "application/json"})

#: Status of HTTP → what it means where the answer says nothing of the instance (PS3.18 §10.5.3.1)
_HTTP: Mapping[int, tuple[AnswerKind, str, Objection | None]] = {
    202: (AnswerKind.UNKNOWN, "it stored a part, and does not say which", None),
    400: (AnswerKind.REFUSED, "it cannot understand the request", None),
    404: (AnswerKind.RETRY, "there is no STOW-RS at that url: compare it with the archive's own", None),
    405: (AnswerKind.RETRY, "there is no STOW-RS at that url: compare it with the archive's own", None),
    408: (AnswerKind.UNKNOWN, "we were too slow for it", None),
    409: (AnswerKind.REFUSED, "it refuses the instance and does not say why", None),
    413: (AnswerKind.REFUSED, "it takes nothing so large: its limit has to be raised there", None),
    415: (AnswerKind.REFUSED, "it does not take it in this form", Objection.TRANSFER_SYNTAX),
    429: (AnswerKind.RETRY, "it is busy", None),
    500: (AnswerKind.UNKNOWN, "it failed while it took it", None),
    501: (AnswerKind.RETRY, "it knows no STOW-RS", None),
    502: (AnswerKind.UNKNOWN, "what stands before it lost it", None),
    503: (AnswerKind.RETRY, "it is out of resources", None),
    504: (AnswerKind.UNKNOWN, "what stands before it had no answer in time", None),
    507: (AnswerKind.RETRY, "its disk is full", None),
}


def send_web(path: Path, peer: PeerSettings, *, deadline_s: float) -> Answer:
    """Store the file at `path` with `peer`.

    Trouble with the peer, and with our password or token, is an answer. Raises `ResultUnreadable` where the
    file is the trouble.
    """
    meta = _meta(path)
    sop_instance, sop_class = (
        Uid.parse(meta.MediaStorageSOPInstanceUID),
        Uid.parse(meta.MediaStorageSOPClassUID),
    )
    boundary = new_boundary()
    content_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
    try:
        with path.open("rb") as file:
            body = _body(file, boundary, path.name)
            try:
                with WebSession.to(peer, deadline_s=deadline_s) as session:
                    url = f"{session.web.stow_url or session.web.url}/studies"
                    reply = session.store(url, content_type, body)
            except (NotAdmitted, Redirected) as refused:
                return Answer(None, AnswerKind.RETRY, str(refused))  # It says that it did not take it.
            except PeerError as error:
                # Once a byte has left, the peer may have stored it, whatever became of the connection.
                kind = AnswerKind.UNKNOWN if body.begun else AnswerKind.RETRY
                return Answer(None, kind, str(error))
    except OSError as error:
        raise ResultUnreadable(f"{path.name} cannot be read: {error.strerror}") from error
    return answer(reply, sop_instance, sop_class)


def answer(reply: Reply, sop_instance: Uid, sop_class: Uid) -> Answer:
    """What `reply` says of the one instance that was sent."""
    said = _said(reply, sop_instance)
    if said is not None:
        if said.objects_to is Objection.SOP_CLASS:
            return Answer(said.status, said.kind, f"{said.because}: {name_of(sop_class)}", said.objects_to)
        return said
    if reply.status in (200, 201, 204):
        return Answer(0x0000, AnswerKind.ACCEPTED, f"stored (HTTP {reply.status})")
    otherwise = (AnswerKind.UNKNOWN, "that is no answer of STOW-RS", None)
    kind, words, objection = _HTTP.get(reply.status, otherwise)
    return Answer(None, kind, f"HTTP {reply.status}: {words}", objection)


def _said(reply: Reply, sop_instance: Uid) -> Answer | None:
    """What the Store Instances Response says of the instance; None where it says nothing of it."""
    response = _response(reply)
    for item in _items(response, _FAILED):
        reason = value_of(item, _FAILURE)
        # Some leave out which one has failed; only one was sent.
        if uid_of(item, _SOP_INSTANCE) in (sop_instance, None) and isinstance(reason, int):
            told = meaning(reason & 0xFFFF)
            # A failure is none, whatever a status of that number means elsewhere.
            if told.kind in (AnswerKind.ACCEPTED, AnswerKind.WARNING) and reason != 0x0111:
                return Answer(reason, AnswerKind.UNKNOWN, f"it failed, and says {reason:#06x}")
            return told
    for item in _items(response, _STORED):
        if uid_of(item, _SOP_INSTANCE) == sop_instance:
            warning = value_of(item, _WARNING)
            told = meaning(warning & 0xFFFF) if isinstance(warning, int) else meaning(0x0000)
            return told if told.kind is AnswerKind.WARNING else Answer(0x0000, AnswerKind.ACCEPTED, "stored")
    return None


def _response(reply: Reply) -> Mapping[str, Any]:
    if reply.media_type not in _JSON:
        return {}
    try:
        found = json.loads(reply.body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(found, list) and len(found) == 1:  # As some write it who think of QIDO-RS.
        (found,) = found
    return found if isinstance(found, dict) else {}


def _items(response: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    sequence = response.get(tag)
    values = sequence.get("Value") if isinstance(sequence, dict) else None
    return [item for item in values if isinstance(item, dict)] if isinstance(values, list) else []


def _meta(path: Path) -> Any:
    try:
        meta, _ = split_dataset(path)
        Uid.parse(meta.MediaStorageSOPInstanceUID)
        Uid.parse(meta.MediaStorageSOPClassUID)
    except (OSError, InvalidDicomError, AttributeError, ValueError) as error:
        raise ResultUnreadable(f"{path.name} cannot be sent: {error}") from error
    return meta


def _body(file: BinaryIO, boundary: str, name: str) -> SizedBody:
    """One part with the whole file (PS3.18 §8.6.1)."""
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    size = os.fstat(file.fileno()).st_size

    def pieces() -> Iterator[bytes]:
        yield head
        left = size
        while left:
            piece = file.read(min(_PIECE_BYTES, left))
            if not piece:
                raise ResultUnreadable(f"{name} became shorter while it was read")
            left -= len(piece)
            yield piece
        yield tail

    return SizedBody(len(head) + size + len(tail), pieces())
