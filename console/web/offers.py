"""What the page of a study offers to do: nothing to whoever may not, and nothing that would be refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from console.actions import Action, delivery_actions, job_actions, study_actions
from console.asked import NotForThisSeries, fitting_jobs
from console.web.access.table import Permission
from console.web.access.visitor import Visitor
from console.web.deck import Deck
from console.web.story import SeriesPart, StudyPage
from dicom_node.series_facts import facts_of
from ledger.job import JobState, Priority
from ledger.study import StudyState
from ledger.wish import WishKind
from models.registry import every_found


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Models that fit one series."""

    series: int
    words: str  #: what the series is, without what people typed
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """By number of the job and of the delivery."""

    study: tuple[Action, ...] = ()
    jobs: Mapping[int, tuple[Action, ...]] = field(default_factory=dict)
    deliveries: Mapping[int, tuple[Action, ...]] = field(default_factory=dict)
    peers: tuple[str, ...] = ()  #: to whom results can go
    runs: tuple[Choice, ...] = ()  #: models by hand


def offers(deck: Deck, visitor: Visitor, page: StudyPage, *, runs: bool = False) -> Offers:
    """What can be done about everything on the page; with `runs` also which models fit which series, which
    reads the manifests of all.
    """
    if not visitor.may(Permission.STEER):
        return Offers()
    ledger, study = deck.ledger, page.study
    overtaken = {part.job.supersedes for part in page.jobs}
    named = {one.id for note in ledger.rejections_of(study.id) for one in note.names}
    asked = any(wish.kind is WishKind.CLOSE and wish.study_id == study.id for wish in ledger.wishes())
    here = study.state is not StudyState.PURGED
    theirs = [part for part in page.series if not part.ours]
    about_study = study_actions(
        study,
        queued=any(
            part.job.state is JobState.QUEUED and part.job.priority is Priority.ROUTINE for part in page.jobs
        ),
        asked=asked,
        series=bool(theirs),
    )
    return Offers(
        study=about_study,
        jobs={
            part.job.id: job_actions(
                part.job,
                overtaken=part.job.id in overtaken,
                images=here,
                results=here and bool(part.results),
            )
            for part in page.jobs
        },
        deliveries={
            one.id: delivery_actions(one, held=here, named=one.id in named)
            for part in page.jobs
            for made in part.results
            for one in made.deliveries
        },
        peers=tuple(peer.name for peer in deck.site.peers if peer.send),
        runs=_choices(deck, theirs) if runs and Action.RUN_MODEL in about_study else (),
    )


def _choices(deck: Deck, series: Sequence[SeriesPart]) -> tuple[Choice, ...]:
    manifests = [found.manifest for found in every_found(deck.site.models_settings())]
    channels = deck.ledger.channels()
    choices = []
    for part in series:
        facts = facts_of(part.series)
        fitting = []
        for manifest in manifests:
            try:
                fitting_jobs(facts, manifest, manifest.identity, (), channels)
            except NotForThisSeries:
                continue
            fitting.append(manifest.identity)
        if fitting:
            words = f"{part.number} · {part.series.modality}, {part.images}".removeprefix(" · ")
            choices.append(Choice(series=part.series.id, words=words, models=tuple(fitting)))
    return tuple(choices)
