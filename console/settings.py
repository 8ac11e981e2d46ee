"""One file for a whole site: `wetread.toml`, read once, checked whole, and passed on as frozen values.

No file is a valid site too: the images lie in ./wetread-data, the node listens on loopback as WETREAD, and
one rule sends chest CT to `lung_ct` with no destination, so that a first look can do no harm.

Relative paths are relative to the file that names them. A key ending in `_file` (`url_file`, …) names a file
that holds the value: so that a password need not stand in a file that people print and mail. Those of tables
within tables, such as `[peer.web]` and `[node.tls]`, are read whenever they are needed: tokens and
certificates are renewed.
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from console.complaints import SettingsRefused, sentences
from console.telemetry.settings import TelemetrySettings
from console.web.settings import ConsoleSettings
from dicom_node.dicomweb.settings import DicomWebSettings, WebSite
from dicom_node.limits import DataSetSettings, Quota
from dicom_node.peers import PeerSettings
from dicom_node.receivers import ReceiverSettings
from dicom_node.routing import Rule
from dicom_node.settings import (
    ClosingSettings,
    FetchSettings,
    NodeSettings,
    NodeSite,
    RetentionSettings,
    SpoolSettings,
    wrong_count,
    wrong_priors,
)
from ledger.settings import LedgerSettings
from models.settings import ModelsSettings
from worker.settings import DeliverySettings, QueueSettings, TimeZone, WorkerSettings, WorkerSite

FILE_NAME = "wetread.toml"

#: What a site without a file does: look at every chest CT, and tell nobody but this machine.
DEFAULT_RULE: Mapping[str, Any] = {
    "name": "chest CT",
    "model": "lung_ct",
    "modality": "CT",
    "body_part": ["CHEST", "THORAX", "LUNG", "CHESTABDOMEN", "CHESTABDPELVIS"],
    "at_least": 20,
    "choose": "thinnest",
    "deliver_to": [],
}


class SiteTable(BaseModel, frozen=True, extra="forbid"):
    """`[site]`: what this installation is called, and where it keeps things."""

    name: str = "Wetread"  # Shown to people; never sent to a peer.
    data: Path = Path("wetread-data")  # Ledger, spool and queue, unless they are placed elsewhere below.
    # E.g. "Europe/Berlin"; this machine's where it is left out. Results tell their times in it where the
    # images do not say in which zone theirs are. Workers on several machines need the same one.
    time_zone: TimeZone = "UTC"


def _keys(keys: Mapping[str, str]) -> Mapping[str, str]:
    from models.signature import is_public_key  # noqa: PLC0415  `wetread status` need not wait for it.

    for name, key in keys.items():
        if not is_public_key(key):
            raise ValueError(
                f"{name!r} is no public ed25519 key in base64, as `wetread models keygen` prints it"
            )
    return keys


class ModelsTable(BaseModel, frozen=True, extra="forbid"):
    """`[models]`: models of the site's own, and whom it trusts. `wetread models add` installs one."""

    # One folder for each version of each model. Workers on other hosts need the same ones at their path.
    folder: Path
    # Models that are code (Python, containers, TorchScript, torch.export, most bundles) run as the worker.
    # They are opened if a trusted key signed them, or if this is true; then they are shown as what they are.
    allow_unsigned: bool = False
    # name = "public key", as `wetread models keygen` prints it: who may vouch for models.
    trusted_keys: Annotated[Mapping[str, str], AfterValidator(_keys)] = {}
    # model = "key", for models that may be used only by who has a licence. Never shown, told to no process.
    licence_keys: Mapping[str, str] = Field(default={}, repr=False)


class Site(BaseModel):
    """A whole `wetread.toml`, with every default filled in and every path absolute."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    site: SiteTable
    ledger: LedgerSettings
    spool: SpoolSettings
    node: NodeSettings = NodeSettings()
    dicomweb: DicomWebSettings = DicomWebSettings()
    console: ConsoleSettings = ConsoleSettings()
    closing: ClosingSettings = ClosingSettings()
    retention: RetentionSettings = RetentionSettings()
    fetch: FetchSettings = FetchSettings()
    quota: Quota = Quota()
    data_set: DataSetSettings = DataSetSettings()
    queue: QueueSettings | None = None  # None: `wetread serve` starts a Redis of its own.
    worker: WorkerSettings = WorkerSettings()
    delivery: DeliverySettings = DeliverySettings()
    models: ModelsTable
    telemetry: TelemetrySettings = TelemetrySettings()
    peers: tuple[PeerSettings, ...] = Field(default=(), alias="peer")
    rules: tuple[Rule, ...] = Field(default=(), alias="rule")
    receivers: tuple[ReceiverSettings, ...] = Field(default=(), alias="notify")

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        names = [peer.name for peer in self.peers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two [[peer]] entries are called {twice[0]!r}: every peer needs its own name")
        if complaint := wrong_count(self.peers, self.closing):
            raise ValueError(complaint)
        if complaint := _tls_missing(self.peers, self.node):
            raise ValueError(complaint)
        if complaint := (
            same_names(self.rules)
            or wrong_destinations(self.peers, self.rules)
            or wrong_priors(self.peers, self.rules)
            or _wrong_receivers(self.receivers, {peer.name for peer in self.peers if peer.send})
        ):
            raise ValueError(complaint)
        return self

    @property
    def rules_are_default(self) -> bool:
        """Whether they are those of a site without a file: nobody decided for them."""
        return self.rules == (Rule.model_validate(DEFAULT_RULE),)

    @property
    def data(self) -> Path:
        """The data folder, absolute."""
        return self.site.data

    def with_queue(self, url: str) -> "Site":
        """The same site with a queue at `url`."""
        return self.model_copy(update={"queue": QueueSettings(url=url)})

    def node_site(self) -> NodeSite:
        """What `python -m dicom_node` is told."""
        return NodeSite(
            ledger=self.ledger,
            spool=self.spool,
            node=self.node,
            closing=self.closing,
            retention=self.retention,
            fetch=self.fetch,
            quota=self.quota,
            data_set=self.data_set,
            peers=self.peers,
            rules=self.rules,
            rules_are_default=self.rules_are_default,
        )

    def web_site(self) -> WebSite:
        """What `python -m dicom_node.dicomweb` is told."""
        return WebSite(
            ledger=self.ledger,
            spool=self.spool,
            dicomweb=self.dicomweb,
            data_set=self.data_set,
            ae_title=self.node.ae_title,
        )

    def worker_site(self) -> WorkerSite:
        """What `python -m worker` is told. Raises `SettingsRefused` where no queue is named."""
        if self.queue is None:
            raise SettingsRefused(
                "a worker of its own needs a queue to listen to: give [queue] url, "
                "e.g. redis://queue.hospital:6379/0 (`wetread serve` starts a queue by itself)"
            )
        return WorkerSite(
            ledger=self.ledger,
            spool=self.spool,
            queue=self.queue,
            worker=self.worker,
            delivery=self.delivery,
            node_ae_title=self.node.ae_title,
            peers=self.peers,
            receivers=self.receivers,
            models=self.models_settings(),
            time_zone=self.site.time_zone,
            console_url=self.console.public_url,
        )

    def models_settings(self) -> ModelsSettings:
        """What every process that opens models is told; the licence keys themselves stay here."""
        return ModelsSettings(
            folder=self.models.folder,
            allow_unsigned=self.models.allow_unsigned,
            trusted_keys=self.models.trusted_keys,
            licensed=tuple(sorted(self.models.licence_keys)),
        )


def find_file(given: Path | None) -> Path | None:
    """The settings file to use: the one given, else ./wetread.toml where there is one, else none."""
    if given is not None:
        return given.absolute()
    here = Path(FILE_NAME).absolute()
    return here if here.exists() else None


def load_site(
    path: Path | None, data: Path | None = None, *, time_zone: str = "UTC", **urls: str | None
) -> Site:
    """The site that the file at `path` describes, or the default site where `path` is None.

    `data` overrides [site] data; `urls` (`ledger`, `queue`) override the URL of that table. `time_zone` is
    that of a site that names none.
    Raises `SettingsRefused` with every complaint in one message.
    """
    tables = read_tables(path)
    for name, url in urls.items():
        if url is not None:
            _table(tables, name)["url"] = url
    folder = path.parent if path else Path.cwd()
    site = _table(tables, "site")
    site["data"] = str(data.absolute()) if data else _absolute(site.get("data", "wetread-data"), folder)
    site.setdefault("time_zone", time_zone)
    _table(tables, "ledger").setdefault("url", f"sqlite:///{site['data']}/ledger.sqlite")
    spool = _table(tables, "spool")
    spool["path"] = _absolute(spool.get("path", f"{site['data']}/spool"), folder)
    models = _table(tables, "models")
    models["folder"] = _absolute(models.get("folder", f"{site['data']}/models"), folder)
    if path is None:
        tables["rule"] = [dict(DEFAULT_RULE)]
    try:
        return _placed(Site.model_validate(tables), folder)
    except ValidationError as error:
        raise SettingsRefused("\n".join(sentences(error, Site, path))) from None


def _tls_missing(peers: Iterable[PeerSettings], node: NodeSettings) -> str:
    """What [peer.tls] tables take from a [node.tls] that is not there; empty where nothing is missing."""
    if node.tls is not None:
        return ""
    for peer in peers:
        if peer.tls is not None and peer.tls.send and peer.tls.ca_file is None:
            return f"[peer.tls] of {peer.name!r} needs ca_file: there is no [node.tls] to take it from"
        if peer.tls is not None and peer.receive and peer.tls.required:
            return (
                f"{peer.name!r} could never call: its [peer.tls] requires TLS, and there is no [node.tls]."
                " Give one, or receive = false, or required = false"
            )
    return ""


def same_names(rules: Iterable[Rule]) -> str:
    """Which two rules could not be told apart, as a sentence; empty where none."""
    names = [rule.name for rule in rules]
    twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
    return f"two [[rule]] entries are called {twice!r}: every rule needs its own name" if twice else ""


def wrong_destinations(peers: Iterable[PeerSettings], rules: Iterable[Rule]) -> str:
    """What is wrong with where rules deliver to, as a sentence; empty where nothing is."""
    sends = {peer.name: peer.send for peer in peers}
    for rule in rules:
        for name in rule.deliver_to:
            if name not in sends:
                known = ", ".join(sorted(name for name, send in sends.items() if send)) or "none is defined"
                return f"rule {rule.name!r} delivers to {name!r}, which is no [[peer]] here ({known})"
            if not sends[name]:
                return f"rule {rule.name!r} delivers to {name!r}, whose [[peer]] has send = false"
    return ""


def wrong_wishes(receivers: Iterable[ReceiverSettings], rules: Iterable[Rule]) -> str:
    """Which [[notify]] is about no rule, as a sentence; empty where none is."""
    names = {rule.name for rule in rules}
    for one in receivers:
        if unknown := sorted(set(one.rules) - names):
            return f"[[notify]] {one.name!r} is about rule {unknown[0]!r}, which is no [[rule]] here"
    return ""


def _wrong_receivers(receivers: Iterable[ReceiverSettings], peers: set[str]) -> str:
    """What is wrong with [[notify]]; empty where nothing is."""
    names: set[str] = set()
    for one in receivers:
        if one.name in names:
            return f"two [[notify]] entries are called {one.name!r}: every receiver needs its own name"
        names.add(one.name)
        if one.archive is not None and one.archive not in peers:
            return (
                f"[[notify]] {one.name!r} waits for {one.archive!r}, which is no [[peer]] that gets results"
            )
    return ""


def _placed(site: Site, folder: Path) -> Site:
    """The same with the files of tables within tables seen from `folder`; [node.tls] lends to peers."""
    tls = site.node.tls.under(folder) if site.node.tls else None
    peers = tuple(
        peer.model_copy(
            update={
                "web": peer.web and peer.web.under(folder),
                "user": peer.user and peer.user.under(folder),
                "tls": peer.tls and peer.tls.under(folder).completed(tls),
            }
        )
        for peer in site.peers
    )
    web = site.dicomweb.tls.under(folder) if site.dicomweb.tls else None
    console = site.console.tls.under(folder) if site.console.tls else None
    return site.model_copy(
        update={
            "node": site.node.model_copy(update={"tls": tls}),
            "dicomweb": site.dicomweb.model_copy(update={"tls": web}),
            "console": site.console.model_copy(update={"tls": console}),
            "peers": peers,
            "telemetry": site.telemetry.under(folder),
            "receivers": tuple(one.under(folder) for one in site.receivers),
        }
    )


def read_tables(path: Path | None) -> dict[str, Any]:
    """The tables of the file as they stand in it, `_file` keys replaced by what the files hold."""
    if path is None:
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsRefused(f"{path} does not exist; `wetread init` writes one") from None
    except OSError as error:
        raise SettingsRefused(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SettingsRefused(f"{path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsRefused(f"{path} is not valid TOML: {error}") from None
    for table in tables.values():
        for entry in table if isinstance(table, list) else [table]:
            if isinstance(entry, dict):
                _read_secrets(entry, path.parent)
    return tables


def _read_secrets(table: dict[str, Any], folder: Path) -> None:
    for key in [key for key in table if key.endswith("_file")]:
        plain = key.removesuffix("_file")
        if plain in table:
            raise SettingsRefused(f"both {plain!r} and {key!r} are given: one of them has to go")
        try:
            table[plain] = (folder / str(table.pop(key))).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsRefused(
                f"{key} names {error.filename}, which cannot be read: {error.strerror}"
            ) from error


def _absolute(path: object, folder: Path) -> object:
    """`path` seen from `folder`; what is no text is left for pydantic to complain about."""
    return str((folder / path).absolute()) if isinstance(path, str) else path


def _table(tables: dict[str, Any], name: str) -> dict[str, Any]:
    """The table `name`, made where it is absent; what is no table is left for pydantic to complain about."""
    table = tables.setdefault(name, {})
    return table if isinstance(table, dict) else {}
