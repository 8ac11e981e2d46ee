"""The models of a site, as a table and one by one: what they are for, who vouches for them, what is wrong."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

import models.builtin
from console.tables import listed, plain_table
from ledger.channel import Channel
from ledger.errors import SiteError
from models.contract import BrokenModel, UnknownModel
from models.manifest import Manifest
from models.registry import Found, broken, every_found, find
from models.seal import weight_mib, wrong_with
from models.settings import ModelsSettings
from models.shelf import places
from models.trust import Level, Trust, check

_LONGEST_CARD = 1 << 20


def print_models(settings: ModelsSettings, channels: Mapping[str, Channel], console: Console) -> None:
    """One line for each model, and one for each that is broken."""
    table = plain_table("Model", "What it does", "Takes", "Trust", "Runs as", "Licence")
    found = every_found(settings)
    for one in found:
        table.add_row(
            one.manifest.identity,
            one.manifest.title,
            takes(one.manifest),
            _trust(one.trust),
            standing(one.manifest, found, channels),
            one.manifest.licence + (" (key)" if one.manifest.licence_key else ""),
        )
    console.print(table)
    for place, wrong in broken(settings):
        console.print(Text(f"\n✘ {place.identity} cannot be used: {wrong}", "red"))
    console.print("\nThe card of one: [bold]wetread models show NAME[/]")


def print_model(name: str, settings: ModelsSettings, console: Console) -> None:
    """The facts and the card of the model `name` (or `name@version`).

    Raises `UnknownModel`, `BrokenModel`.
    """
    one = _found(name, settings)
    manifest = one.manifest
    facts = Table.grid(padding=(0, 2))
    for title, value in facts_of(one, settings):
        facts.add_row(Text(title, "dim"), value)
    console.print(Text(f"{manifest.title}  ", "bold").append(manifest.identity, "not bold dim"))
    console.print(Padding(facts, (1, 0, 1, 0)))
    card = card_of(one)
    if card:
        console.print(Markdown(card))


def verify(name: str | None, settings: ModelsSettings, console: Console) -> bool:
    """Compare every file of one model, or of all, with its manifest; whether all are as they should be."""
    found = [_found(name, settings)] if name else list(every_found(settings))
    well = True
    for one in found:
        if one.package is None:
            console.print(f"✔ {one.manifest.identity}: came with Wetread")
            continue
        wrong = wrong_with(one.package)
        well = well and not wrong
        size = f"{len(one.manifest.files)} files, {weight_mib(one.manifest):.1f} MiB, {one.trust}"
        if not wrong:
            console.print(f"✔ {one.manifest.identity}: {size}")
        for sentence in wrong:
            console.print(Text(f"✘ {sentence}", "red"))
    for place, error in broken(settings) if name is None else ():
        well = False
        console.print(Text(f"✘ {place.identity}: {error}", "red"))
    return well


def _found(name: str, settings: ModelsSettings) -> Found:
    try:
        return find(name, settings)
    except UnknownModel:
        known = {one.manifest.name for one in every_found(settings)}
        known |= {place.name for place in places(settings.folder)}
        close = get_close_matches(name, known, n=1)
        guess = f"did you mean {close[0]!r}?" if close else f"installed: {listed(sorted(known))}"
        raise UnknownModel(f"there is no model {name!r} here; {guess}") from None


def takes(manifest: Manifest) -> str:
    """What it is given, in words."""
    wants = manifest.input
    if manifest.given == "image":
        return f"{'/'.join(wants.modality)}, one image"
    if manifest.given == "series":
        return " + ".join(f"{one.name} ({'/'.join(one.modality)})" for one in manifest.inputs)
    slices = f"{wants.minimum_slices} slices or more" if wants.minimum_slices > 1 else "any volume"
    if wants.spacing_max_mm is not None:
        slices += f", ≤ {wants.spacing_max_mm:g} mm apart"
    return f"{'/'.join(wants.modality)}, {slices}" + (", with priors" if manifest.given == "timeline" else "")


def _trust(trust: Trust) -> Text:
    return Text(str(trust), "bold red" if trust.level is Level.UNSIGNED_CODE else "")


def standing(manifest: Manifest, found: tuple[Found, ...], channels: Mapping[str, Channel]) -> str:
    """What of it a rule gets that gives the bare name."""
    channel = channels.get(manifest.name)
    if channel is not None:
        if manifest.version == channel.active:
            return manifest.name
        return "shadow" if manifest.version == channel.shadow else f"@{manifest.version}"
    newest = [one.manifest.version for one in found if one.manifest.name == manifest.name][-1]
    return manifest.name if manifest.version == newest else f"@{manifest.version}"


def facts_of(one: Found, settings: ModelsSettings) -> Iterator[tuple[str, Text | str]]:
    """What its manifest says, by title; the last one why it is not opened, where that is so."""
    manifest = one.manifest
    yield "Intended use", manifest.intended_use
    for limit in manifest.limits:
        yield "Limit", limit
    yield "Takes", takes(manifest)
    if manifest.segments:
        yield "Draws", _some([segment.label or segment.structure for segment in manifest.segments])
    if manifest.classes:
        yield "Tells", _some([kind.label for kind in manifest.classes])
    if manifest.points:
        yield "Places", _some([point.label for point in manifest.points])
    if manifest.quantities:
        yield "Estimates", _some([quantity.name.meaning for quantity in manifest.quantities])
    for known in manifest.accuracy:
        of = f" of {known.of}" if known.of else ""
        yield "Accuracy", f"{known.metric}{of} {known.value:g} on {known.data} ({known.source})"
    yield "Licence", manifest.licence + (", needs a key" if manifest.licence_key else "")
    yield "Runtime", manifest.runtime
    yield "Trust", _trust(one.trust)
    if manifest.files:
        yield "Files", f"{len(manifest.files)}, {weight_mib(manifest):.1f} MiB"
    yield "Bounds", f"{manifest.time_limit_s:g} s, {manifest.memory_mib} MiB"
    try:
        check(manifest, one.trust, settings)
    except SiteError as refused:
        yield "Not opened", Text(str(refused), "red")


def _some(words: list[str]) -> str:
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")


def card_of(one: Found) -> str:
    """Its card as Markdown, "" where it has none. Raises `BrokenModel`."""
    if one.package is None:
        (root,) = models.builtin.__path__
        path = Path(root) / one.manifest.name / one.manifest.card
    else:
        path = one.package.folder / Path(one.manifest.card).name
    try:
        if path.is_symlink():
            return ""
        return path.read_bytes()[:_LONGEST_CARD].decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise BrokenModel(f"the card of {one.manifest.identity} cannot be read: {error.strerror}") from error
