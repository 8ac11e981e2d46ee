"""
One notification to one receiver, and what its answer means.

A webhook is signed as https://www.standardwebhooks.com says: HMAC-SHA256 over number, time and body, so that
its receiver knows that we sent it, and when, and takes the same one only once.

What a receiver says in words of its own is repeated nowhere: "patient 4711 is not known" has no place in a
log. Its codes are: MSA-1 and the error code of HL7 table 0357, or the status of HTTP.
"""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dicom_node.mail import hand_over
from dicom_node.mllp import exchange
from dicom_node.reach import Deadline
from dicom_node.receivers import ReceiverSettings
from dicom_node.web_session import NotAdmitted, Redirected, WebSession, secret
from ledger.errors import PeerError

_HL7, _FHIR = "application/hl7-v2; charset=utf-8", "application/fhir+json; charset=utf-8"


class Told(StrEnum):
    """What an answer means for the notification."""

    TAKEN = "taken"
    RETRY = "retry"  #: It is not taken, or nobody knows: the same bytes again.
    REFUSED = "refused"  #: The same bytes would be refused again.


@dataclass(frozen=True, slots=True)
class Heard:
    """What became of one message."""

    told: Told
    because: str


#: MSA-1 (HL7 table 0008): the message was taken, could not be processed, or is not wanted.
_TAKEN, _ERROR, _REJECTED = ("AA", "CA"), ("AE", "CE"), ("AR", "CR")

#: HL7 table 0357: error code → its words, and whether the same message would meet it again.
_CODES: Mapping[str, tuple[str, bool]] = {
    "100": ("segment sequence error", True),
    "101": ("required field missing", True),
    "102": ("data type error", True),
    "103": ("table value not found", True),
    "200": ("unsupported message type", True),
    "201": ("unsupported event code", True),
    "202": ("unsupported processing id", True),
    "203": ("unsupported version id", True),
    "204": ("unknown key identifier: it does not know the patient or the order", False),
    "205": ("duplicate key identifier", True),
    "206": ("application record locked", False),
    "207": ("application internal error", False),
}
_CONTROL_ID = re.compile(r"[\w.-]{1,199}")

#: Status of HTTP → what it means. Whatever is not here: 4xx would repeat itself, 5xx might not.
_HTTP: Mapping[int, tuple[Told, str]] = {
    404: (Told.REFUSED, "there is nothing of that kind at that url: compare it with the receiver's own"),
    408: (Told.RETRY, "we were too slow for it"),
    409: (Told.RETRY, "something else changed it at the same moment"),
    412: (Told.REFUSED, "it has several reports of ours under one identifier: all but one have to go there"),
    413: (Told.REFUSED, "it takes nothing so large: its limit has to be raised there"),
    415: (Told.REFUSED, "it does not take it in this form"),
    422: (
        Told.REFUSED,
        "it understands the report and does not take it: its rules have to be looked at there",
    ),
    425: (Told.RETRY, "it is too early for it"),
    429: (Told.RETRY, "it is busy"),
    501: (Told.REFUSED, "it knows nothing of this kind"),
    503: (Told.RETRY, "it is out of service for now"),
}


def tell(receiver: ReceiverSettings, control_id: str, body: str, *, query: str = "") -> Heard:
    """Send one message. `query` names the one report that a FHIR server has of it, or will have.

    Trouble with the receiver, and with our password or token, is an answer.
    """
    try:
        return _told(receiver, control_id, body.encode(), query)
    except (NotAdmitted, Redirected) as refused:
        return Heard(Told.RETRY, str(refused))
    except PeerError as error:
        return Heard(Told.RETRY, str(error))


def _told(receiver: ReceiverSettings, control_id: str, message: bytes, query: str) -> Heard:
    """In the way of its kind. Raises `PeerError`."""
    if receiver.kind == "email":
        return heard_mail(*hand_over(receiver, message, Deadline(receiver.deadline_s)))
    if receiver.to.mllp:
        answer = exchange(receiver, message, Deadline(receiver.deadline_s))
        return acknowledged(answer, control_id)
    with WebSession.to(receiver.peer, deadline_s=receiver.deadline_s) as session:
        if receiver.kind == "webhook":
            headers = _signed(receiver, control_id, message)
            return heard_webhook(_replied(session, "POST", receiver.to.url, message, headers)[0])
        if receiver.kind == "fhir":
            url = f"{session.web.url}/DiagnosticReport?{query}"
            headers = {
                "Content-Type": _FHIR,
                "Accept": "application/fhir+json",
                "Prefer": "return=minimal",
            }
            return heard_http(_replied(session, "PUT", url, message, headers)[0])
        headers = {"Content-Type": _HL7, "Accept": "application/hl7-v2"}
        status, answer = _replied(session, "POST", session.web.url, message, headers)
    if answer.lstrip(b"\x0b\r\n ").startswith(b"MSH"):
        return acknowledged(answer.strip(b"\x0b\x1c\r\n "), control_id)
    return heard_http(status)


def acknowledged(answer: bytes, control_id: str) -> Heard:
    """What the acknowledgement `answer` says of the message `control_id` (HL7 v2.5.1 §2.9.2)."""
    text = answer.decode("utf-8", "replace").replace("\n", "\r")
    segments = [segment.strip() for segment in text.split("\r")]
    msh = next((one for one in segments if one.startswith("MSH")), "")
    separator = msh[3:4] or "|"
    msa = next((one.split(separator) for one in segments if one.startswith(f"MSA{separator}")), [])
    if not msh or len(msa) < 3:
        return Heard(Told.RETRY, "what it answers is no acknowledgement of HL7")
    code, about = msa[1].strip(), msa[2].strip()
    if about != control_id:
        whose = "of another message" if _CONTROL_ID.fullmatch(about) else "of no message"
        return Heard(Told.RETRY, f"it sent the acknowledgement {whose}")
    known = _error_code(segments, msa, separator)
    words, lasting = _CODES.get(known, ("", False))
    said = f"{code}, error {known} ({words})" if words else code
    if code in _TAKEN:
        return Heard(Told.TAKEN, f"it answered {code}")
    if code in _ERROR:
        return Heard(Told.REFUSED if lasting else Told.RETRY, f"it could not process it: {said}")
    if code in _REJECTED:
        return Heard(Told.REFUSED, f"it rejected the message: {said}: its log says why")
    return Heard(Told.RETRY, "it answered with a code that HL7 does not know")


def heard_http(status: int) -> Heard:
    """What a status of HTTP says."""
    if 200 <= status < 300:
        return Heard(Told.TAKEN, f"it answered HTTP {status}")
    told, words = _HTTP.get(
        status,
        (Told.REFUSED, "it refuses it: its log says why")
        if 400 <= status < 500
        else (Told.RETRY, "it failed while it took it"),
    )
    return Heard(told, f"HTTP {status}: {words}")


def heard_webhook(status: int) -> Heard:
    """What a status of HTTP says of a webhook: none of its words are about reports."""
    heard = heard_http(status)
    if status in (412, 422):
        return Heard(heard.told, f"HTTP {status}: it refuses it: its log says why")
    return heard


def heard_mail(code: int, words: str) -> Heard:
    """What a code of SMTP says (RFC 5321 §4.2.1)."""
    if code == 250:
        return Heard(Told.TAKEN, words)
    return Heard(
        Told.REFUSED if 500 <= code < 600 else Told.RETRY, f"{words} (SMTP {code}): its log says why"
    )


def signature(key: str, number: str, at: int, body: bytes) -> str:
    """What says that we sent the message `number` with `body` at `at` (seconds since 1970): `v1,` and the
    HMAC-SHA256 of number, time and body in base64.
    """
    signed = b".".join((number.encode(), str(at).encode(), body))
    return f"v1,{base64.b64encode(hmac.new(key.encode(), signed, hashlib.sha256).digest()).decode()}"


def _signed(receiver: ReceiverSettings, control_id: str, body: bytes) -> dict[str, str]:
    """Headers of one attempt: the number is the same every time, the time is that of the attempt."""
    assert receiver.to.secret_file is not None
    at = int(time.time())
    return {
        "Content-Type": receiver.content_type,
        "webhook-id": control_id,
        "webhook-timestamp": str(at),
        "webhook-signature": signature(secret(receiver.to.secret_file), control_id, at, body),
        "Idempotency-Key": control_id,
    }


def _replied(
    session: WebSession, method: str, url: str, body: bytes, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    response = session.request(method, url, data=body, headers=dict(headers))
    return response.status_code, response.content


def _error_code(segments: list[str], msa: list[str], separator: str) -> str:
    """ERR-3 (v2.5 and later), else MSA-6: the first component, if it is one of table 0357."""
    for segment in segments:
        fields = segment.split(separator)
        if fields[0] == "ERR" and len(fields) > 3 and fields[3]:
            return fields[3].split("^")[0].strip()
    return msa[6].split("^")[0].strip() if len(msa) > 6 else ""
