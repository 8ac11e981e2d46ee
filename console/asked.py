"""A model that somebody asks about a series by hand: does it fit, and which jobs are that?

The same questions are put as to a rule, by making the rule that somebody would have written; so what is no
image for a model is none here either. Only that a series came as somebody's earlier examination does not
count: whoever asks knows what it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from console.fitting import misfit
from console.settings import Site
from dicom_node.peers import named
from dicom_node.routing import Rule, jobs_of, route
from dicom_node.series_facts import SeriesFacts, facts_of
from ledger.channel import Channel, on_channels
from ledger.errors import SiteError, StudyError
from ledger.identifiers import SeriesId, StudyId
from ledger.job import NewJob
from ledger.store.database import NotInLedger
from ledger.store.ledger import Ledger
from models.manifest import Manifest
from models.registry import find

_RULE_MAX = 64  # As long as the name of a rule may be.


class NotForThisSeries(StudyError):
    """A model was asked about a series that it is not made for."""


class NotADestination(SiteError):
    """Results were to go to somebody whom the settings do not know, or do not send to."""


def jobs_by_hand(
    site: Site,
    ledger: Ledger,
    study_id: StudyId,
    series_id: SeriesId,
    *,
    model: str,
    destinations: Sequence[str] = (),
) -> list[NewJob]:
    """The jobs of `model` (`name` or `name@version`) on one series: one, or one for each image.

    Raises `NotInLedger`, `UnknownModel`, `NotForThisSeries` and `NotADestination`.
    """
    for peer in destinations:
        look_at_destination(site, peer)
    record = next((one for one in ledger.series_of(study_id) if one.id == series_id), None)
    if record is None:
        raise NotInLedger(f"study {study_id} has no series {series_id} with images")
    ours = ledger.is_our_result(record.instances[0].sop_instance)
    manifest = find(model, site.models_settings()).manifest
    return fitting_jobs(facts_of(record, ours=ours), manifest, model, destinations, ledger.channels())


def fitting_jobs(
    series: SeriesFacts,
    manifest: Manifest,
    model: str,
    destinations: Sequence[str],
    channels: Mapping[str, Channel],
) -> list[NewJob]:
    """The same of what is known. Raises `NotForThisSeries`."""
    if series.modality not in manifest.inputs[0].modality:
        made = " or ".join(manifest.inputs[0].modality)
        raise NotForThisSeries(
            f"{manifest.identity} is made for {made}, and this series is {series.modality}"
        )
    if manifest.given in ("series", "timeline"):
        what = "several series at once" if manifest.given == "series" else "earlier examinations as well"
        raise NotForThisSeries(f"{manifest.identity} is given {what}: only a rule can ask for it")
    rule = Rule(
        name=f"by hand: {manifest.name}"[:_RULE_MAX],
        model=model,
        modality=frozenset(manifest.inputs[0].modality),
        each="image" if manifest.given == "image" else "series",
        deliver_to=tuple(destinations),
    )
    (answer,) = route(replace(series, prior_of=None), [rule])
    wrong = misfit(rule, manifest) or (None if answer.taken else answer.because)
    if wrong is not None:
        raise NotForThisSeries(f"{manifest.identity} cannot be asked about this series: {wrong}")
    # A shadow version is compared on what rules ask, and not on what somebody tries.
    return [one for one in on_channels(jobs_of([answer]), channels) if not one.shadow]


def look_at_destination(site: Site, peer: str) -> None:
    """Raise `NotADestination` where results cannot go to `peer`."""
    known = named(site.peers, peer)
    if known is None or not known.send:
        those = ", ".join(one.name for one in site.peers if one.send) or "none"
        said = "is no [[peer]] of this site" if known is None else "has send = false"
        raise NotADestination(f"{peer} {said}; results can go to: {those}")
