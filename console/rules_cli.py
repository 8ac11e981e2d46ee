# Commands import what they need when they run, and Typer wants their options as plain arguments:
# ruff: noqa: PLC0415, PLR0917
"""`wetread rules`: what is in force, what would be, trying it, saving it, and going back."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from console.options import Config, Data, OpenLedger, OpenSite

if TYPE_CHECKING:
    from console.rule_texts import Edited
    from console.settings import Site
    from dicom_node.dropped import Dropped
    from dicom_node.routing import Rule
    from dicom_node.rule_book import InForce
    from ledger.identifiers import StudyId
    from ledger.store.ledger import Ledger


File = Annotated[
    Path, typer.Argument(metavar="FILE", help="\\[\\[rule]] tables in TOML; - is standard input.")
]
Days = Annotated[float, typer.Option(min=0.01, max=90, help="How far back.")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; kept with the version.")]


def rules_app(open_site: OpenSite, open_ledger: OpenLedger) -> typer.Typer:
    """The commands; `open_site` and `open_ledger` are how the command line finds settings and ledger."""
    app = typer.Typer(help="The rules: which series go to which model.", invoke_without_command=True)
    _looking(app, open_site, open_ledger)
    _trying(app, open_site, open_ledger)
    _deciding(app, open_site, open_ledger)
    return app


def _looking(app: typer.Typer, open_site: OpenSite, open_ledger: OpenLedger) -> None:
    @app.callback()
    def rules(context: typer.Context, config: Config = None, data: Data = None) -> None:
        """List the rules in force, or do something about them."""
        if context.invoked_subcommand is None:
            list_(config, data)

    @app.command("list")
    def list_(config: Config = None, data: Data = None) -> None:
        """List the rules in force, in words."""
        from console.rule_pages import rules_page

        site = open_site(config, data)
        asked = _in_force(site, open_ledger(site))
        _console().print(rules_page(asked.rules, asked.version))

    @app.command("show")
    def show(
        version: Annotated[
            int | None, typer.Argument(help="A version; without it, the rules in force.")
        ] = None,
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Print rules as they stand in wetread.toml, to be edited and saved."""
        from console.rule_texts import toml_of
        from dicom_node.rule_book import as_tables

        site = open_site(config, data)
        ledger = open_ledger(site)
        if version is None:
            asked = _in_force(site, ledger)
            text = toml_of(as_tables(asked.rules), version=asked.version)
        else:
            text = toml_of(ledger.rule_set(version).rules, version=version)
        typer.echo(text, nl=False)

    @app.command("versions")
    def versions(
        limit: Annotated[int, typer.Option(min=1, max=1000, help="The latest so many.")] = 20,
        config: Config = None,
        data: Data = None,
    ) -> None:
        """List every version that was in force: when, by whom, and why."""
        from console.rule_pages import versions_page

        site = open_site(config, data)
        _console().print(versions_page(open_ledger(site).rule_sets(limit)))


def _trying(app: typer.Typer, open_site: OpenSite, open_ledger: OpenLedger) -> None:
    @app.command("check")
    def check(file: File, config: Config = None, data: Data = None) -> None:
        """Say whether rules could be saved at this site, or all that is wrong with them. Exit code 1 then."""
        edited = _read(open_site(config, data), file)
        if edited.wrong:
            raise typer.Exit(_complain(edited))
        _console().print(f"{_so_many(edited)} could be saved here")

    @app.command("test")
    def test(
        study: Annotated[
            str | None, typer.Argument(metavar="STUDY", help="Study UID or accession number of a study here.")
        ] = None,
        dicom: Annotated[
            list[Path] | None,
            typer.Option(help="A DICOM file, or a folder of them; may be given twice.", exists=True),
        ] = None,
        rules: Annotated[
            Path | None, typer.Option("--rules", help="Test these rules, in the place of those in force.")
        ] = None,
        calling: Annotated[str, typer.Option(help="As if this AE title had sent the files.")] = "NOBODY",
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Tell of each rule and series whether it is taken, and of every condition whether it holds.

        Nothing is sent, saved or analysed, and no value that could name a patient is printed.
        """
        from console.rule_pages import tried_page
        from dicom_node.facts_known import facts_of_study
        from dicom_node.rule_test import tried

        if (study is None) == (not dicom):
            raise typer.BadParameter("give either a study or --dicom")
        site = open_site(config, data)
        asked = _asked(site, rules, open_ledger)
        if study is not None:
            ledger = open_ledger(site)
            _console().print(tried_page(tried(facts_of_study(ledger, _study(ledger, study)), asked)))
            return
        dropped = _dropped(site, dicom or (), calling)
        _console().print(tried_page(tried(dropped.series, asked), dropped.unread))

    @app.command("dry-run")
    def dry(file: File, days: Days = 7, config: Config = None, data: Data = None) -> None:
        """Tell what rules would have made of the studies of the last days, beside those in force.

        At most 2000 studies and 20 s, the newest first. Nothing is saved.
        """
        from console.rule_pages import dry_run_page
        from dicom_node.rule_dry_run import dry_run

        site = open_site(config, data)
        edited = _read(site, file)
        if edited.wrong:
            raise typer.Exit(_complain(edited))
        ledger = open_ledger(site)
        before = _in_force(site, ledger).rules
        _console().print(dry_run_page(dry_run(ledger, before, edited.rules, days=days)))


def _deciding(app: typer.Typer, open_site: OpenSite, open_ledger: OpenLedger) -> None:
    @app.command("save")
    def save(
        file: File,
        comment: Comment,
        on: Annotated[
            int | None,
            typer.Option(help="The version that FILE was made from. Default: as it says itself."),
        ] = None,
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Put rules in force, as a new version. A running node takes them within two seconds."""
        from console.acting import at_the_terminal
        from console.rule_texts import made_from, read_text
        from dicom_node.rule_book import adopt

        site = open_site(config, data)
        text = _text(file)
        edited = read_text(site, text)
        if edited.wrong:
            raise typer.Exit(_complain(edited))
        ledger = open_ledger(site)
        named = made_from(text) if on is None else on
        # What the settings file says comes first: else it would be something new at the next start.
        adopted = adopt(ledger, site.rules, default=site.rules_are_default)
        if named is None or (adopted is not None and named in (0, adopted.number)):
            named = ledger.rules_version()
        saved = ledger.save_rule_set(edited.tables, base=named, by=at_the_terminal(), comment=comment)
        _console().print(f"version {saved.number} is in force: {_so_many(edited)}")

    @app.command("rollback")
    def rollback(
        number: Annotated[int, typer.Argument(help="The version to go back to.")],
        comment: Comment = "",
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Put an earlier version in force again, as a new one equal to it."""
        from console.acting import at_the_terminal
        from console.rule_texts import read_tables

        site = open_site(config, data)
        ledger = open_ledger(site)
        old = ledger.rule_set(number)
        edited = read_tables(site, [dict(rule) for rule in old.rules])
        if edited.wrong:
            raise typer.Exit(_complain(edited))
        saved = ledger.save_rule_set(
            old.rules,
            base=ledger.rules_version(),
            by=at_the_terminal(),
            comment=comment or f"back to version {number}",
            same_as=number,
        )
        _console().print(f"version {saved.number} is in force: it says what version {number} said")


def _in_force(site: "Site", ledger: "Ledger") -> "InForce":
    from dicom_node.rule_book import in_force

    return in_force(ledger, site.rules, default=site.rules_are_default)


def _asked(site: "Site", file: Path | None, open_ledger: OpenLedger) -> "Sequence[Rule]":
    if file is None:
        return _in_force(site, open_ledger(site)).rules
    edited = _read(site, file)
    if not edited.rules and edited.wrong:
        raise typer.Exit(_complain(edited))
    return edited.rules


def _study(ledger: "Ledger", text: str) -> "StudyId":
    from console.show import NotFound
    from ledger.job import JobRecord

    found = ledger.find(text)
    if found is None:
        raise NotFound(f"the ledger knows no study {text!r}: give a study UID or an accession number")
    return found.study_id if isinstance(found, JobRecord) else found.id


def _dropped(site: "Site", paths: Sequence[Path], calling: str) -> "Dropped":
    from dicom_node.dropped import read_dropped
    from dicom_node.long_headers import LongHeaders
    from ledger.identifiers import AETitle

    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    readers = LongHeaders(site.data_set)
    try:
        return read_dropped(
            [file for file in files if file.is_file()], readers, calling=AETitle.parse(calling)
        )
    finally:
        readers.close()


def _text(file: Path) -> str:
    from console.complaints import SettingsRefused

    if str(file) == "-":
        return sys.stdin.read()
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsRefused(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SettingsRefused(f"{file} is not UTF-8 text") from None


def _read(site: "Site", file: Path) -> "Edited":
    from console.rule_texts import read_text

    return read_text(site, _text(file))


def _complain(edited: "Edited") -> int:
    """Print all that is wrong; the exit code."""
    for wrong in edited.wrong:
        Console(stderr=True, highlight=False, soft_wrap=True).print(wrong.words, markup=False, style="red")
    return 1


def _so_many(edited: "Edited") -> str:
    return "1 rule" if len(edited.rules) == 1 else f"{len(edited.rules)} rules"


def _console() -> Console:
    return Console(highlight=False)
