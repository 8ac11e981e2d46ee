"""Receivers of notifications, in good and in bad moods: every answer is one of taken, again later, or no."""

import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from dicom_node.receivers import ReceiverSettings
from dicom_node.tell import Told, acknowledged, heard_http, tell
from tests.patience import patient
from tests.peers.certificates import authority
from tests.peers.receivers import Behave, acknowledge, engine, framed, says, web

MESSAGE = "MSH|^~\\&|WETREAD||||20260102||ORU^R01^ORU_R01|W1|P|2.5.1\rPID|1||4711^^^H||Müller^Jörg\r"


def receiver(url: str, kind: str = "hl7v2", *, to: dict[str, object] | None = None, **more: object):
    how = {"connect_s": 2.0, "deadline_s": 2.0, **more}
    return ReceiverSettings(name="RIS", kind=kind, to={"url": url, **(to or {})}, **how)


def test_an_accepted_message_arrived_as_it_was_sent() -> None:
    with engine() as ris:
        heard = tell(receiver(ris.url), "W1", MESSAGE)
        assert (heard.told, heard.because) == (Told.TAKEN, "it answered AA")
        assert ris.messages == [MESSAGE.encode()]


@pytest.mark.parametrize(
    ("behave", "told", "words"),
    [
        (says("CA"), Told.TAKEN, "CA"),
        (says("AE"), Told.RETRY, "it could not process it: AE"),
        (says("AE", error="101"), Told.REFUSED, "AE, error 101 (required field missing)"),
        (says("AE", error="204"), Told.RETRY, "does not know the patient or the order"),
        (says("CE", error="207"), Told.RETRY, "application internal error"),
        (says("AR"), Told.REFUSED, "it rejected the message: AR"),
        (says("CR", error="203"), Told.REFUSED, "unsupported version id"),
        (says("AA", about="W2"), Told.RETRY, "the acknowledgement of another message"),
        (says("AA", about=""), Told.RETRY, "the acknowledgement of no message"),
        (says("XX"), Told.RETRY, "a code that HL7 does not know"),
        (lambda _: framed(b"hello"), Told.RETRY, "no acknowledgement of HL7"),
        (lambda _: framed(b"MSH|^~\\&|ENGINE\r"), Told.RETRY, "no acknowledgement of HL7"),
        (lambda _: framed(b"\xff\xfe\x00MSA|AA|W1"), Told.RETRY, "no acknowledgement of HL7"),
        (lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n\x1c\r", Told.RETRY, "no MLLP"),
        (lambda _: None, Told.RETRY, "closed the connection without an acknowledgement"),
        (lambda _: framed(b"x" * 100_000), Told.RETRY, "longer than 65536 bytes"),
    ],
)
def test_every_answer_over_mllp_has_one_meaning(behave: Behave, told: Told, words: str) -> None:
    with engine(behave) as ris:
        heard = tell(receiver(ris.url), "W1", MESSAGE)
        assert heard.told is told
        assert words in heard.because


@pytest.mark.parametrize("behave", [lambda message: acknowledge(message)[:20], lambda _: b"\x0b"])
def test_half_an_answer_is_given_up_at_the_deadline(behave: Behave) -> None:
    with engine(behave) as ris:
        began = time.monotonic()
        heard = tell(receiver(ris.url, deadline_s=0.3), "W1", MESSAGE)
        assert heard.told is Told.RETRY
        assert time.monotonic() - began < patient(3)


def test_a_receiver_that_drips_does_not_hold_a_worker() -> None:
    # Byte by byte, each well within a time limit that would start anew with a byte.
    with engine(lambda message: (bytes([one]) for one in framed(acknowledge(message)))) as ris:
        began = time.monotonic()
        heard = tell(receiver(ris.url, deadline_s=0.3), "W1", MESSAGE)
        assert heard.told is Told.RETRY
        assert time.monotonic() - began < patient(2)


def test_what_the_receiver_says_in_its_own_words_is_repeated_nowhere() -> None:
    for code in ("AA", "AE", "AR"):
        answer = acknowledge(MESSAGE.encode(), code, error="204", text="Müller^Jörg 4711 unknown")
        heard = acknowledged(answer, "W1")
        assert "Müller" not in heard.because
        assert "4711" not in heard.because


def test_nobody_there_is_a_reason_to_try_again() -> None:
    heard = tell(receiver("mllp://127.0.0.1:1"), "W1", MESSAGE)
    assert heard.told is Told.RETRY
    assert "connection refused" in heard.because
    heard = tell(receiver("mllp://no-such-host.invalid:2575"), "W1", MESSAGE)
    assert heard.told is Told.RETRY


def test_hl7_goes_over_http_as_well(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    with web() as server:
        to = {"auth": "bearer", "token_file": str(token)}
        heard = tell(receiver(f"{server.url}/hl7", to=to), "W1", MESSAGE)
        assert (heard.told, heard.because) == (Told.TAKEN, "it answered AA")
        ((method, path, headers, body),) = server.requests
        assert (method, path, body) == ("POST", "/hl7", MESSAGE.encode())
        assert headers["Authorization"] == "Bearer s3cret"
        assert headers["Content-Type"] == "application/hl7-v2; charset=utf-8"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (200, Told.TAKEN), (201, Told.TAKEN), (204, Told.TAKEN), (400, Told.REFUSED), (404, Told.REFUSED),
        (408, Told.RETRY), (409, Told.RETRY), (412, Told.REFUSED), (422, Told.REFUSED), (429, Told.RETRY),
        (500, Told.RETRY), (502, Told.RETRY), (503, Told.RETRY), (504, Told.RETRY),
    ],
)  # fmt: skip
def test_every_status_of_http_has_one_meaning(status: int, told: Told) -> None:
    assert heard_http(status).told is told


def answering(status: int, headers: dict[str, str], body: bytes = b"") -> Callable[..., tuple]:
    return lambda *_: (status, headers, body)


@pytest.mark.parametrize(
    ("answer", "told", "words"),
    [
        (answering(302, {"Location": "http://elsewhere.example/"}), Told.RETRY, "elsewhere.example"),
        (answering(401, {}), Told.RETRY, "401"),
        (answering(403, {}), Told.RETRY, "403"),
        (answering(422, {}, b'{"resourceType":"OperationOutcome"}'), Told.REFUSED, "422"),
        (answering(200, {}, b"x" * (2 << 20)), Told.RETRY, "at most"),
        (answering(200, {"Content-Encoding": "gzip"}, b"x"), Told.RETRY, "compressed"),
    ],
)
def test_a_fhir_server_in_a_bad_mood(answer: Callable[..., tuple], told: Told, words: str) -> None:
    with web() as server:
        server.answer = answer
        heard = tell(receiver(server.url, "fhir"), "W1", "{}", query="identifier=a%7Cb")
        assert heard.told is told
        assert words in heard.because
        assert [path for _, path, *_ in server.requests] == ["/DiagnosticReport?identifier=a%7Cb"]


def test_an_acknowledgement_counts_whatever_the_status_of_http_is() -> None:
    with web() as server:
        server.answer = lambda *_: (500, {}, acknowledge(MESSAGE.encode(), "AE", error="101"))
        heard = tell(receiver(server.url), "W1", MESSAGE)
        assert (heard.told, "error 101" in heard.because) == (Told.REFUSED, True)


def test_a_receiver_over_tls_has_to_be_who_it_should_be(tmp_path: Path) -> None:
    ours, theirs = authority(tmp_path / "ours"), authority(tmp_path / "theirs")
    pair = ours.sign("ris")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with engine(tls=context) as ris:
        url = ris.url.replace("mllp", "mllps")
        assert tell(receiver(url, to={"ca_file": str(ours.ca)}), "W1", MESSAGE).told is Told.TAKEN
        heard = tell(receiver(url, to={"ca_file": str(theirs.ca)}), "W1", MESSAGE)
        assert (heard.told, "not trusted" in heard.because) == (Told.RETRY, True)
        assert len(ris.messages) == 1
        plain = tell(receiver(ris.url, deadline_s=1.0), "W1", MESSAGE)
        assert plain.told is Told.RETRY


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"to": {"url": "mllp://ris.example"}}, "mllp://host:port"),
        ({"to": {"url": "mllp://ris..example:2575"}}, "a host that cannot be one: ris..example"),
        ({"kind": "fhir", "to": {"url": "https://ris..example/r4"}}, "a host that cannot be one"),
        ({"to": {"url": "mllp://u:p@ris.example:2575"}}, "mllp://host:port"),
        ({"to": {"url": "ftp://ris.example"}}, "http or https"),
        ({"kind": "fhir", "to": {"url": "mllp://ris.example:2575"}}, "FHIR goes over HTTP"),
        ({"to": {"url": "mllp://ris.example:2575", "auth": "bearer", "token_file": "t"}}, "of HTTP"),
        ({"to": {"url": "mllp://ris.example:2575", "ca_file": "ca.pem"}}, "mllps"),
        ({"to": {"url": "http://ris.example", "auth": "bearer", "token_file": "t"}}, "show the secret"),
        ({"viewer": "https://ohif.example/{patient}"}, "may hold"),
        ({"viewer": "javascript:alert(1)"}, "http or https"),
        ({"events": ()}, "hears of nothing"),
        ({"receiving_application": "RIS\r"}, "one line"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_a_sentence(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ReceiverSettings.model_validate(
            {"name": "RIS", "kind": "hl7v2", "to": {"url": "mllp://127.0.0.1:2575"}, **wrong}
        )


def test_a_link_holds_no_more_than_its_values() -> None:
    one = receiver("mllp://127.0.0.1:1", viewer="https://ohif.example/viewer?S={study}&A={accession}")
    link = one.link(study="1.2", series="", report="", accession="A&B=1/2")
    assert link == "https://ohif.example/viewer?S=1.2&A=A%26B%3D1%2F2"
