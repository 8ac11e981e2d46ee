"""A peer is a DICOM application that this site knows by configuration: a scanner, a workstation, an archive.

One entry serves both directions: `addresses` and `receive` say whether and from where it may talk to us,
`host`, `port` and `send` say whether and where it gets results. A peer may also, or only, be reached over
DICOMweb: `web`.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from dicom_node.limits import INSTANCE_BYTES_HARD, PeerQuota
from dicom_node.profile_settings import OUTDATED, NamedOrTable
from dicom_node.tls_settings import PeerTlsSettings, PeerUserSettings
from dicom_node.web_peer import WebPeerSettings
from dicom_node.worklist_settings import WorklistSettings
from ledger.identifiers import AETitle, Uid
from ledger.profile import PROFILES, Profile

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"


def _ae_title(text: str) -> str:
    return str(AETitle.parse(text))


def _uid(text: str) -> str:
    return str(Uid.parse(text))


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text, strict=False))


# Text in settings and JSON, but never an invalid one.
AETitleText = Annotated[str, AfterValidator(_ae_title)]
UidText = Annotated[str, AfterValidator(_uid)]
NetworkText = Annotated[str, AfterValidator(_network)]


#: Which witnesses of completeness a site believes; the pauses always count (see `dicom_node.closing`).
Witnesses = tuple[Literal["count", "commitment", "geometry"], ...]
ALL_WITNESSES: Witnesses = ("count", "commitment", "geometry")


class PeerSettings(BaseModel, frozen=True, extra="forbid"):
    """One `[[peer]]` of the site."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$")  # What rules and the console call it.
    # Where it listens for DICOM; a peer that is reached over the web only has none of the three.
    ae_title: AETitleText | Literal[""] = ""
    host: str = ""
    port: int = Field(default=0, ge=0, le=65535)
    web: WebPeerSettings | None = None
    worklist: WorklistSettings | None = None  # Workitems of it that this site performs (UPS); None: none.
    tls: PeerTlsSettings | None = None  # None: it is called without TLS, and known by its AE title alone.
    user: PeerUserSettings | None = None  # None: it is let in without a user.
    send: bool = True  # It may be the destination of results.
    receive: bool = True  # It may store instances here.
    # It calls from these networks only (CIDR); none means from anywhere.
    addresses: tuple[NetworkText, ...] = ()
    # A result lies here in explicit VR little endian and goes as it lies there, if that is one of these. For
    # a peer that does not accept it, it is written as implicit VR, which all must take (PS3.5 §10.1).
    transfer_syntaxes: tuple[UidText, ...] = (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN)
    # What proves that it has a result: its answer to C-STORE or STOW-RS, being found there afterwards (by
    # QIDO-RS over the web, else by C-FIND), or its own word for it by storage commitment (being found where
    # no such word comes). "best": the strongest of the three that it offers.
    confirm: Literal["best", "answer", "find", "commitment"] = "best"
    # What it is told of results that a late image made out of date, once it has the newer ones. "reject": by
    # a rejection note (IHE IOCM) that they are rejected for quality reasons: it hides them and keeps them for
    # whoever asks. "replace": by a note that their retention is over: it removes them for good. "keep":
    # nothing, for it does not know such notes; the newer report names the older one, and both are shown.
    superseded: Literal["reject", "replace", "keep"] = "reject"
    # Whether it can be asked how many images a study has: by C-FIND, over the web by QIDO-RS, or not at all.
    # Studies that it sends are then counted at itself, unless `counted_at` says otherwise. Not for one that
    # by design has images that never come here: it would be waited for, each time, up to `longest_s`.
    count: Literal["none", "find", "qido"] = "none"
    # The [[peer]] that knows how many images a study has that this one sends: mostly the archive, which gets
    # them too. It needs `count`.
    counted_at: str | None = None
    # For studies that this one sends, instead of what [closing] says: it pauses longer, or can be trusted.
    witnesses: Witnesses | None = None
    quiet_s: float | None = Field(default=None, ge=0)
    quiet_open_s: float | None = Field(default=None, ge=0)
    longest_s: float | None = Field(default=None, gt=0)
    # How instances are fetched from it: by C-MOVE to our own AE title (it has to know our address, and it has
    # to be let in here: receive = true), by C-GET, over the web by WADO-RS, or not at all.
    retrieve: Literal["none", "move", "get", "wado"] = "none"
    # One whole fetch; studies are large, and some archives bring them from tape.
    retrieve_s: float = Field(default=900.0, gt=0)
    # Without an answer, and without anything that arrives: the fetch is given up, and tried again later.
    retrieve_silence_s: float = Field(default=60.0, gt=0)
    # What it can show, and so what it is sent: "ohif", "slicer", "weasis", "plain-pacs" or "air", or a table
    # [peer.profile] with what it has otherwise than one of these.
    profile: NamedOrTable = "ohif"
    # Whether it gets a report that says NOT ANALYSED, and why, of a run that was given up. False: it hears
    # nothing of it, as where every report that arrives is shown to whoever treats the patient.
    given_up: bool = True
    # One whole delivery; a peer that stalls must not hold a worker.
    deadline_s: float = Field(default=60.0, gt=0)
    connect_s: float = Field(default=5.0, gt=0)  # A machine that is switched off does not answer at all.
    # How many associations it may have open at once; None: [node] associations_per_ae.
    associations_max: int | None = Field(default=None, ge=1)
    # The largest instance that it may send; None: [node] instance_bytes_max.
    instance_bytes_max: int | None = Field(default=None, ge=1 << 20, le=INSTANCE_BYTES_HARD)
    quota: PeerQuota = PeerQuota()  # What [quota] says otherwise for it.

    @model_validator(mode="before")
    @classmethod
    def _what_profiles_say_now(cls, given: object) -> object:
        if isinstance(given, dict):
            for key in OUTDATED.keys() & given.keys():
                raise ValueError(f"{key} is said by the profile now: {OUTDATED[key]}")
        return given

    @property
    def shows(self) -> Profile:
        """What it can show."""
        return PROFILES[self.profile] if isinstance(self.profile, str) else self.profile.profile

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.web is None and not self.host:
            raise ValueError(f"{self.name} needs ae_title, host and port, or a [peer.web] with its url")
        for key, value in (("ae_title", self.ae_title), ("host", self.host), ("port", self.port)):
            if self.speaks_dicom and not value:
                raise ValueError(f"{key!r} is missing: ae_title, host and port go together")
        if self.confirm == "commitment" and not self.speaks_dicom:
            raise ValueError(
                f'confirm = "commitment" needs ae_title, host and port, which {self.name} does not have: '
                'the web has no such service; take confirm = "find"'
            )
        if self.count == "find" and not self.speaks_dicom:
            raise ValueError(f'count = "find" needs ae_title, host and port: take "qido" for {self.name}')
        if self.count == "qido" and self.web is None:
            raise ValueError(f'count = "qido" needs a [peer.web] with its url: take "find" for {self.name}')
        if self.retrieve == "wado" and self.web is None:
            raise ValueError(f'retrieve = "wado" needs a [peer.web] with its url, which {self.name} has not')
        if self.retrieve in ("move", "get") and not self.speaks_dicom:
            raise ValueError(
                f"retrieve = {self.retrieve!r} needs ae_title, host and port, which {self.name} does not have"
            )
        if self.retrieve == "move" and not self.receive:
            raise ValueError('retrieve = "move" brings images to our port: it needs receive = true')
        if self.worklist is not None and not self.speaks_dicom:
            raise ValueError(
                f"[peer.worklist] needs ae_title, host and port, which {self.name} does not have: workitems "
                "are asked for over DICOM"
            )
        if complaint := self._wrong_tls():
            raise ValueError(complaint)
        return self

    def _wrong_tls(self) -> str:
        """What is wrong with [peer.tls] and [peer.user]; empty where nothing is."""
        if (self.tls or self.user) and not self.speaks_dicom:
            return f"{self.name} has no ae_title, host and port: for them are [peer.tls] and [peer.user]"
        if self.user is not None and (self.tls is None or not self.tls.required):
            return (
                "[peer.user] needs a [peer.tls] with required = true: without TLS anybody can read who it is"
            )
        return ""

    @property
    def speaks_dicom(self) -> bool:
        """Whether it listens for associations."""
        return bool(self.host or self.port)

    @property
    def vouches(self) -> bool:
        """Whether it is asked for storage commitment of what it gets, and so may call to report about it."""
        return self.send and self.speaks_dicom and self.confirm in ("best", "commitment")

    @property
    def stores_by_web(self) -> bool:
        """Whether it gets results by STOW-RS."""
        return self.web is not None and (self.web.store or not self.speaks_dicom)

    @property
    def asked_by(self) -> str:
        """How it is asked for what it has."""
        return "C-FIND" if self.web is None else "QIDO-RS"

    def calls_from(self, address: str) -> bool:
        """Whether `address` is one that this peer may call from."""
        return not self.addresses or _within(address, self.addresses)

    @property
    def has_addresses(self) -> bool:
        """Whether the site says by number where it is."""
        return bool(self.addresses) or _is_number(self.host)

    def is_at(self, address: str) -> bool:
        """Whether `address` is one that the site has written down for this peer."""
        return _within(address, self.addresses or ((self.host,) if _is_number(self.host) else ()))


def calling_as(peers: Iterable[PeerSettings], ae_title: str, address: str) -> PeerSettings | None:
    """The peer that calls itself `ae_title` and may call from `address`, if the site knows one."""
    return next(
        (peer for peer in peers if peer.ae_title == ae_title and peer.calls_from(address)),
        None,
    )


def named(peers: Iterable[PeerSettings], name: str) -> PeerSettings | None:
    """The peer called `name`, if the site knows one."""
    return next((peer for peer in peers if peer.name == name), None)


@lru_cache(maxsize=1024)
def _networks(texts: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


def _within(address: str, networks: tuple[str, ...]) -> bool:
    caller = ipaddress.ip_address(address)
    # A dual-stack socket reports an IPv4 caller as ::ffff:a.b.c.d.
    if isinstance(caller, ipaddress.IPv6Address) and caller.ipv4_mapped:
        caller = caller.ipv4_mapped
    return any(caller in network for network in _networks(networks))


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
