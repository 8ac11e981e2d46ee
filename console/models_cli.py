# Commands import what they need when they run, and Typer wants their options as plain arguments:
# ruff: noqa: PLC0415, PLR0917
"""`wetread models`: what is installed, what comes in and goes, and what a name means."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from console.options import Because, Config, Data, OpenLedger, OpenSite

if TYPE_CHECKING:
    from console.settings import Site
    from ledger.channel import Channel
    from ledger.store.ledger import Ledger


_ASKED = "asked for on the command line"
Reference = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="As `wetread models` lists it.")]


def models_app(open_site: OpenSite, open_ledger: OpenLedger) -> typer.Typer:
    """The commands; `open_site` and `open_ledger` are how the command line finds settings and ledger."""
    app = typer.Typer(help="The models of this site.", invoke_without_command=True)
    _looking(app, open_site, open_ledger)
    _deciding(app, open_site, open_ledger)
    _changing(app, open_site, open_ledger)
    _making(app)
    return app


def _looking(app: typer.Typer, open_site: OpenSite, open_ledger: OpenLedger) -> None:
    @app.callback()
    def models(context: typer.Context, config: Config = None, data: Data = None) -> None:
        """List the installed models, or do something about one."""
        if context.invoked_subcommand is None:
            list_(config, data)

    @app.command("list")
    def list_(config: Config = None, data: Data = None) -> None:
        """List the installed models: what they do, whom they are trusted by, and what their names mean."""
        from console.shelf import print_models

        site = open_site(config, data)
        print_models(site.models_settings(), _channels(site, open_ledger), _console())

    @app.command("show")
    def show(name: Reference, config: Config = None, data: Data = None) -> None:
        """Print what a model is for, what it is not for, how well it does, and whether it may be opened."""
        from console.shelf import print_model

        print_model(name, open_site(config, data).models_settings(), _console())

    @app.command("verify")
    def verify(
        name: Annotated[str | None, typer.Argument(help="Name of a model; without it, all.")] = None,
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Compare every file with the digest in its manifest. Exit code 1 where one differs."""
        from console.shelf import verify as verify_models

        if not verify_models(name, open_site(config, data).models_settings(), _console()):
            raise typer.Exit(1)

    @app.command("test")
    def test(
        model: Annotated[str, typer.Argument(help="Name of a model, or ./FOLDER of one in the making.")],
        folder: Annotated[
            Path | None,
            typer.Option(help="DICOM files to run it on.", exists=True, file_okay=False, resolve_path=True),
        ] = None,
        out: Annotated[
            Path | None, typer.Option("--out", "-o", help="Where results of --folder go.", resolve_path=True)
        ] = None,
        device: Annotated[str, typer.Option(help='"cpu", "cuda:0", or "auto".')] = "auto",
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Run a model on a phantom that fits its inputs, and on a folder: findings, times, memory.

        Exit code 1 where it cannot be loaded, does not run, or says what cannot be written.
        """
        from console.try_model import try_model

        settings = open_site(config, data).models_settings()
        try_model(model, settings, device, _console(), folder=folder, out=out)

    @app.command("difference")
    def difference(
        name: Annotated[str, typer.Argument(help="Name of a model.")],
        limit: Annotated[int, typer.Option(help="The last so many studies.", min=1, max=500)] = 20,
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Compare what the shadow version said with what the active one said, study by study."""
        from console.difference import print_differences

        site = open_site(config, data)
        print_differences(site, open_ledger(site), name, _console(), limit)


def _deciding(app: typer.Typer, open_site: OpenSite, open_ledger: OpenLedger) -> None:
    @app.command("promote")
    def promote(
        name: Annotated[str, typer.Argument(metavar="NAME@VERSION")],
        newest: Annotated[
            bool, typer.Option("--newest", help="Give only the name: it means the newest version again.")
        ] = False,
        because: Because = _ASKED,
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Decide which version the bare name in a rule means, for all workers, from the next job on."""
        from console import shelving
        from console.acting import at_the_terminal

        site = open_site(config, data)
        if newest:
            shelving.unpromote(open_ledger(site), name, _console(), by=at_the_terminal(), because=because)
        else:
            shelving.promote(site, open_ledger(site), name, _console(), by=at_the_terminal(), because=because)

    @app.command("shadow")
    def shadow(
        name: Annotated[str, typer.Argument(metavar="NAME@VERSION")],
        off: Annotated[
            bool, typer.Option("--off", help="Give only the name: nothing runs beside it.")
        ] = False,
        because: Because = _ASKED,
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Run a version beside the active one, on the same images; its results go nowhere."""
        from console import shelving
        from console.acting import at_the_terminal

        site = open_site(config, data)
        if off:
            shelving.unshadow(open_ledger(site), name, _console(), by=at_the_terminal(), because=because)
        else:
            shelving.shadow(site, open_ledger(site), name, _console(), by=at_the_terminal(), because=because)


def _changing(app: typer.Typer, open_site: OpenSite, open_ledger: OpenLedger) -> None:
    @app.command("add")
    def add(
        source: Annotated[
            str,
            typer.Argument(metavar="PATH|URL", help="A folder, a .zip or .tar, a single file, or https://…."),
        ],
        sha256: Annotated[str | None, typer.Option(help="What the file has to have.")] = None,
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Install a model. What has no manifest gets the draft of one, which names what is missing.

        Nothing of it is run. A version that is there stays: what changed needs another version.
        """
        from console.acting import at_the_terminal
        from console.shelving import add as add_model

        site = open_site(config, data)
        with _ledger(site, open_ledger) as ledger:
            add_model(site, ledger, source, sha256, _console(), by=at_the_terminal(), agree=_agree)

    @app.command("remove")
    def remove(
        name: Reference,
        force: Annotated[bool, typer.Option("--force", help="Also what a rule or a channel names.")] = False,
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Take one version out of the models folder. Refuses what a rule or a channel still names."""
        from console.acting import at_the_terminal
        from console.shelving import remove_model

        site = open_site(config, data)
        with _ledger(site, open_ledger) as ledger:
            remove_model(site, ledger, name, _console(), by=at_the_terminal(), force=force)


def _making(app: typer.Typer) -> None:
    @app.command("new")
    def new(
        name: Annotated[str, typer.Argument(help="Small letters, digits and _.")],
        runtime: Annotated[str, typer.Option("--runtime", "-r", help="What runs it.")] = "python",
        folder: Annotated[Path | None, typer.Option(help="Where; default: ./NAME.")] = None,
    ) -> None:
        """Begin a model: a folder with a manifest, a card, and for Python code that runs as it is."""
        from models.scaffold import begin

        where = folder or Path(name)
        to_do = begin(name, runtime, where)
        _console().print(f"{where} is there: {to_do}. Then:", markup=False)
        _console().print(
            f"  wetread models test ./{where}\n  wetread models add ./{where}"
            if not where.is_absolute()
            else f"  wetread models test {where}\n  wetread models add {where}"
        )

    @app.command("sign")
    def sign(
        folder: Annotated[Path, typer.Argument(help="Folder of a model.", exists=True, file_okay=False)],
        key: Annotated[Path, typer.Option(help="Private key, as `wetread models keygen` writes it.")],
    ) -> None:
        """Write the digests of all files into a manifest, and sign it (ed25519)."""
        from console.shelving import sign_model

        sign_model(folder, key, _console())

    @app.command("keygen")
    def keygen(path: Annotated[Path, typer.Argument(help="Where the private key goes.")]) -> None:
        """Make a key that models can be signed with, and print what sites that trust it enter."""
        from console.shelving import make_key

        make_key(path, _console())


def _channels(site: "Site", open_ledger: OpenLedger) -> "dict[str, Channel]":
    """What names mean; nothing where nothing was ever served from here."""
    with _ledger(site, open_ledger) as ledger:
        return {} if ledger is None else ledger.channels()


@contextmanager
def _ledger(site: "Site", open_ledger: OpenLedger) -> "Iterator[Ledger | None]":
    """The ledger; None where nothing was ever served from here."""
    from console.opening import NothingHere

    try:
        ledger = open_ledger(site)
    except NothingHere:
        yield None
        return
    with ledger:
        yield ledger


def _agree(digest: str) -> bool:
    """Ask the person at the terminal; whoever is no person does not agree."""
    import sys

    if not sys.stdin.isatty():
        return False
    return typer.confirm(f"It has SHA-256 {digest}. Is that what its owner publishes?", default=False)


def _console() -> Console:
    return Console(highlight=False)
