"""The models of a site as pages and programs are told: what is here, what names mean, and how they do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from console.serving import FRESH_S
from console.settings import Site
from console.shelf import facts_of, standing, takes
from console.tables import STAGES
from ledger.audit import AuditRow
from ledger.channel import Channel
from ledger.errors import SiteError
from ledger.feedback import Agreement, agreement
from ledger.store.ledger import Ledger
from ledger.usage import ModelFigures
from models.manifest import Accuracy
from models.registry import Found, broken, every_found
from models.trust import Level, check

FIGURES_S = 30 * 86400.0  # Times and memory are of the runs of the last 30 days, …
AGREED_S = 90 * 86400.0  # … and agreement of the results of the last 90.


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a model that is here."""

    identity: str  #: name@version
    version: str
    title: str
    standing: str  #: "active", "shadow" or "" : what of it a rule gets that gives the bare name
    takes: str
    licence: str
    trust: str
    unsigned: bool  #: code that nobody vouches for
    refused: str  #: why it may not be opened here; empty: it may
    facts: tuple[tuple[str, str], ...]
    accuracy: tuple[Accuracy, ...]
    figures: tuple[ModelFigures, ...]  #: by device
    loaded_on: tuple[str, ...]  #: workers that keep it loaded
    agreed: Agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelved:
    """All versions of one model, the newest first."""

    name: str
    title: str
    channel: Channel | None  #: None: nobody has decided; its name means the newest version
    versions: tuple[Version, ...]

    @property
    def active(self) -> Version:
        """What its bare name means; the newest where what it should mean is not here."""
        return next((one for one in self.versions if one.standing == "active"), self.versions[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Every model of the site, and what stands in its folder and is none."""

    models: tuple[Shelved, ...]
    broken: tuple[tuple[str, str], ...]  #: (name@version, what is wrong)
    missing: tuple[str, ...]  #: name@version that a name means, and that is not here


def read_shelf(site: Site, ledger: Ledger) -> Shelf:
    """Read manifests, and what the ledger knows of runs, names and opinions. No model is opened."""
    settings = site.models_settings()
    found, channels, now = every_found(settings), ledger.channels(), ledger.now()
    known = _Known(
        site=site,
        found=found,
        channels=channels,
        figures=ledger.model_figures(since=now - FIGURES_S),
        agreed=agreement(ledger.judged(since=now - AGREED_S)),
        loaded=[(each.report.owner, each.report.models) for each in ledger.workers(fresh_s=FRESH_S)],
    )
    by_name: dict[str, list[Version]] = {}
    for one in found:
        by_name.setdefault(one.manifest.name, []).append(_version(one, known))
    here = {one.manifest.identity for one in found}
    named = [
        f"{name}@{version}"
        for name, channel in channels.items()
        for version in (channel.active, channel.shadow)
        if version is not None
    ]
    return Shelf(
        models=tuple(
            Shelved(
                name=name,
                title=versions[-1].title,
                channel=channels.get(name),
                versions=tuple(reversed(versions)),
            )
            for name, versions in sorted(by_name.items())
        ),
        broken=tuple((place.identity, str(error)) for place, error in broken(settings)),
        missing=tuple(one for one in named if one not in here),
    )


def decisions(ledger: Ledger, name: str, limit: int = 20) -> tuple[AuditRow, ...]:
    """What was decided about the model's name, the latest first."""
    return tuple(row for row in ledger.audit_rows(what="model.", limit=500) if row.thing_id == name)[:limit]


def before(rows: Sequence[AuditRow], active: str) -> str:
    """The version that the name meant before it came to mean `active`; empty where nobody knows."""
    for row in rows:
        if row.what == "model.promoted" and row.detail.get("after") == active:
            return str(row.detail.get("before") or "")
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What is asked once for all versions."""

    site: Site
    found: tuple[Found, ...]
    channels: Mapping[str, Channel]
    figures: Sequence[ModelFigures]
    agreed: Mapping[str, Agreement]
    loaded: Sequence[tuple[str, Sequence[str]]]  #: (worker, what it keeps loaded)


def _version(one: Found, known: _Known) -> Version:
    manifest = one.manifest
    said = standing(manifest, known.found, known.channels)
    active = said == manifest.name
    # Workers keep models under the names that rules give: the bare name is the active version.
    names = {manifest.identity, *((manifest.name,) if active else ())}
    return Version(
        identity=manifest.identity,
        version=manifest.version,
        title=manifest.title,
        standing="active" if active else "shadow" if said == "shadow" else "",
        takes=takes(manifest),
        licence=manifest.licence,
        trust=str(one.trust),
        unsigned=one.trust.level is Level.UNSIGNED_CODE,
        refused=_refused(one, known.site),
        facts=tuple(
            (title, str(value))
            for title, value in facts_of(one, known.site.models_settings())
            if title not in ("Accuracy", "Not opened")
        ),
        accuracy=manifest.accuracy,
        figures=tuple(each for each in known.figures if each.model == manifest.identity),
        loaded_on=tuple(owner for owner, models in known.loaded if names & set(models)),
        agreed=known.agreed.get(manifest.identity, Agreement(0, 0)),
    )


def _refused(one: Found, site: Site) -> str:
    try:
        check(one.manifest, one.trust, site.models_settings())
    except SiteError as error:
        return str(error)
    return ""


def stages(figures: ModelFigures) -> tuple[tuple[str, float, float], ...]:
    """(stage, median, what 95 of 100 runs do not exceed), in seconds and in their order."""
    return tuple(
        (stage, figures.median_s[stage], figures.p95_s[stage])
        for stage in STAGES
        if stage in figures.median_s
    )
