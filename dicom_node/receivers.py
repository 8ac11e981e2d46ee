"""`[[notify]]`: who is told that a run has ended, and how: a RIS, an interface engine, a FHIR server, any
program by a webhook, people by e-mail. The last two can be told of alarms as well.

Secrets are never settings: every one is named by a file, which is read for each message.
"""

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, BaseModel, Field, ValidationError, field_validator, model_validator

from dicom_node.peers import PeerSettings
from dicom_node.web_peer import WebPeerSettings, is_this_machine
from ledger.alarm import ALARM_KINDS, AlarmKind
from ledger.notification import AlarmWish, Occasion, Wish

_MIB = 1 << 20
_MLLP = ("mllp", "mllps")
#: Scheme of mail → the port where none is given: submission (RFC 6409, RFC 8314), and a relay in the clear.
_SMTP = {"smtp": 587, "smtps": 465, "smtp+plain": 25}
_MAIL_ADDRESS = re.compile(r"[^\s@<>,;\"]{1,64}@[^\s@<>,;\"]{1,180}")
_FILLED = {"study": "1.2.3", "series": "1.2.3", "report": "1.2.3", "accession": "A1"}


#: key → the kinds of receivers that it is for
_TEXTS = ("webhook", "email")
_ONLY_FOR = {
    **dict.fromkeys(("alarms", "patient", "template", "at_most"), _TEXTS),
    "content_type": ("webhook",),
    "sender": ("email",),
    "recipients": ("email",),
}


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has to be printable text on one line")
    return text


def _template(text: str) -> str:
    try:
        filled = text.format(**_FILLED)
    except (KeyError, IndexError, ValueError):
        raise ValueError(
            f"may hold {', '.join(f'{{{key}}}' for key in _FILLED)}, and no other braces"
        ) from None
    if text and (urlsplit(filled).scheme not in ("http", "https") or not filled.isprintable()):
        raise ValueError("has to be an http or https URL")
    return text


def _mail_address(text: str) -> str:
    if not text.isascii() or _MAIL_ADDRESS.fullmatch(text) is None:
        raise ValueError("has to be a mail address, such as ops@hospital.example, without a name beside it")
    return text


MailAddress = Annotated[str, AfterValidator(_mail_address)]
Line = Annotated[str, AfterValidator(_one_line), Field(max_length=180)]
LinkTemplate = Annotated[str, AfterValidator(_template)]


class ReceiverAddress(BaseModel, frozen=True, extra="forbid"):
    """`[notify.to]`, below the `[[notify]]` that it belongs to: where it is, and who we say we are."""

    # "mllp://ris.hospital.example:2575", "mllps://…" (the same over TLS), or "https://…" of HL7 over HTTP; of
    # a FHIR server its base, such as "https://fhir.hospital.example/r4"; of a webhook its whole address. Of a
    # mail server "smtp://mail.hospital.example" (port 587; TLS by STARTTLS, or nothing is sent), "smtps://…"
    # (port 465; TLS at once), or "smtp+plain://…" (port 25; no TLS, so anybody on the way can read it).
    url: str
    auth: Literal["none", "basic", "bearer", "certificate"] = "none"
    login_file: Path | None = None  # basic: one line, user:password
    token_file: Path | None = None  # bearer: one line, the token
    certificate_file: Path | None = None  # certificate: ours, with its chain, in PEM
    key_file: Path | None = None  # Its key in PEM, unless that stands in certificate_file.
    ca_file: Path | None = None  # Who vouches for the receiver, in PEM; none means whom this machine trusts.
    # webhook: one line, what its messages are signed with, as `openssl rand -hex 32` makes it.
    secret_file: Path | None = None

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        try:
            (parts.hostname or "").encode("idna")
        except UnicodeError:
            raise ValueError(f"has a host that cannot be one: {parts.hostname}") from None
        if parts.scheme not in (*_MLLP, *_SMTP):
            return url
        try:
            port = parts.port or _SMTP.get(parts.scheme)
        except ValueError:
            port = None
        if not parts.hostname or not port or parts.path.strip("/") or parts.query or "@" in parts.netloc:
            known = (
                "smtp://host, smtps://host"
                if parts.scheme in _SMTP
                else "mllp://host:port, mllps://host:port"
            )
            raise ValueError(f"has to be one of {known}")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.mllp and self.auth in ("basic", "bearer"):
            raise ValueError(f'auth = "{self.auth}" is of HTTP; MLLP knows certificates only')
        if self.mail and self.auth not in ("none", "basic"):
            raise ValueError(f'auth = "{self.auth}" is not for mail servers: "basic", or "none"')
        if urlsplit(self.url).scheme == "mllp" and (self.auth != "none" or self.ca_file is not None):
            raise ValueError("certificates need mllps://: over mllp:// everything goes in the clear")
        try:
            self.web()
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        return self

    @property
    def mllp(self) -> bool:
        """Whether it speaks MLLP instead of HTTP."""
        return urlsplit(self.url).scheme in _MLLP

    @property
    def mail(self) -> bool:
        """Whether it is a mail server."""
        return urlsplit(self.url).scheme in _SMTP

    @property
    def mail_port(self) -> int:
        """The port of the mail server."""
        parts = urlsplit(self.url)
        return parts.port or _SMTP[parts.scheme]

    @property
    def secure(self) -> bool:
        """Whether it is reached over TLS."""
        return urlsplit(self.url).scheme in ("mllps", "https", "smtp", "smtps")

    @property
    def in_the_clear(self) -> bool:
        """Whether anybody on the way can read what is sent."""
        return not self.secure and not is_this_machine(urlsplit(self.url).hostname or "")

    def web(self) -> WebPeerSettings:
        """The same as a session over HTTP wants it; of MLLP and of mail, what TLS wants of it."""
        url = self.url
        if self.mllp or self.mail:
            url = f"{'https' if self.secure else 'http'}://{urlsplit(self.url).netloc}"
        elif self.secret_file is not None:
            url = url.partition("?")[0]  # A webhook's address may have a query.
        names = ("auth", "login_file", "token_file", "certificate_file", "key_file", "ca_file")
        files = {name: getattr(self, name) for name in names}
        return WebPeerSettings(url=url, answer_bytes_max=_MIB, **files)

    def under(self, folder: Path) -> Self:
        """The same with relative paths seen from `folder`."""
        names = ("login_file", "token_file", "certificate_file", "key_file", "ca_file", "secret_file")
        given = {name: getattr(self, name) for name in names}
        return self.model_copy(update={name: folder / path for name, path in given.items() if path})


class ReceiverSettings(BaseModel, frozen=True, extra="forbid"):
    """One `[[notify]]` of the site. A name that is new hears of what ends from then on."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$")  # What `wetread show` calls it.
    # "hl7v2": ORU^R01 of HL7 v2.5.1, over MLLP or HTTP. "fhir": a DiagnosticReport of FHIR R4. "webhook": a
    # signed POST to any program. "email": a mail to people.
    kind: Literal["hl7v2", "fhir", "webhook", "email"]
    to: ReceiverAddress
    # Which ends of a run it hears of: there are findings; there are none; the images are not for this model
    # or failed quality control; the run was given up, so that nobody waits for it.
    events: tuple[Literal["found", "nothing", "refused", "given up"], ...] = (
        "found",
        "nothing",
        "refused",
        "given up",
    )
    rules: tuple[str, ...] = ()  # Of these rules only; none means of all.
    models: tuple[str, ...] = ()  # Of these models only, of whatever version; none means of all.
    # The [[peer]] that has to have the results, proved, before the receiver hears of them. What it refused
    # for good does not count, as long as it has the report. None: no result of the run is on its way any
    # more, and one of its destinations has the report.
    archive: str | None = None
    # A link that opens the images, with {study}, {series}, {report} (their UIDs) and {accession} in it, such
    # as "https://ohif.example/viewer?StudyInstanceUIDs={study}".
    viewer: LinkTemplate = ""
    # How what replaces an earlier message is marked: as a correction (OBR-25 C; FHIR corrected), or as
    # preliminary like everything else, for receivers that take every correction for a final result.
    correction: Literal["corrected", "preliminary"] = "corrected"
    # HL7 v2: MSH-3 to MSH-6, and MSH-11: production, training or debugging.
    sending_application: Line = "WETREAD"
    sending_facility: Line = ""
    receiving_application: Line = ""
    receiving_facility: Line = ""
    processing: Literal["P", "T", "D"] = "P"
    # webhook, email: of which alarms it hears as well, when they begin and when they are over; "all" of all.
    # The console has to run, which watches for them.
    alarms: tuple[AlarmKind | Literal["all"], ...] = ()
    # webhook, email: whether messages may say who the patient is, and what was found. False: they name jobs,
    # rules and models, and whoever may know looks it up.
    patient: bool = False
    # webhook, email: a file of the site's own with the text of its messages (Jinja2); none: ours.
    template: Path | None = None
    # webhook, email: how many messages in an hour. The last one tells of everything beyond, in one.
    at_most: int = Field(default=30, ge=1)
    # webhook: what its body is. JSON is checked for being JSON.
    content_type: Line = "application/json"
    # email: whom it is from, and to.
    sender: MailAddress | None = None
    recipients: tuple[MailAddress, ...] = ()
    deadline_s: float = Field(
        default=30.0, gt=0
    )  # One message, from the connection to the last byte of its answer.
    connect_s: float = Field(default=5.0, gt=0)  # A machine that is switched off does not answer at all.
    # Of one answer over MLLP: acknowledgements are short.
    answer_bytes_max: int = Field(default=65_536, ge=1024, le=_MIB)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if complaint := self._wrong_kind() or self._wrong_address():
            raise ValueError(f"{self.name}: {complaint}")
        if not self.events and not self.alarms:
            raise ValueError(f"{self.name} hears of nothing: name some events, or leave the key out")
        return self

    def _wrong_kind(self) -> str:
        """Which key is not for this kind of receiver; empty where none is."""
        for key, kinds in _ONLY_FOR.items():
            # Not whether it was given: processes tell each other settings whole, with every default.
            if self.kind not in kinds and getattr(self, key) != type(self).model_fields[key].default:
                return f'{key} is not for kind = "{self.kind}", only for {" and ".join(kinds)}'
        if self.kind != "webhook" and self.to.secret_file is not None:
            return "secret_file is for webhooks"
        return ""

    def _wrong_address(self) -> str:
        """Why it cannot be reached as its kind is; empty where it can."""
        if self.kind == "fhir" and self.to.mllp:
            return f"FHIR goes over HTTP, and {self.to.url} is MLLP"
        if self.kind == "webhook":
            if self.to.mllp or self.to.mail:
                return f"a webhook goes over HTTP, and {self.to.url} is something else"
            if self.to.secret_file is None:
                return "a webhook needs a secret_file in [notify.to]: its messages are signed with it"
        if (self.kind == "email") != self.to.mail:
            return f'kind = "email" goes with smtp:// or smtps://, and its url is {self.to.url}'
        if self.kind == "email" and (self.sender is None or not self.recipients):
            return "mail needs a sender and recipients"
        return ""

    @property
    def tells_text(self) -> bool:
        """Whether it gets text of a template, and not a message of a standard."""
        return self.kind in _TEXTS

    @property
    def alarm_wish(self) -> AlarmWish | None:
        """Which alarms the ledger is asked for; None: of none."""
        if not self.alarms:
            return None
        return AlarmWish(
            receiver=self.name, kinds=ALARM_KINDS if "all" in self.alarms else tuple(self.alarms)
        )

    @property
    def peer(self) -> PeerSettings:
        """The same as a session over HTTP wants it."""
        return PeerSettings(
            name=self.name,
            web=self.to.web(),
            deadline_s=self.deadline_s,
            connect_s=self.connect_s,
            count="none",
        )

    @property
    def wish(self) -> Wish:
        """What the ledger is asked for."""
        return Wish(
            receiver=self.name,
            occasions=tuple(Occasion(one) for one in self.events),
            rules=self.rules,
            models=self.models,
            archive=self.archive or "",
        )

    def link(self, *, study: str, series: str, report: str, accession: str) -> str:
        """The link to the images; empty where the settings have none."""
        filled = {"study": study, "series": series, "report": report, "accession": accession}
        return self.viewer.format(**{key: quote(text, safe="") for key, text in filled.items()})

    def under(self, folder: Path) -> Self:
        """The same with relative file names seen from `folder`."""
        template = self.template and folder / self.template
        return self.model_copy(update={"to": self.to.under(folder), "template": template})
