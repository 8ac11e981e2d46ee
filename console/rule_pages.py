"""Rules for a terminal: in words, their versions, what a test says, and what a dry run says."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from console.rule_texts import Beside
from console.tables import local_time, plain_table
from dicom_node.conditions import Conditions
from dicom_node.dropped import Unread
from dicom_node.routing import Rule
from dicom_node.rule_dry_run import DryRun
from dicom_node.rule_test import RuleTried, SeriesTried
from dicom_node.series_facts import SeriesFacts
from ledger.identifiers import SeriesId, Uid
from ledger.rule_set import RuleSet

_NOTHING = SeriesFacts(series=Uid("2.25.0"), series_id=SeriesId(0), modality="", images=0)


def asked_by(conditions: Conditions) -> list[tuple[str, str]]:
    """What is asked, condition by condition: its key, and what it asks, in words."""
    return [(one.condition, one.asked) for one in conditions.judged(_NOTHING)]


def takes(rule: Rule) -> tuple[str, str]:
    """The modalities that a rule takes, and the body parts; none: any."""
    modality = rule.modality or {word for one in rule.inputs for word in one.modality}
    return "/".join(sorted(modality)), ", ".join(sorted(rule.body_part))


def in_words(rule: Rule) -> str:
    """What a rule takes, as one short phrase."""
    modality, parts = takes(rule)
    return f"{modality} of {parts or 'any body part'}"


def rules_page(rules: Sequence[Rule], version: int) -> RenderableType:
    """The list."""
    table = plain_table("Rule", "Takes", "And asks", "Model", "To")
    for rule in rules:
        more = "; ".join(f"{key} {asked}" for key, asked in asked_by(rule) if key not in _SAID)
        table.add_row(rule.name, in_words(rule), more, rule.model, ", ".join(rule.deliver_to) or "stays here")
    said = f"version {version}" if version else "no version was saved yet"
    return Group(Text(f"Rules in force: {said}", "bold"), table if rules else Text("There is no rule."))


_SAID = ("modality", "body_part")


def versions_page(versions: Sequence[RuleSet]) -> RenderableType:
    """The versions, the latest first."""
    table = plain_table("Version", "Saved", "By", "From", "Rules", "Comment")
    for one in versions:
        comment = one.comment if one.same_as is None else f"{one.comment} (as version {one.same_as})"
        table.add_row(
            str(one.number), local_time(one.at), one.by, str(one.source), str(len(one.rules)), comment
        )
    return table if versions else Text("No version was saved yet.")


def tried_page(answers: Sequence[SeriesTried], unread: Sequence[Unread] = ()) -> RenderableType:
    """What every rule says of every series."""
    parts: list[RenderableType] = []
    for of_series in answers:
        spacing = f" at {of_series.spacing_mm:.2f} mm" if of_series.spacing_mm is not None else ""
        title = f"Series {of_series.number or of_series.series}: {of_series.modality}, "
        parts.append(Text(f"{title}{of_series.images} images{spacing}", "bold cyan"))
        parts += [Padding(part, (0, 0, 0, 2)) for one in of_series.rules for part in _tried(one)]
        parts.append(Text())
    parts += [Text(f"File {one.number} was not read: {one.because}", "yellow") for one in unread]
    return Group(*parts) if parts else Text("There is no image that a rule could be asked about.")


def _tried(one: RuleTried) -> Iterator[RenderableType]:
    sign, style = ("✔ taken", "green") if one.taken else ("✘ not taken", "yellow")
    yield Text.assemble((one.rule, "bold"), "  ", (sign, style), f"  {one.because}")
    table = plain_table("", "Condition", "Asked", "Found")
    told = [("", one.conditions), *((f"{each.name}: ", each.conditions) for each in one.inputs)]
    for prefix, conditions in told:
        for each in conditions:
            mark = Text("✔", "green") if each.holds else Text("✘", "yellow")
            table.add_row(mark, f"{prefix}{each.condition}", each.asked, each.found)
    yield Padding(table, (0, 0, 0, 2))


def dry_run_page(told: DryRun) -> RenderableType:
    """What would change."""
    table = plain_table("Rule", "Model", "Jobs now", "then", "One takes")
    for one in told.load:
        takes = "not measured" if one.seconds is None else f"{one.seconds:.0f} s"
        table.add_row(one.rule, one.model, str(one.before), str(one.after), takes)
    parts: list[RenderableType] = [Text(line) for line in dry_run_words(told)]
    parts.append(table)
    for change in told.changes[:20]:
        said = [*(f"+ {word}" for word in change.gains), *(f"- {word}" for word in change.loses)]
        said += [f"~ {word}" for word in change.differs]
        parts.append(Text(f"study {change.study_id}: {'; '.join(said)}"))
    if told.changed > 20:
        parts.append(Text(f"… and {told.changed - 20} studies more"))
    return Group(*parts)


def dry_run_words(told: DryRun) -> Iterator[str]:
    """The outcome in sentences."""
    before, after = told.jobs
    yield (
        f"{told.studies} studies of {told.days:.1f} days were judged by both: {told.changed} of them "
        f"would be treated otherwise, with {after} jobs in the place of {before}."
    )
    if any(told.hours_a_day):
        now, then = told.hours_a_day
        yield f"Computing takes {now:.1f} hours a day now, and would take {then:.1f}."
    if told.unmeasured:
        yield f"Nobody knows yet how long these take: {', '.join(told.unmeasured)}."
    if told.purged:
        yield f"{told.purged} studies were left out: their images are gone, and with them what rules ask."
    if told.stopped:
        yield f"Not all of it: {told.stopped}."


def difference_page(rows: Sequence[Beside]) -> RenderableType:
    """Two versions line by line; only what differs."""
    signs = {"gone": ("-", "red"), "new": ("+", "green")}
    lines = []
    for row in rows:
        if row.kind == "changed":
            lines += [Text(f"- {row.left}", "red"), Text(f"+ {row.right}", "green")]
        elif row.kind in signs:
            sign, style = signs[row.kind]
            lines.append(Text(f"{sign} {row.left or row.right}", style))
    return Group(*lines) if lines else Text("They say the same.")
