"""The rules in force of a site, and whether a set of rules fits it.

Asked at the start of what is in force, and of an edited set before it is saved, in the same sentences.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from console.alarms import Alarm
from console.complaints import SettingsRefused
from console.settings import Site, same_names, wrong_destinations, wrong_wishes
from dicom_node.routing import Rule
from dicom_node.rule_book import RulesUnreadable, in_force
from dicom_node.settings import wrong_priors, wrong_worklists
from ledger.store.database import LedgerAway
from ledger.store.ledger import Ledger

if TYPE_CHECKING:
    from models.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that is wrong with a set of rules."""

    words: str
    rule: int | None = None  #: its place in the set, from 0; None: the set as a whole
    field: str = ""  #: the key of the rule, where it is one key's fault; with dots within tables


def with_rules_in_force(site: Site, ledger: Ledger) -> Site:
    """The same site with the rules that are in force, or will be once its node has started, in the place of
    those of its file. Not for the node, which is told what the file says. Raises `RulesUnreadable`.
    """
    asked = in_force(ledger, site.rules, default=site.rules_are_default)
    return site.model_copy(update={"rules": asked.rules})


def told_site(site: Site) -> Site:
    """The same, where the ledger is there already and answers; else the site as its file says."""
    if site.ledger.file is not None and not site.ledger.file.exists():
        return site
    try:
        with Ledger.open(site.ledger) as ledger:
            return with_rules_in_force(site, ledger)
    except LedgerAway:  # Whoever needs it will say so.
        return site


def rule_alarms(site: Site, ledger: Ledger) -> list[Alarm]:
    """What is wrong with the rules in force, and with the models that they name."""
    from console.model_alarms import model_alarms  # noqa: PLC0415

    try:
        told = with_rules_in_force(site, ledger)
    except RulesUnreadable as error:
        return [Alarm("rules", str(error))]
    wrong = [Alarm("rules", complaint.words) for complaint in _about_names(told, told.rules)]
    return [*wrong, *model_alarms(told)]


def check_names(site: Site) -> None:
    """Raise `SettingsRefused` where what is in force does not fit the peers and receivers of the site."""
    if wrong := next(_about_names(site, site.rules), None):
        raise SettingsRefused(wrong.words)


def check_models(site: Site) -> None:
    """Raise `SettingsRefused` where a rule names a model that is not installed, or gives it something else
    than it is made for: better now than in the night.
    """
    if wrong := next(_about_models(site, site.rules), None):
        raise SettingsRefused(wrong.words)


def complaints(site: Site, rules: Sequence[Rule]) -> list[Complaint]:
    """All that is wrong with a set of rules at this site; none: it may be saved."""
    return [*_about_names(site, rules), *_about_models(site, rules)]


def _about_names(site: Site, rules: Sequence[Rule]) -> Iterator[Complaint]:
    if words := same_names(rules):
        names = [rule.name for rule in rules]
        second = next(k for k, name in enumerate(names) if name in names[:k])
        yield Complaint(words, second, "name")
    for place, rule in enumerate(rules):
        if words := wrong_destinations(site.peers, [rule]):
            yield Complaint(words, place, "deliver_to")
        if words := wrong_priors(site.peers, [rule]):
            yield Complaint(words, place, "priors.peer")
    if words := wrong_worklists(site.peers, rules) or wrong_wishes(site.receivers, rules):
        yield Complaint(words)


def _about_models(site: Site, rules: Sequence[Rule]) -> Iterator[Complaint]:
    """Reads manifests only: opening a model would bring torch into this process."""
    # `wetread node` runs where no model is installed.
    from models.registry import installed  # noqa: PLC0415

    known: dict[str, list[Manifest]] = {}
    for manifest in installed(site.models_settings()):
        for name in (manifest.name, manifest.identity):
            known.setdefault(name, []).append(manifest)
    for place, rule in enumerate(rules):
        if words := _wrong_model(site, rule, known):
            yield Complaint(words, place, "model")


def _wrong_model(site: Site, rule: Rule, known: Mapping[str, "Sequence[Manifest]"]) -> str:
    from console.fitting import misfit  # noqa: PLC0415

    if ":" in rule.model:
        if site.worker.allow_python_models or site.models.allow_unsigned:
            return ""
        return (
            f"rule {rule.name!r} names {rule.model!r}, which is code of your own: that needs "
            "allow_python_models = true in [worker]"
        )
    if rule.model not in known:
        close = get_close_matches(rule.model, known, n=1)
        guess = f"did you mean {close[0]!r}?" if close else f"installed: {', '.join(sorted(known))}"
        return f"rule {rule.name!r} names the model {rule.model!r}, which is not installed; {guess}"
    # Of several versions one that fits is enough: which one a bare name means may change.
    misfits = [misfit(rule, manifest) for manifest in known[rule.model]]
    return f"rule {rule.name!r}: {misfits[-1]}" if all(misfits) else ""
