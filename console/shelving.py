"""Adding, removing, signing models, and deciding what their names mean."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from console.difference import print_differences
from console.download import check_url, download, is_url
from console.rule_checks import told_site
from console.settings import Site
from ledger.audit import Actor
from ledger.errors import SiteError
from ledger.store.ledger import Ledger
from models.contract import BrokenModel, UnknownModel
from models.install import Installed, WithoutManifest, install, lay_out_single, remove
from models.recognise import Recognised, draft
from models.registry import every_found, find
from models.seal import seal
from models.shelf import Place, places, version_order
from models.signature import new_key, sign
from models.trust import Level


class StillWanted(SiteError):
    """A model is named by a rule or a channel, and so it stays."""


class NotAsked(SiteError):
    """A digest was neither given nor agreed to, so nothing was installed."""


def add(
    site: Site,
    ledger: Ledger | None,
    source: str,
    sha256: str | None,
    console: Console,
    *,
    by: Actor,
    agree: Callable[[str], bool] = lambda digest: False,
) -> None:
    """Install the model at `source`. `agree` is asked about the digest of what came from the web without one;
    `ledger` is None where nothing was ever served from here.

    Raises `WetreadError`; a model without a manifest gets the draft of one in the working directory.
    """
    with tempfile.TemporaryDirectory(prefix="wetread-") as folder:
        if is_url(source):
            check_url(source)
            path, found = download(source, Path(folder), sha256)
            if sha256 is None and not agree(found):
                raise NotAsked(
                    f"nothing is installed: {source} has SHA-256 {found}; compare it with what its owner "
                    f"publishes, then give --sha256 {found}"
                )
        else:
            path = Path(source)
            if sha256 is not None:
                _compare(path, sha256)
        try:
            installed = install(path, site.models_settings(), site.models.folder)
        except WithoutManifest as lacking:
            if lacking.recognised is None:
                raise
            _begin(path, lacking.recognised, console)
            raise
    if ledger is not None:
        how = {"trust": str(installed.trust), "source": "the web" if is_url(source) else "this machine"}
        ledger.record_audit(by, "model.installed", thing_id=installed.manifest.identity, detail=how)
    _tell(installed, console)


def remove_model(
    site: Site, ledger: Ledger | None, reference: str, console: Console, *, by: Actor, force: bool
) -> None:
    """Take one version out of the models folder; `ledger` as in `add`.

    Raises `UnknownModel`, `StillWanted`.
    """
    place = _place(site, reference)
    if not force and (wanted := _wanted(site, ledger, place)):
        raise StillWanted(f"{place.identity} stays: {wanted}. --force removes it all the same")
    remove(place)
    if ledger is not None:
        ledger.record_audit(by, "model.removed", thing_id=place.identity, detail={"forced": force})
    console.print(f"{place.identity} is removed")


def promote(site: Site, ledger: Ledger, reference: str, console: Console, *, by: Actor, because: str) -> None:
    """From now on the model's bare name means this version; says first what was compared."""
    name, version = _version_of(site, reference)
    channel = ledger.channels().get(name)
    if channel is not None and channel.shadow == version:
        print_differences(site, ledger, name, console)
    ledger.promote(name, version, by=by, because=because)
    before = f", and no longer {channel.active}" if channel and channel.active != version else ""
    console.print(
        f"{name} in a rule means {name}@{version} from now on{before}; open jobs stay what they are"
    )


def unpromote(ledger: Ledger, name: str, console: Console, *, by: Actor, because: str) -> None:
    """From now on the model's bare name means its newest version."""
    ledger.drop_channel(name, by=by, because=because)
    console.print(f"{name} in a rule means the newest version that is installed")


def shadow(site: Site, ledger: Ledger, reference: str, console: Console, *, by: Actor, because: str) -> None:
    """Have this version run beside the active one, on the same images, for nobody to see."""
    name, version = _version_of(site, reference)
    channel = ledger.channels().get(name)
    active = channel.active if channel else _newest_other(site, name, version)
    if active == version:
        raise SiteError(f"{name}@{version} is the active version: a shadow has to be another one")
    ledger.shadow(name, version, active=active, by=by, because=because)
    console.print(
        f"{name}@{version} runs beside {name}@{active} from now on, and its results go nowhere; "
        f"wetread models difference {name} compares them"
    )


def unshadow(ledger: Ledger, name: str, console: Console, *, by: Actor, because: str) -> None:
    """Nothing runs beside the active version any more."""
    channel = ledger.channels().get(name)
    if channel is None or channel.shadow is None:
        raise UnknownModel(f"nothing runs beside {name}")
    ledger.shadow(name, None, active=channel.active, by=by, because=because)
    console.print(f"{name}@{channel.shadow} does not run beside {name}@{channel.active} any more")


def sign_model(folder: Path, key: Path, console: Console) -> None:
    """Write the digests of a model's files into its manifest, and a signature of that beside it."""
    package = seal(folder)
    try:
        public = sign(folder, key.read_bytes())
    except OSError as error:
        raise SiteError(f"{error.filename} cannot be read or written: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise SiteError(f"{key} is no private ed25519 key without a password: {error}") from None
    console.print(f"{package.manifest.identity} is signed by {public}")


def make_key(path: Path, console: Console) -> None:
    """Write a new private key, readable by its owner only, and say what to enter in wetread.toml."""
    pem, public = new_key()
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    except FileExistsError:
        raise SiteError(f"{path} is there already and stays as it is") from None
    except OSError as error:
        raise SiteError(f"{path} cannot be written: {error.strerror}") from error
    console.print(f"{path} is the private key: keep it from everybody. Who trusts it enters:")
    console.print(f'\n[models.trusted_keys]\n{path.stem.replace(" ", "-")} = "{public}"', markup=False)


def _begin(source: Path, recognised: Recognised, console: Console) -> None:
    """Lay it out in the working directory, with the draft of a manifest that names what is missing."""
    stem = source.name.partition(".")[0].lower()
    name = "".join(one if one.isalnum() and one.isascii() else "_" for one in stem).strip("_")[:48] or "model"
    folder = source if source.is_dir() else Path(name)
    if not source.is_dir():
        if folder.exists():
            raise BrokenModel(
                f"{source.name} has no manifest, and {folder} is there already: complete that one"
            )
        folder.mkdir()
        lay_out_single(source, folder)
    path = folder / "manifest.toml"
    path.write_text(draft(recognised, name), encoding="utf-8")
    console.print(
        f"{source.name} is for the runtime {recognised.runtime}. {path} is the beginning of its manifest:"
    )
    for one in recognised.missing:
        console.print(Text(f"  – {one}", "yellow"))
    console.print(f"Complete the lines that begin with #!, then: wetread models add {folder}")


def _tell(installed: Installed, console: Console) -> None:
    manifest, trust = installed.manifest, installed.trust
    console.print(f"{manifest.identity} is installed: {manifest.title} ({manifest.runtime}, {trust})")
    if trust.level is Level.UNSIGNED_CODE:
        console.print(
            Text("It is code that nobody vouches for; results, status and lists say so.", "bold red")
        )
    console.print(f"Try it: [bold]wetread models test {manifest.name}[/]", soft_wrap=True)


def _compare(path: Path, sha256: str) -> None:
    from hashlib import file_digest  # noqa: PLC0415

    if not path.is_file():
        raise SiteError(f"--sha256 is of a file, and {path} is none")
    with path.open("rb") as file:
        found = file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        raise SiteError(f"{path} has SHA-256 {found}, not {sha256.lower()}: nothing is installed")


def _place(site: Site, reference: str) -> Place:
    name, _, version = reference.partition("@")
    mine = places(site.models.folder, name) if name else ()
    if not version and len(mine) == 1:
        return mine[0]
    found = next((place for place in mine if place.version == version), None)
    if found is None:
        have = ", ".join(place.identity for place in mine) or "no version of it was added"
        raise UnknownModel(f"{reference!r} is not in the models folder; there: {have}")
    return found


def _wanted(site: Site, ledger: Ledger | None, place: Place) -> str:
    """Who still names this version, in words; empty where nobody does."""
    alone = len(places(site.models.folder, place.name)) == 1
    for rule in told_site(site).rules:
        if rule.model == place.identity or (alone and rule.model == place.name):
            return f"rule {rule.name!r} names {rule.model}"
    channel = None if ledger is None else ledger.channels().get(place.name)
    if channel is not None and place.version in (channel.active, channel.shadow):
        role = "means it" if place.version == channel.active else "has it as its shadow"
        return f"{place.name} {role} (wetread models promote)"
    return ""


def _version_of(site: Site, reference: str) -> tuple[str, str]:
    """Name and version of a model that is here and may be opened. Raises `UnknownModel`, `BrokenModel`."""
    name, at, version = reference.partition("@")
    if not at or not version:
        raise UnknownModel(f"say which version: {name}@VERSION")
    found = find(reference, site.models_settings())
    return found.manifest.name, found.manifest.version


def _newest_other(site: Site, name: str, version: str) -> str:
    others = [
        one.manifest.version
        for one in every_found(site.models_settings())
        if one.manifest.name == name and one.manifest.version != version
    ]
    if not others:
        raise UnknownModel(f"{name}@{version} is its only version: there is nothing that it could run beside")
    return max(others, key=version_order)
