"""
Everything that a site can decide about its workers, each with its unit and its reason.

Frozen values, parsed once. Times that tests shorten are settings like any other, so the shipped code is the
tested code.
"""

import re
from typing import Annotated, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, Field, model_validator

from dicom_node.peers import AETitleText, PeerSettings, named
from dicom_node.receivers import ReceiverSettings
from dicom_node.settings import SpoolSettings
from ledger.settings import LedgerSettings
from models.settings import ModelsSettings


def _device_name(text: str) -> str:
    """Whether it is here, only the machine that computes can tell (`worker.residents.device_named`)."""
    if re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,2})?", text) is None:
        raise ValueError(f'{text!r} is no device: give "auto", "cpu", "cuda", or "cuda:0" for a certain GPU')
    return text


DeviceName = Annotated[str, AfterValidator(_device_name)]


class QueueSettings(BaseModel, frozen=True, extra="forbid"):
    """Where the wake-up calls go. Nothing that matters is kept there."""

    # redis://…, rediss://… (TLS) or redis+socket:///path of a Unix socket.
    url: str = Field(pattern=r"^(redis|rediss|redis\+socket)://.+", repr=False)  # It may hold a password.
    # Hints of another product on the same Redis must not be ours. It is also what an ACL of Redis would name.
    key_prefix: str = "wetread:"


class WorkerSettings(BaseModel, frozen=True, extra="forbid"):
    """How a job is computed, and how long anything about it may take."""

    device: DeviceName = "auto"  # "cpu", "cuda:0", or the GPU if there is one
    lease_s: float = Field(default=60.0, gt=0)  # A worker silent for this long has lost its job to another.
    heartbeat_s: float = Field(default=15.0, gt=0)  # Three renewals may fail before the lease is lost.
    # Since the last renewal. A worker that was stopped for longer changes nothing more, although its lease
    # may still hold: what it is about to write could arrive too late.
    silence_s: float = Field(default=45.0, gt=0)
    attempts_max: int = Field(default=3, ge=1)  # A study that kills its worker three times is parked.
    crash_backoff_s: float = Field(default=1.0, ge=0)  # Times the attempt: 1 s, then 2 s.
    site_backoff_s: float = Field(default=30.0, ge=0)  # A full disk is not mended sooner.

    start_s: float = Field(default=120.0, gt=0)  # The child imports torch and finds its device.
    # Opening a model, reading files, encoding and checking, each.
    stage_s: float = Field(default=120.0, gt=0)
    longest_s: float = Field(default=3600.0, gt=0)  # No manifest may ask for more than this.
    # A library that leaks is forgiven so: after so many runs the child makes place for a fresh one.
    runs_per_child: int = Field(default=500, ge=1)
    stop_s: float = Field(default=20.0, gt=0)  # What SIGTERM grants; systemd kills after 30 s.
    # Address space; leave empty where CUDA is used.
    child_memory_mib: int | None = Field(default=None, ge=256)
    threads: int | None = Field(default=None, ge=1)  # CPU threads of torch; none means all cores

    # What models and runs may take together of the device that computes (the GPU's memory; on a CPU the
    # host's): a share of what is free when the child starts, less a reserve. The host's memory beside a GPU
    # is always judged so.
    memory_share: float = Field(default=0.8, gt=0, le=1)
    memory_reserve_mib: int = Field(default=256, ge=0)
    memory_mib: int | None = Field(default=None, ge=1)  # So much and no more, whatever is free.

    # While one job computes the next is read, and the one before is encoded. Without, one after the other.
    ahead: bool = True
    # A job goes to a worker that keeps its model, before older ones, until it or they have waited so long.
    patience_s: float = Field(default=300.0, ge=0)
    # For so long a worker leaves a job to another that keeps its model and has nothing to do.
    affinity_s: float = Field(default=1.0, ge=0)
    look_s: float = Field(
        default=1.0, gt=0
    )  # How soon an urgent job, or an idle worker, is noticed meanwhile.

    # "package.module:Class" as a model's name runs that class, with all that it imports, as the worker. Only
    # for code that the site trusts as much as Wetread itself.
    allow_python_models: bool = False

    relay_s: float = Field(default=0.02, gt=0)  # A job waits half of this on average; one look costs 1 ms.
    sweep_s: float = Field(default=10.0, gt=0)  # With the lease: a dead worker's job runs again within 75 s.
    republish_after_s: float = Field(default=60.0, gt=0)  # A hint that nobody took up by now is lost.

    @model_validator(mode="after")
    def _renewal_comes_before_loss(self) -> Self:
        if not self.heartbeat_s < self.silence_s < self.lease_s:
            raise ValueError("heartbeat_s must be below silence_s, and silence_s below lease_s")
        return self


class DeliverySettings(BaseModel, frozen=True, extra="forbid"):
    """How results travel to their destinations."""

    # Deliveries at the same time; a slow peer must not hold up the others.
    at_once: int = Field(default=4, ge=1)
    first_s: float = Field(default=5.0, gt=0)  # After the first failed attempt; it doubles each time …
    # … up to this, and goes on without end: archives come back.
    longest_s: float = Field(default=300.0, gt=0)
    lease_s: float = Field(default=60.0, gt=0)  # Renewed while sending.
    heartbeat_s: float = Field(default=15.0, gt=0)
    proof_s: float = Field(default=10.0, gt=0)  # How often sent results are looked after …
    # … those that were sent longer ago than this: indexing takes time.
    proof_after_s: float = Field(default=2.0, ge=0)
    # Not found for this long after sending: it is sent again.
    proof_patience_s: float = Field(default=600.0, gt=0)
    # Storage commitment (confirm = "commitment" or "best"): how long our association stays open for the
    # archive's report …
    commitment_linger_s: float = Field(default=2.0, ge=0)
    # … and how long one may come on an association of the archive's own, before it is asked by C-FIND.
    commitment_patience_s: float = Field(default=120.0, gt=0)
    stop_s: float = Field(default=20.0, gt=0)  # What SIGTERM grants to deliveries on their way.

    @model_validator(mode="after")
    def _renewal_comes_before_loss(self) -> Self:
        if not self.heartbeat_s < self.lease_s:
            raise ValueError("heartbeat_s must be below lease_s")
        return self


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is no time zone that this machine knows; one is 'Europe/Berlin'"
        ) from None
    return name


#: A name of the IANA time zone database.
TimeZone = Annotated[str, AfterValidator(_known_zone)]


class WorkerSite(BaseModel, frozen=True, extra="forbid"):
    """All that `python -m worker` reads, as JSON, from its standard input."""

    ledger: LedgerSettings
    spool: SpoolSettings
    queue: QueueSettings
    worker: WorkerSettings = WorkerSettings()
    delivery: DeliverySettings = DeliverySettings()
    node_ae_title: AETitleText = "WETREAD"  # How we call ourselves when we send.
    peers: tuple[PeerSettings, ...] = ()
    receivers: tuple[ReceiverSettings, ...] = ()
    models: ModelsSettings = ModelsSettings()
    # The clock of results whose images do not say theirs: the site's, never that of the machine they run on.
    time_zone: TimeZone = "UTC"
    console_url: str | None = None  # What links to the console's pages begin with; None: nothing links there.

    def peer(self, name: str) -> PeerSettings | None:
        """The peer called `name`, if this site still knows it."""
        return named(self.peers, name)

    def receiver(self, name: str) -> ReceiverSettings | None:
        """The receiver called `name`, if this site still knows it."""
        return next((one for one in self.receivers if one.name == name), None)
