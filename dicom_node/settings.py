"""Everything that a site can decide about its node, each with its unit and its reason.

Frozen values, parsed once: a misspelt key or a wrong type stops the start with a sentence that names it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from dicom_node.limits import INSTANCE_BYTES_HARD, DataSetSettings, Quota
from dicom_node.peers import ALL_WITNESSES, AETitleText, PeerSettings, Witnesses
from dicom_node.routing import Rule
from dicom_node.tls_settings import NodeTlsSettings
from ledger.settings import LedgerSettings

_GIB = 1 << 30


class NodeSettings(BaseModel, frozen=True, extra="forbid"):
    """How the node listens, and to whom."""

    ae_title: AETitleText = "WETREAD"
    # Plain DICOM has no passwords: opening it to the network is a decision of the site.
    host: str = "127.0.0.1"
    port: int = Field(
        default=11112, ge=0, le=65535
    )  # Registered for DICOM; 104 needs root; 0 is any free one.
    # "known": only the AE titles of [[peer]] entries with `receive`, from their addresses.
    # "any": whoever can connect; but a title whose [[peer]] has `addresses` only from those.
    callers: Literal["any", "known"] = "any"
    # Whoever does not know our name has the wrong machine (PS3.8 §9.3.4).
    require_called_ae_title: bool = True
    # The same SOP Instance UID with other bytes: the first is always kept and the second always quarantined.
    # "keep" answers Success (the bytes are safe), "refuse" answers 0xA900 so that the sender notices:
    # then every answer waits for the ledger, and a fast sender gets about half as much through.
    conflict: Literal["keep", "refuse"] = "keep"

    # Others may ask whether we hold what they sent (storage commitment). What we hold we keep as [retention]
    # says and no longer: a scanner that deletes its images on our word alone has to ask an archive instead.
    commitment: bool = True
    # Who asked and keeps the association open this long wants the report on it; later it gets one of its own.
    report_wait_s: float = Field(default=1.0, ge=0)

    max_pdu_bytes: int = Field(default=65_536, ge=4096, le=1 << 20)  # More gains little; costs a buffer each.
    maximum_connections: int = Field(default=64, ge=1)  # TCP, associated or not: two threads each.
    # Of addresses that no [[peer]] names: one broken machine must not use them all up. Where several machines
    # come through one address (a proxy, a container's bridge), raise it or name the address.
    connections_per_address: int = Field(default=8, ge=1)
    # Connections that have not asked for an association yet. Honest ones ask within milliseconds.
    connections_unassociated: int = Field(default=16, ge=1)
    # Where a place is needed, whoever has waited this long without asking gives up his.
    give_way_s: float = Field(default=2.0, ge=0)
    # How often one address may connect without asking for an association: a scanner that opens one for every
    # image is not counted. Above it for a moment is allowed, up to `connections_burst` at once.
    connections_per_s: float = Field(default=20.0, gt=0)
    connections_burst: int = Field(default=100, ge=1)
    maximum_associations: int = Field(default=25, ge=1)  # More at once make each slower and none sooner done.
    associations_per_ae: int = Field(default=8, ge=1)  # One caller's; [[peer]] associations_max changes it.
    # This part of the counts above is kept for callers that a [[peer]] names by address, if any does.
    reserved_percent: float = Field(default=25.0, ge=0, le=90)
    # Ends the association while it comes in. Memory is no reason (it goes to the disk as it comes): a sender
    # that never stops is. A [[peer]] may be allowed up to 4 GiB.
    instance_bytes_max: int = Field(default=2 * _GIB, ge=1 << 20, le=INSTANCE_BYTES_HARD)
    # An association that says nothing this long is aborted: within a minute a broken peer holds nothing more.
    idle_s: float = Field(default=50.0, gt=0)
    artim_s: float = Field(default=30.0, gt=0)  # From connection to A-ASSOCIATE-RQ, in all (PS3.8 §9.1.5).
    pdu_silence_s: float = Field(default=10.0, gt=0)  # Between two bytes of one PDU: the peer has died.
    pdu_s: float = Field(default=60.0, gt=0)  # For one whole PDU: nobody trickles 64 KiB in honest work.
    # For one whole instance, or any other message, however patiently it trickles.
    instance_s: float = Field(default=1800.0, gt=0)
    # An instance, or any other message, comes in at least this fast, averaged over `throughput_s`:
    # 131 kbit/s, less than any line to a hospital gives. What our own disk takes is not counted; 0 is no
    # limit.
    throughput_min_bytes_s: int = Field(default=16 << 10, ge=0)
    throughput_s: float = Field(default=30.0, gt=0)
    stop_s: float = Field(default=8.0, gt=0)  # What SIGTERM grants to instances on their way in.
    tls: NodeTlsSettings | None = None  # None: plain DICOM only.

    @property
    def plain_host(self) -> str:
        """Where it listens without TLS. Where that is forbidden only this machine asks whether it lives."""
        if self.tls is None or self.tls.plain:
            return self.host
        return "::1" if ":" in self.host else "127.0.0.1"


class SpoolSettings(BaseModel, frozen=True, extra="forbid"):
    """Where instances and results lie, and how full that place may get."""

    path: Path
    soft_percent: float = Field(default=80.0, gt=0, le=100)  # From here on an operator should look.
    hard_percent: float = Field(default=90.0, gt=0, le=100)  # From here on nothing more is taken in.
    resume_percent: float = Field(
        default=85.0, gt=0, le=100
    )  # Below this again: no flutter at the hard mark.
    # Nothing is taken in with less than this left, however large the disk: ledger and results must still fit.
    reserve_bytes: int = Field(default=10 * _GIB, ge=0)
    measure_s: float = Field(default=1.0, ge=0)  # How long one look at the disk is believed.
    # A file beside an SQLite ledger that gives up its room when that disk is full, so that states can still
    # be recorded; 0 is none.
    ballast_bytes: int = Field(default=64 << 20, ge=0)

    @model_validator(mode="after")
    def _marks_are_in_order(self) -> Self:
        if not self.resume_percent <= self.hard_percent:
            raise ValueError("resume_percent must not be above hard_percent")
        return self


class ClosingSettings(BaseModel, frozen=True, extra="forbid"):
    """How long to wait before a study is judged complete. Nobody in DICOM says so: this is policy."""

    quiet_s: float = Field(default=5.0, ge=0)  # No association open that sent to the study, and nothing new.
    quiet_open_s: float = Field(default=30.0, ge=0)  # Nothing new although such an association is still open.
    # Whatever happens, since it was opened. A peer that counts more images than are here holds the pauses
    # above up, but never this.
    longest_s: float = Field(default=900.0, gt=0)
    # The [[peer]] that is asked how many images a study has, whoever sent it; it needs `count`. What the
    # [[peer]] of the sender says goes first.
    counted_at: str | None = None
    # Who is believed besides the pauses: "count" (a peer's number of images), "commitment" (what a sender
    # listed when it asked us for storage commitment), "geometry" (a series is a regular stack without a gap).
    witnesses: Witnesses = ALL_WITNESSES
    # The pause after which a peer is asked: a count that is out of date at once is of no use.
    ask_after_s: float = Field(default=0.3, ge=0)
    # A count is believed at once when no association is open. While one is, the peer may be receiving too,
    # and its number has to hold this long. Lists of senders have to wait for it as well.
    settle_s: float = Field(default=3.0, ge=0)
    # One question, in all. Meanwhile the pauses go on: nobody waits for a silent peer.
    ask_deadline_s: float = Field(default=10.0, gt=0)
    # A peer whose answer does not settle it is asked less and less often, but not more seldom than this.
    ask_again_s: float = Field(default=30.0, gt=0)
    # A series that is a regular stack is believed to be complete when none of it came for so long. Only for
    # rules with when = "series".
    series_quiet_s: float = Field(default=3.0, ge=0)


class FetchSettings(BaseModel, frozen=True, extra="forbid"):
    """How we fetch what is missing, and earlier studies, from peers with `retrieve`. Nothing waits for it."""

    # A peer that counts more than is here is asked for the rest when nothing came for so long: what is still
    # on its way need not be fetched. While an association is open that sent to the study, [closing]
    # quiet_open_s counts instead.
    missing_after_s: float = Field(default=5.0, ge=0)
    attempts_max: int = Field(default=8, ge=1)  # About ten minutes; then the history says why it ended.
    # Between attempts: doubling from the first to the longest.
    first_s: float = Field(default=5.0, gt=0)
    longest_s: float = Field(default=300.0, gt=0)
    # At the same time, of all peers together: a peer that stalls must not hold up the others.
    at_once: int = Field(default=4, ge=1, le=32)
    every_s: float = Field(default=1.0, gt=0)  # How often to look for what is due.


class RetentionSettings(BaseModel, frozen=True, extra="forbid"):
    """When the images of a finished study are deleted. The archive has them; this is a working copy."""

    # After the last arrival, once all jobs and deliveries are settled.
    keep_days: float = Field(default=7.0, ge=0)
    # Above the soft mark, finished studies go early, oldest first, but never sooner than this.
    keep_at_least_days: float = Field(default=1.0, ge=0)
    quarantine_days: float = Field(
        default=30.0, ge=0
    )  # What was set aside waits this long for somebody to look.
    every_s: float = Field(default=300.0, gt=0)  # How often to look.


class NodeSite(BaseModel, frozen=True, extra="forbid"):
    """All that `python -m dicom_node` reads, as JSON, from its standard input."""

    ledger: LedgerSettings
    spool: SpoolSettings
    node: NodeSettings = NodeSettings()
    closing: ClosingSettings = ClosingSettings()
    retention: RetentionSettings = RetentionSettings()
    fetch: FetchSettings = FetchSettings()
    quota: Quota = Quota()
    data_set: DataSetSettings = DataSetSettings()
    peers: tuple[PeerSettings, ...] = ()
    rules: tuple[Rule, ...] = ()  # What the file says; the ledger has what is in force.
    # They are those of a site without a file: they count only as long as nobody saved any.
    rules_are_default: bool = False

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [peer.name for peer in self.peers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two peers are called {', '.join(twice)}: every peer needs its own name")
        if complaint := wrong_count(self.peers, self.closing) or wrong_priors(self.peers, self.rules):
            raise ValueError(complaint)
        return self


def wrong_count(peers: Sequence[PeerSettings], closing: ClosingSettings) -> str:
    """What is wrong with who counts whose studies, as a sentence; empty where nothing is."""
    counting = {peer.name for peer in peers if peer.count != "none"}
    asked = {f"[[peer]] {peer.name!r}": peer.counted_at for peer in peers}
    for who, name in {"[closing]": closing.counted_at, **asked}.items():
        if name is not None and name not in counting:
            known = " or ".join(sorted(counting)) or "none has it"
            return f"{who}: counted_at names {name!r}, which is no [[peer]] with count ({known})"
    for peer in peers:
        if (
            peer.name in counting
            and not peer.receive
            and peer.name not in (closing.counted_at, *asked.values())
        ):
            return (
                f"[[peer]] {peer.name!r} has count, but it sends nothing here, and nobody names it as "
                "counted_at: it would never be asked"
            )
    return ""


def wrong_priors(peers: Sequence[PeerSettings], rules: Sequence[Rule]) -> str:
    """What is wrong with where rules want priors from, as a sentence; empty where nothing is."""
    giving = sorted(peer.name for peer in peers if peer.retrieve != "none")
    for rule in rules:
        if rule.priors is not None and rule.priors.peer not in giving:
            known = " or ".join(giving) or "no [[peer]] has it"
            return (
                f"rule {rule.name!r} wants priors from {rule.priors.peer!r}, "
                f"which is no [[peer]] with retrieve ({known})"
            )
    return ""


def wrong_worklists(peers: Sequence[PeerSettings], rules: Sequence[Rule]) -> str:
    """What is wrong with whose work this site performs, as a sentence; empty where nothing is."""
    giving = sorted(peer.name for peer in peers if peer.retrieve != "none")
    for peer in peers:
        if peer.worklist is None:
            continue
        if unknown := sorted(set(peer.worklist.rules.values()) - {rule.name for rule in rules}):
            return f"[peer.worklist] of {peer.name!r} waits for {unknown[0]!r}, which is no [[rule]]"
        if peer.worklist.fetch_from and peer.worklist.fetch_from not in giving:
            known = " or ".join(giving) or "none has it"
            return (
                f"[peer.worklist] of {peer.name!r}: fetch_from names {peer.worklist.fetch_from!r}, "
                f"which is no [[peer]] with retrieve ({known})"
            )
    return ""
