# Commands import what they need when they run, and Typer wants their options as plain arguments:
# ruff: noqa: PLC0415, PLR0917
"""`wetread`: every command, what it takes, and how it ends.

Exit codes: 0 it is so; 1 it is not, and standard error says why; 2 the command or the settings cannot be
understood. Commands import what they need when they run, so that `wetread status` does not wait for torch.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from console.accounts_cli import accounts_app, audit_app
from console.complaints import SettingsRefused
from console.models_cli import models_app
from console.remote_cli import REMOTE, remote_app
from console.rules_cli import rules_app
from console.steer_cli import add_steering
from console.viewer.cli import viewer_app
from ledger.errors import WetreadError

if TYPE_CHECKING:
    from console.settings import Site
    from ledger.profile import Profile
    from ledger.store.ledger import Ledger

app = typer.Typer(
    name="wetread",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(asked: bool) -> None:
    if asked:
        from ledger.implementation import software_version

        _console().print(f"wetread {software_version()}")
        raise typer.Exit


@app.callback()
def wetread(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Studies in over DICOM, AI results back into the archive. Research use; not a medical device."""


_RUN, _WATCH, _DECIDE, _SET_UP = "Run", "Watch", "Decide", "Set up"

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="WETREAD_CONFIG",
        help="Settings file. Default: ./wetread.toml if it is there.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Data folder, instead of \\[site] data. Default: ./wetread-data."),
]
LedgerUrl = Annotated[str | None, typer.Option("--ledger", help="Database URL, instead of \\[ledger] url.")]
QueueUrl = Annotated[str | None, typer.Option("--queue", help="Redis URL, instead of \\[queue] url.")]
ProfileName = Annotated[
    str,
    typer.Option(
        "--profile", help="What whoever gets the results can show: ohif, slicer, weasis, plain-pacs or air."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs, instead of a table for people.")]


class WorkerRole(StrEnum):
    """The parts that a worker can be split into."""

    COMPUTE = "compute"
    DELIVER = "deliver"
    DISPATCH = "dispatch"


# Run


@app.command(rich_help_panel=_RUN)
def serve(config: Config = None, data: Data = None) -> None:
    """Run everything on this machine: node, worker, ledger and queue. Needs no settings file.

    Prints what to tell the PACS. Ctrl-C or SIGTERM stops it within 30 s, and nothing is lost.
    """
    from console import serve as serving

    _journal()
    serving.serve(_site(config, data), _file(config), _console())


@app.command(rich_help_panel=_RUN)
def node(config: Config = None, data: Data = None, ledger: LedgerUrl = None) -> None:
    """Run the DICOM node alone: it receives, closes and routes studies."""
    from console import serve as serving

    _journal()
    serving.serve_node(_site(config, data, ledger=ledger), _console())


@app.command("console", rich_help_panel=_RUN)
def console_alone(config: Config = None, data: Data = None, ledger: LedgerUrl = None) -> None:
    """Run the console alone: the pages that show and steer everything. `wetread serve` runs one too."""
    from console import serve as serving

    _journal()
    serving.serve_console(_site(config, data, ledger=ledger), _file(config), _console())


@app.command(rich_help_panel=_RUN)
def worker(
    config: Config = None,
    data: Data = None,
    ledger: LedgerUrl = None,
    queue: QueueUrl = None,
    only: Annotated[
        list[WorkerRole] | None, typer.Option(help="Run just this part; may be given twice.")
    ] = None,
) -> None:
    """Run a worker alone: compute, deliver and dispatch. Any number of them, on any number of hosts.

    Needs a queue (\\[queue] url or --queue), the ledger of the node, and the node's spool at the same path.
    """
    from console import serve as serving

    _journal()
    roles = [role.value for role in only or WorkerRole]
    serving.serve_worker(_site(config, data, ledger=ledger, queue=queue), roles, _console())


@app.command(rich_help_panel=_RUN)
def run(
    model: Annotated[str, typer.Argument(help="Name of a model, as `wetread models` lists it.")],
    folder: Annotated[
        Path, typer.Argument(help="Folder of DICOM files.", exists=True, file_okay=False, resolve_path=True)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.", resolve_path=True)],
    device: Annotated[
        str, typer.Option(help='"cpu", "cuda:0", or "auto": the GPU if there is one.')
    ] = "auto",
    profile: ProfileName = "ohif",
    also: Annotated[
        list[str] | None,
        typer.Option("--with", help='A kind of object beside those of the profile: "structure-set".'),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help='A setting of the model, as a rule gives it: "least_mm=6".'),
    ] = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Run a model on a folder of DICOM files, without any network: SEG, SR and a picture come out.

    Every series that the model is made for is analysed; the others are listed with the reason.
    """
    from console.local_zone import local_zone
    from console.run import run_folder, settings_said

    run_folder(
        model,
        folder,
        out,
        device,
        _console(),
        time_zone=local_zone(os.environ.get("TZ")),
        models=_site(config, data).models_settings(),
        profile=_profile(profile, also or ()),
        settings=settings_said(settings or ()),
    )


@app.command(rich_help_panel=_RUN)
def demo(
    dicom: Annotated[
        Path | None,
        typer.Option(
            help="Send this folder instead of a phantom.", exists=True, file_okay=False, resolve_path=True
        ),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Work in this folder (new or empty). Default: a temporary one.")
    ] = None,
    profile: ProfileName = "ohif",
    model: Annotated[
        str, typer.Option(help="Which of the models that come with Wetread; each has a phantom of its own.")
    ] = "lung_ct",
) -> None:
    """Show the whole journey in about a minute: scanner, node, worker, archive, all real, all on this
    machine.
    """
    from console.demo import demo as show_demo

    show_demo(dicom, keep, _console(), profile=_profile(profile).name, model=model)


# Watch


@app.command(rich_help_panel=_WATCH)
def status(
    config: Config = None,
    data: Data = None,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and look again every second.")] = False,
    patient: Annotated[bool, typer.Option("--patient", help="Show patient names.")] = False,
    limit: Annotated[int, typer.Option(help="How many studies to list.", min=1, max=1000)] = 20,
    ping: Annotated[
        bool,
        typer.Option(
            "--ping", help="Only ask whether the ledger answers; alarms do not count, nor does the node."
        ),
    ] = False,
) -> None:
    """Counts, queues, alarms, and the latest studies. Exit code 1 while there is an alarm."""
    from console import status as looking

    site = _site(config, data)
    if ping:
        _open(site).ping()
        _console().print("the ledger answers")
    elif watch:
        with suppress(KeyboardInterrupt):  # Ctrl-C is how one stops looking.
            looking.watch(site, _open(site), _console(), limit=limit, patient=patient)
    elif not looking.print_status(
        site, _open(site), _console(), as_json=as_json, limit=limit, patient=patient
    ):
        raise typer.Exit(1)


@app.command(rich_help_panel=_WATCH)
def show(
    what: Annotated[
        str, typer.Argument(metavar="STUDY|JOB", help="Study UID, accession number, or number of a job.")
    ],
    config: Config = None,
    data: Data = None,
    as_json: AsJson = False,
    patient: Annotated[bool, typer.Option("--patient", help="Show the patient's name and id.")] = False,
) -> None:
    """The history of one study or job, with reasons; on top, in one sentence: why is there no result?"""
    from console.show import show as show_one

    site = _site(config, data)
    show_one(site, _open(site), what, _console(), as_json=as_json, patient=patient)


@app.command(rich_help_panel=_WATCH)
def worklist(
    config: Config = None,
    data: Data = None,
    limit: Annotated[int, typer.Option(help="How many workitems to list.", min=1, max=1000)] = 50,
) -> None:
    """The workitems of task managers (\\[peer.worklist]): where each stands, and why."""
    from console.worklist import print_worklist

    site = _site(config, data)
    print_worklist(site, _open(site), _console(), limit=limit)


# Decide


@app.command(rich_help_panel=_DECIDE)
def retry(
    job: Annotated[int, typer.Argument(help="Number of the job.")],
    because: Annotated[str, typer.Option(help="Goes into the history.")] = "asked for on the command line",
    config: Config = None,
    data: Data = None,
) -> None:
    """Run a parked or cancelled job again, or send again what its archive refused.

    A job that is done keeps its results: only its parked, declined and cancelled deliveries are opened again.
    """
    from console.acting import at_the_terminal
    from console.decide import retry as retry_job

    _console().print(retry_job(_open(_site(config, data)), job, because, by=at_the_terminal()))


@app.command(rich_help_panel=_DECIDE)
def cancel(
    job: Annotated[int, typer.Argument(help="Number of the job.")],
    because: Annotated[str, typer.Option(help="Goes into the history.")] = "asked for on the command line",
    config: Config = None,
    data: Data = None,
) -> None:
    """Withdraw a job, or what is not yet delivered of a job that is done. Nothing is deleted."""
    from console.acting import at_the_terminal
    from console.decide import cancel as cancel_job

    _console().print(cancel_job(_open(_site(config, data)), job, because, by=at_the_terminal()))


@app.command(rich_help_panel=_DECIDE)
def fetch(
    peer: Annotated[str, typer.Option(help="Name of a [\\[peer]] with retrieve.")],
    study: Annotated[
        str | None, typer.Option(metavar="UID", help="Fetch this study, as if it had been sent here.")
    ] = None,
    priors_of: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY", help="Fetch earlier studies of the patient of this study, which is here already."
        ),
    ] = None,
    number: Annotated[int, typer.Option(help="Of the priors: the newest so many.", min=1, max=20)] = 1,
    within_days: Annotated[int, typer.Option(help="Of the priors: no older than this.", min=1)] = 1825,
    modality: Annotated[
        list[str] | None, typer.Option(help="Of the priors: only studies with it; may be given twice.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Stay until it is here, or given up.")
    ] = True,
    config: Config = None,
    data: Data = None,
) -> None:
    """Fetch a study, or earlier studies of a patient, from a peer. The node does it; Ctrl-C stops nothing.

    A study is judged and analysed like any other. Priors are never analysed by themselves.
    """
    from console import fetch as fetching
    from console.acting import at_the_terminal
    from dicom_node.priors import Priors

    site = _site(config, data)
    ledger = _open(site)
    if (study is None) == (priors_of is None):
        raise typer.BadParameter("give either --study or --priors-of")
    if study is not None:
        asked = fetching.ask_for_study(site, ledger, peer, study, by=at_the_terminal())
    else:
        assert priors_of is not None
        wanted = Priors(peer=peer, number=number, within_days=within_days, modality=frozenset(modality or ()))
        asked = fetching.ask_for_priors(site, ledger, priors_of, wanted, by=at_the_terminal())
    if wait:
        with suppress(KeyboardInterrupt):  # Ctrl-C is how one stops looking.
            fetching.follow(ledger, asked, _console())
    else:
        _console().print(f"fetch {asked} is asked for: the node does it as soon as it runs")


# Set up


@app.command(rich_help_panel=_SET_UP)
def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("wetread.toml"),
) -> None:
    """Write a commented wetread.toml. Never overwrites one."""
    from console.init import write_settings

    write_settings(path)
    _console().print(f"{path} is written: every line says what it is for. Then: [bold]wetread serve[/]")


@app.command(rich_help_panel=_SET_UP)
def settings(config: Config = None, data: Data = None, as_json: AsJson = False) -> None:
    """The settings in force, and where each comes from. Passwords are not shown."""
    from console.effective import print_settings
    from console.settings import find_file

    path = find_file(config)
    print_settings(_site(config, data), path, _console(), as_json=as_json)


@app.command(rich_help_panel=_SET_UP)
def echo(
    peer: Annotated[
        str | None, typer.Argument(help="Name of a [\\[peer]]; without it, our own node.")
    ] = None,
    config: Config = None,
) -> None:
    """Ask a peer whether it hears us (C-ECHO), and say what is wrong if it does not."""
    from console.echo import echo as ask
    from console.pulse import echo_ourselves

    site = _site(config, None)
    heard, words = ask(site, peer) if peer else echo_ourselves(site)
    (_console() if heard else Console(stderr=True)).print(words, highlight=False)
    if not heard:
        raise typer.Exit(1)


@app.command(rich_help_panel=_SET_UP)
def doctor(
    peer: Annotated[str, typer.Argument(help="Name of a [\\[peer]].")],
    config: Config = None,
) -> None:
    """Look at a peer step by step, from its host name to what proves that it has a result. Exit code 1 where
    something is ill.

    Nothing is stored anywhere. It ends within half a minute, whatever the peer does.
    """
    from console.doctor import print_examination

    if not print_examination(_site(config, None), peer, _console()):
        raise typer.Exit(1)


@app.command(rich_help_panel=_SET_UP)
def rebuild(config: Config = None, data: Data = None) -> None:
    """Fill an empty ledger again from the images in the spool, after the database was lost."""
    from console.rebuild import rebuild as rebuild_ledger

    _journal()
    rebuild_ledger(_site(config, data), _console())


def _file(config: Path | None) -> Path | None:
    from console.settings import find_file

    return find_file(config)


def _site(config: Path | None, data: Path | None, **urls: str | None) -> "Site":
    from console.local_zone import local_zone
    from console.settings import find_file, load_site

    return load_site(find_file(config), data, time_zone=local_zone(os.environ.get("TZ")), **urls)


def _profile(name: str, also: Sequence[str] = ()) -> "Profile":
    from pydantic import ValidationError

    from dicom_node.profile_settings import ProfileSettings
    from ledger.errors import SiteError
    from ledger.profile import PROFILES

    if name not in PROFILES:
        raise SiteError(f"there is no profile {name!r}: take {', '.join(PROFILES)}")
    if not also:
        return PROFILES[name]
    try:
        return ProfileSettings.model_validate({"like": name, "with": tuple(also)}).profile
    except ValidationError as error:
        raise SiteError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def _open(site: "Site") -> "Ledger":
    from console.opening import open_ledger

    return open_ledger(site)


def _console() -> Console:
    return Console(highlight=False)


notify_app = typer.Typer(
    no_args_is_help=True, help="Who is told that a run has ended, or of alarms: \\[[notify]]."
)


@notify_app.command("test")
def notify_test(
    name: Annotated[str, typer.Argument(help="Name of a [\\[notify]].")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Send a test message about nobody, and print what the receiver answered.

    HL7 v2 says in MSH-11 that it is for training; a FHIR server keeps a report on a patient called Test.
    """
    from console.notify import test_receiver

    taken, sentence = test_receiver(_site(config, data), name)
    _console().print(sentence)
    if not taken:
        raise typer.Exit(1)


@notify_app.command("retry")
def notify_retry(
    name: Annotated[str, typer.Argument(help="Name of a [\\[notify]].")],
    because: Annotated[str, typer.Option(help="Goes into the history.")] = "asked for on the command line",
    config: Config = None,
    data: Data = None,
) -> None:
    """Send again all that the receiver refused, or that was withdrawn."""
    from console.acting import at_the_terminal
    from console.notify import retry_receiver

    ledger = _open(_site(config, data))
    _console().print(retry_receiver(ledger, name, because, by=at_the_terminal()))


app.add_typer(notify_app, name="notify", rich_help_panel=_SET_UP)
add_steering(app, _site, _open)
app.add_typer(accounts_app(_site, _open), name="account", rich_help_panel=_SET_UP)
app.add_typer(audit_app(_site, _open), name="audit", rich_help_panel=_WATCH)
app.add_typer(remote_app(), name="remote", rich_help_panel=_WATCH)
app.add_typer(models_app(_site, _open), name="models", rich_help_panel=_SET_UP)
app.add_typer(rules_app(_site, _open), name="rules", rich_help_panel=_SET_UP)
app.add_typer(viewer_app(_site), name="viewer", rich_help_panel=_SET_UP)


def _journal() -> None:
    from ledger import journal

    # Lines for people on a terminal, JSON for whatever else collects them.
    journal.configure(json=not sys.stderr.isatty())


def where_asked(arguments: list[str], *, elsewhere: bool) -> list[str]:
    """The arguments, with `remote` before a command that a console elsewhere can answer, if one is named."""
    return ["remote", *arguments] if elsewhere and arguments[:1] and arguments[0] in REMOTE else arguments


def main() -> None:
    """The console script: failures are sentences on standard error, never a traceback of our own errors."""
    if armed := os.environ.get("WETREAD_FAILPOINT"):
        from ledger.failpoint import arm

        arm(armed)
    try:
        app(args=where_asked(sys.argv[1:], elsewhere="WETREAD_CONSOLE" in os.environ))
    except SettingsRefused as refused:
        _complain(refused)
        sys.exit(2)
    except WetreadError as error:
        _complain(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _complain(error: WetreadError) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"wetread: {error}", markup=False, style="red"
    )
