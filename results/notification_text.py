"""
Messages of the site's own making, for webhooks and mail: a template, filled with what happened.

Templates are Jinja2 in its sandbox, and strict: a name that does not exist is an error, and is found when
Wetread starts, for every template is tried on every event that its receiver hears of. What is said of a
patient is there only for receivers that may know it; for others `patient` is none, and asking it for a name
an error.

A template of mail begins with its subject, `Subject: …`, and an empty line.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from ledger.errors import SiteError

_TEMPLATE_BYTES_MAX = 64 << 10
_BODY_CHARACTERS_MAX = 1 << 20
_SUBJECT_CHARACTERS_MAX = 200


class TemplateUnusable(SiteError):
    """The template of a [[notify]] cannot be read or filled; the message says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """The patient and the study, for receivers that may know."""

    name: str
    id: str
    accession: str
    study: str  #: Study Instance UID
    study_date: str  #: YYYYMMDD


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """All that a template may say; what does not fit the event is none."""

    id: str  #: names the message to its receiver: the same at every attempt
    event: str  #: found, nothing, refused, given up; alarm, cleared; digest
    at: str  #: ISO 8601, with the site's time zone
    receiver: str
    sentence: str  #: what happened, for people
    rule: str | None = None
    model: str | None = None
    job: int | None = None
    corrects: bool | None = None
    link: str | None = None
    feedback: str | None = None  #: where a reader says what the result is worth
    findings: tuple[str, ...] | None = None
    patient: Who | None = None
    alarm: str | None = None  #: the kind of alarm
    about: str | None = None
    urgent: bool | None = None
    since: str | None = None
    many: int | None = None  #: of a digest: how many things it tells of
    counts: Mapping[str, int] | None = None  #: the same by event, or by kind of alarm

    @property
    def values(self) -> dict[str, Any]:
        """For templates: every field, and all that is not none as `message`."""
        every = asdict(self)
        return {**every, "message": {name: value for name, value in every.items() if value is not None}}


@dataclass(frozen=True, slots=True)
class Text:
    """A template that was read."""

    source: str
    name: str  #: of its file, for people

    @classmethod
    def read(cls, path: Path | None, kind: str) -> "Text":
        """The file at `path`, or ours for that kind of receiver. Raises `TemplateUnusable`."""
        file = path or Path(__file__).with_name(f"notification_{kind}.j2")
        try:
            with file.open("rb") as opened:
                found = opened.read(_TEMPLATE_BYTES_MAX + 1)
            if len(found) > _TEMPLATE_BYTES_MAX:
                raise TemplateUnusable(f"the template {file} is longer than {_TEMPLATE_BYTES_MAX} bytes")
            return cls(found.decode(), str(file))
        except OSError as error:
            raise TemplateUnusable(f"the template {file} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise TemplateUnusable(f"the template {file} is no UTF-8 text") from None

    def filled(self, happened: Happened) -> str:
        """The text for one event. Raises `TemplateUnusable`."""
        try:
            # Text for programs and for plain mail: nothing here is HTML.
            surroundings = SandboxedEnvironment(autoescape=False, undefined=StrictUndefined)
            text = surroundings.from_string(self.source).render(happened.values)
            text.encode()  # Half a surrogate pair is no text that can be sent.
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            where = f" in line {line}" if line else ""
            raise TemplateUnusable(f"the template {self.name} cannot be filled{where}: {error}") from None
        except (ArithmeticError, LookupError, OverflowError, TypeError, ValueError, AttributeError) as error:
            # Its own words may quote what it was filled with.
            raise TemplateUnusable(
                f"the template {self.name} cannot be filled ({type(error).__name__})"
            ) from None
        if len(text) > _BODY_CHARACTERS_MAX:
            raise TemplateUnusable(f"what the template {self.name} makes is too long")
        return text


def webhook_body(text: Text, happened: Happened, *, content_type: str) -> str:
    """The body of a webhook. Raises `TemplateUnusable`, also for what says that it is JSON and is not."""
    body = text.filled(happened)
    if content_type.partition(";")[0].strip().lower().endswith("json"):
        try:
            json.loads(body)
        except ValueError:
            raise TemplateUnusable(f"what the template {text.name} makes is no JSON") from None
    return body


def mail_of(text: Text, happened: Happened, *, sender: str, recipients: Sequence[str], at: datetime) -> str:
    """The whole mail, as it will go. Raises `TemplateUnusable`."""
    head, _, body = text.filled(happened).lstrip().partition("\n\n")
    label, colon, subject = head.partition(":")
    if not colon or label.strip().lower() != "subject" or "\n" in head.strip():
        raise TemplateUnusable(
            f"the template {text.name} has to begin with `Subject: …` and an empty line below it"
        )
    mail = EmailMessage(policy=SMTP)
    mail["Message-ID"] = f"<{happened.id}@{sender.rpartition('@')[2]}>"
    mail["Date"] = format_datetime(at.astimezone(UTC))
    mail["From"] = _address(sender)
    mail["To"] = tuple(_address(one) for one in recipients)
    # One line, whatever a name in it holds: a second one would be another header.
    printable = "".join(c if c.isprintable() else " " for c in " ".join(subject.split()))
    # An encoded word (RFC 2047) is decoded where it is set, and may hold a line break.
    mail["Subject"] = printable[:_SUBJECT_CHARACTERS_MAX].replace("=?", "= ?")
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday answers this.
    mail.set_content(body.strip() + "\n", cte="quoted-printable")
    return mail.as_bytes().decode("ascii")


def _address(text: str) -> Address:
    name, _, domain = text.rpartition("@")
    return Address(username=name, domain=domain)


_SAMPLE = Happened(
    id="W0", event="found", at="2026-01-02T03:04:05+00:00", receiver="sample", sentence="a sentence"
)


def samples(events: Sequence[str], *, alarms: bool, patient: bool) -> list[Happened]:
    """One of each event that a receiver may hear of, to try a template on."""
    run = replace(
        _SAMPLE,
        rule="chest CT",
        model="lung_ct",
        job=7,
        corrects=False,
        feedback="https://wetread.example/feedback/link/7.1.x",
    )
    if patient:
        who = Who(name="Doe^Jane", id="4711", accession="A1", study="1.2.3", study_date="20260102")
        run = replace(
            run, patient=who, findings=("AI result, not verified",), link="https://viewer.example/1"
        )
    alarm = replace(_SAMPLE, alarm="peer away", about="PACS", urgent=True, since=_SAMPLE.at)
    return [
        *(replace(run, event=event) for event in events),
        *(replace(alarm, event=event) for event in ("alarm", "cleared") if alarms),
        replace(_SAMPLE, event="digest", many=3, counts={"found": 2, "given up": 1}),
    ]
