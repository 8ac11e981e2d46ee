"""Webhooks and mail servers, in good and in bad moods."""

import base64
import hashlib
import hmac
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dicom_node.receivers import ReceiverSettings
from dicom_node.tell import Heard, Told, signature, tell
from tests.patience import patient
from tests.peers.certificates import Authority, authority
from tests.peers.receivers import Web, web
from tests.peers.smtp import Mailbox, mailbox

ROOT = Path(__file__).resolve().parents[2]
SECRET = "b7d1c0ffee"
MAIL = (
    "Message-ID: <W1@hospital.example>\r\nFrom: a@b.example\r\nSubject: x\r\n\r\nM=C3=BCller\r\n.\r\nend\r\n"
)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    return path


def hook(url: str, secret: Path, **more: Any) -> ReceiverSettings:
    limits = {"connect_s": patient(2), "deadline_s": patient(2)}
    return ReceiverSettings(
        name="OPS", kind="webhook", to={"url": url, "secret_file": secret}, **limits, **more
    )


def mail_to(url: str, *, deadline_s: float | None = None, **to: Any) -> ReceiverSettings:
    return ReceiverSettings(
        name="MAIL",
        kind="email",
        to={"url": url, **to},
        sender="wetread@hospital.example",
        recipients=("ops@hospital.example", "it@hospital.example"),
        connect_s=patient(2),
        deadline_s=deadline_s or patient(5),
    )


def answers(server: Web, status: int, headers: dict[str, str] | None = None) -> None:
    server.answer = lambda *_: (status, headers or {}, b"KANARIE: my own words")


def test_a_webhook_carries_a_signature_that_its_receiver_can_check(secret: Path) -> None:
    body = '{"event": "found"}'
    with web() as server:
        answers(server, 204)
        before = int(time.time())
        heard = tell(hook(f"{server.url}/hooks/1?channel=ops", secret), "W1", body)
        assert heard == Heard(Told.TAKEN, "it answered HTTP 204")
        ((method, path, headers, sent),) = server.requests
    assert (method, path, sent) == ("POST", "/hooks/1?channel=ops", body.encode())
    assert headers["Content-Type"] == "application/json"
    assert headers["webhook-id"] == headers["Idempotency-Key"] == "W1"
    # As docs/operating/notifications.md tells a receiver to do it.
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + sent
    expected = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert before <= int(headers["webhook-timestamp"]) <= time.time()
    assert SECRET not in str(headers)


def test_a_receiver_that_does_as_the_documentation_says_knows_ours_from_others(secret: Path) -> None:
    page = (ROOT / "docs" / "operating" / "notifications.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    known: dict[str, Any] = {}
    exec(example, known)
    check = known["from_wetread"]
    with web() as server:
        answers(server, 200)
        tell(hook(server.url, secret), "W1", '{"sentence": "Müller"}')
        ((_, _, headers, body),) = server.requests
    assert check(headers, body, SECRET)
    assert not check(headers, body + b" ", SECRET)
    assert not check(headers, body, "another secret")
    assert not check({**headers, "webhook-id": "W2"}, body, SECRET)
    assert not check({**headers, "webhook-timestamp": "1000000000"}, body, SECRET)


def test_every_attempt_has_the_same_number_and_a_time_of_its_own(secret: Path) -> None:
    one, another = signature(SECRET, "W1", 1, b"x"), signature(SECRET, "W1", 2, b"x")
    assert one != another
    assert signature(SECRET, "W2", 1, b"x") != one != signature(SECRET, "W1", 1, b"y")


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (200, Told.TAKEN),
        (400, Told.REFUSED),
        (401, Told.RETRY),
        (404, Told.REFUSED),
        (410, Told.REFUSED),
        (412, Told.REFUSED),
        (422, Told.REFUSED),
        (429, Told.RETRY),
        (500, Told.RETRY),
        (503, Told.RETRY),
    ],
)
def test_every_answer_to_a_webhook_has_one_meaning(secret: Path, status: int, told: Told) -> None:
    with web() as server:
        answers(server, status)
        heard = tell(hook(server.url, secret), "W1", "{}")
    assert heard.told is told
    assert str(status) in heard.because
    assert "KANARIE" not in heard.because
    assert "report" not in heard.because


def test_a_webhook_is_not_sent_on_to_another_place(secret: Path) -> None:
    with web() as elsewhere, web() as server:
        answers(server, 307, {"Location": f"{elsewhere.url}/steal"})
        heard = tell(hook(server.url, secret), "W1", "{}")
        assert elsewhere.requests == []
    assert heard.told is Told.RETRY
    assert "sends us to" in heard.because


def test_a_webhook_whose_secret_is_gone_waits_for_it(secret: Path) -> None:
    with web() as server:
        receiver = hook(server.url, secret)
        secret.unlink()
        heard = tell(receiver, "W1", "{}")
        assert server.requests == []
    assert (heard.told, "cannot be read" in heard.because) == (Told.RETRY, True)


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


@contextmanager
def secured(
    trusted: Authority, *, login: str = "", implicit: bool = False, names: str = ""
) -> Iterator[Mailbox]:
    pair = trusted.sign("mail", **({"names": names} if names else {}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with mailbox(tls=context, implicit=implicit, login=login) as box:
        yield box


@pytest.mark.parametrize(("scheme", "implicit"), [("smtp", False), ("smtps", True)])
def test_a_mail_goes_over_tls_with_our_login_as_it_was_made(
    trusted: Authority, tmp_path: Path, scheme: str, implicit: bool
) -> None:
    login = tmp_path / "login"
    login.write_text("wetread:s3cret\n")
    with secured(trusted, login="wetread:s3cret", implicit=implicit) as box:
        receiver = mail_to(
            f"{scheme}://127.0.0.1:{box.port}", auth="basic", login_file=login, ca_file=trusted.ca
        )
        heard = tell(receiver, "W1", MAIL)
        assert heard == Heard(Told.TAKEN, "it took it (250)")
        assert box.mails == [MAIL.encode()]
        assert box.recipients == [["ops@hospital.example", "it@hospital.example"]]
        assert box.encrypted == [True]


def test_a_server_without_tls_gets_neither_password_nor_mail(trusted: Authority, tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.write_text("wetread:s3cret\n")
    with mailbox(login="wetread:s3cret") as box:
        to = {"auth": "basic", "login_file": login, "ca_file": trusted.ca}
        heard = tell(mail_to(f"smtp://127.0.0.1:{box.port}", **to), "W1", MAIL)
        assert box.mails == []
        assert "AUTH" not in box.commands
    assert heard.told is Told.RETRY
    assert "offers no TLS" in heard.because


@pytest.mark.parametrize(("scheme", "implicit"), [("smtp", False), ("smtps", True)])
def test_a_server_that_is_not_who_it_should_be_gets_nothing(
    trusted: Authority, tmp_path: Path, scheme: str, implicit: bool
) -> None:
    with secured(trusted, implicit=implicit, names="DNS:elsewhere.example") as box:
        heard = tell(mail_to(f"{scheme}://127.0.0.1:{box.port}", ca_file=trusted.ca), "W1", MAIL)
        assert box.mails == []
    assert heard.told is Told.RETRY
    assert "certificate is not trusted" in heard.because
    with secured(trusted, implicit=implicit) as box:
        other = authority(tmp_path / "other")
        heard = tell(mail_to(f"{scheme}://127.0.0.1:{box.port}", ca_file=other.ca), "W1", MAIL)
        assert box.mails == []
    assert "certificate is not trusted" in heard.because


@pytest.mark.parametrize(
    ("refuse", "told", "words"),
    [
        ({"taken": "451 KANARIE later"}, Told.RETRY, "it does not take the mail (SMTP 451)"),
        ({"taken": "554 KANARIE spam"}, Told.REFUSED, "it does not take the mail (SMTP 554)"),
        ({"MAIL": "450 KANARIE"}, Told.RETRY, "no mail from our sender (SMTP 450)"),
        ({"MAIL": "550 KANARIE"}, Told.REFUSED, "no mail from our sender (SMTP 550)"),
        ({"RCPT": "550 KANARIE"}, Told.REFUSED, "no mail for any of the recipients (SMTP 550)"),
        ({"RCPT": "450 KANARIE greylisted"}, Told.RETRY, "no mail for any of the recipients (SMTP 450)"),
        ({"CONNECT": "421 KANARIE busy"}, Told.RETRY, "it does not serve us now (SMTP 421)"),
        (
            {"it@hospital.example": "550 KANARIE unknown"},
            Told.TAKEN,
            "not for 1 of 2 recipients: it@hospital.example (SMTP 550)",
        ),
        (
            {"ops@hospital.example": "450 KANARIE greylisted"},
            Told.TAKEN,
            "not for 1 of 2 recipients: ops@hospital.example (SMTP 450)",
        ),
    ],
)
def test_every_answer_of_a_mail_server_has_one_meaning(
    refuse: dict[str, str], told: Told, words: str
) -> None:
    with mailbox() as box:
        box.refuse = refuse
        heard = tell(mail_to(f"smtp+plain://127.0.0.1:{box.port}"), "W1", MAIL)
    assert heard.told is told
    assert words in heard.because
    assert "KANARIE" not in heard.because


def test_whom_a_mail_server_left_out_is_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    with mailbox() as box:
        box.refuse = {"it@hospital.example": "450 KANARIE greylisted"}
        tell(mail_to(f"smtp+plain://127.0.0.1:{box.port}"), "W1", MAIL)
        assert box.recipients == [["ops@hospital.example"]]
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "mail.left_out" in one]
    assert "[warning" in line
    assert "it@hospital.example (SMTP 450)" in line
    assert "KANARIE" not in line


def test_a_wrong_password_is_ours_to_mend_and_the_mail_waits(tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.write_text("wetread:hunter2\n")
    with mailbox(login="wetread:s3cret") as box:
        receiver = mail_to(f"smtp+plain://127.0.0.1:{box.port}", auth="basic", login_file=login)
        heard = tell(receiver, "W1", MAIL)
    assert heard.told is Told.RETRY
    assert "does not take our user and password (535)" in heard.because
    assert "KANARIE" not in heard.because
    assert "hunter2" not in heard.because


def test_a_mail_server_that_falls_silent_holds_us_no_longer_than_the_deadline() -> None:
    with mailbox() as box:
        box.hang = threading.Event()
        began = time.monotonic()
        heard = tell(mail_to(f"smtp+plain://127.0.0.1:{box.port}", deadline_s=0.5), "W1", MAIL)
        assert time.monotonic() - began < patient(3)
    assert heard.told is Told.RETRY


def test_a_mail_server_that_is_not_there_is_away() -> None:
    with mailbox() as box:
        port = box.port
    heard = tell(mail_to(f"smtp+plain://127.0.0.1:{port}"), "W1", MAIL)
    assert (heard.told, "no connection to 127.0.0.1" in heard.because) == (Told.RETRY, True)


HOOK = {"name": "OPS", "kind": "webhook", "to": {"url": "https://ops.example/hook", "secret_file": "s"}}
POST = {
    "name": "OPS",
    "kind": "email",
    "to": {"url": "smtp://mail.example"},
    "sender": "wetread@hospital.example",
    "recipients": ["ops@hospital.example"],
}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({**HOOK, "to": {"url": "https://ops.example/hook"}}, "needs a secret_file"),
        ({**HOOK, "to": {"url": "smtp://ops.example", "secret_file": "s"}}, "goes over HTTP"),
        ({**HOOK, "alarms": ["disc"]}, "alarms"),
        ({**HOOK, "sender": "a@b.example"}, "sender is not for kind"),
        ({**HOOK, "events": []}, "hears of nothing"),
        ({**HOOK, "at_most": 0}, "greater than or equal to 1"),
        ({**POST, "recipients": []}, "needs a sender and recipients"),
        ({**POST, "recipients": ["Ops <ops@hospital.example>"]}, "has to be a mail address"),
        ({**POST, "recipients": ["ops@hospital.example\nBcc: x@y.example"]}, "has to be a mail address"),
        ({**POST, "to": {"url": "https://mail.example"}}, "goes with smtp://"),
        ({**POST, "to": {"url": "smtp://mail.example/path"}}, "smtp://host"),
        ({**POST, "to": {"url": "smtp://mail.example", "auth": "bearer", "token_file": "t"}}, "not for mail"),
        (
            {**POST, "to": {"url": "smtp+plain://mail.example", "auth": "basic", "login_file": "l"}},
            "would show the secret",
        ),
        (
            {"name": "RIS", "kind": "hl7v2", "to": {"url": "mllp://r:1"}, "alarms": ["disk"]},
            "alarms is not for",
        ),
        ({"name": "RIS", "kind": "fhir", "to": {"url": "https://r"}, "patient": True}, "patient is not for"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ReceiverSettings.model_validate(settings)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "settings",
    [
        HOOK,
        POST,
        {"name": "RIS", "kind": "hl7v2", "to": {"url": "mllp://r:1"}},
        {"name": "RIS", "kind": "fhir", "to": {"url": "https://r"}},
    ],
)
def test_settings_that_one_process_tells_another_are_the_same(settings: dict[str, Any]) -> None:
    receiver = ReceiverSettings.model_validate(settings)
    assert ReceiverSettings.model_validate_json(receiver.model_dump_json()) == receiver


def test_alarms_alone_are_enough_to_hear_of() -> None:
    receiver = ReceiverSettings.model_validate({**HOOK, "events": [], "alarms": ["all"]})
    assert receiver.alarm_wish is not None
    assert "peer away" in receiver.alarm_wish.kinds
    some = ReceiverSettings.model_validate({**HOOK, "alarms": ["disk full", "queue"]})
    assert some.alarm_wish is not None
    assert some.alarm_wish.kinds == ("disk full", "queue")
    assert ReceiverSettings.model_validate(HOOK).alarm_wish is None
