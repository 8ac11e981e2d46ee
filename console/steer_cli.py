# Commands import what they need when they run, and Typer wants their options as plain arguments:
# ruff: noqa: PLC0415, PLR0917
"""`wetread queue`, and what is decided about it and about studies: `pause`, `front`, `again`, `release` …"""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from console.options import Because, Config, Data, OpenLedger, OpenSite
from ledger.pause import PauseKind

if TYPE_CHECKING:
    from ledger.store.ledger import Ledger
    from ledger.study import StudyRecord


Job = Annotated[int, typer.Argument(help="Number of the job.")]
Study = Annotated[str, typer.Argument(metavar="STUDY", help="Study UID or accession number.")]
Kind = Annotated[PauseKind, typer.Argument(help="What: a model, a worker or a peer.")]
Name = Annotated[
    str,
    typer.Argument(
        help="A model, with or without @version; a worker or its host, as `wetread status` names it; a peer."
    ),
]
_ASKED = "asked for on the command line"
_WATCH, _DECIDE = "Watch", "Decide"


def add_steering(app: typer.Typer, open_site: OpenSite, open_ledger: OpenLedger) -> None:
    """Add the commands to `app`."""
    _looking(app, open_site, open_ledger)
    _ordering(app, open_site, open_ledger)
    _pausing(app, open_site, open_ledger)
    _asking(app, open_site, open_ledger)
    _deciding(app, open_site, open_ledger)


def _looking(app: typer.Typer, open_site: OpenSite, open_ledger: OpenLedger) -> None:
    @app.command(rich_help_panel=_WATCH)
    def queue(
        limit: Annotated[int, typer.Option(help="How many jobs to list.", min=1, max=5000)] = 50,
        config: Config = None,
        data: Data = None,
    ) -> None:
        """What runs and what waits, in its order, with the time that is promised."""
        from console.queue_table import print_queue

        site = open_site(config, data)
        print_queue(open_ledger(site), Console(highlight=False), limit)


def _ordering(app: typer.Typer, open_site: OpenSite, open_ledger: OpenLedger) -> None:
    @app.command(rich_help_panel=_DECIDE)
    def front(
        job: Job,
        after: Annotated[
            int | None, typer.Option(metavar="JOB", help="Behind this one, instead of first.")
        ] = None,
        because: Because = _ASKED,
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Move a waiting job to the front of its lane, or behind another: workers take it in that order."""
        from console import steer
        from console.acting import at_the_terminal

        ledger = open_ledger(open_site(config, data))
        _say(steer.move(ledger, job, after, by=at_the_terminal(), because=because))

    @app.command(rich_help_panel=_DECIDE)
    def stat(
        what: Annotated[
            str, typer.Argument(metavar="STUDY|JOB", help="Study UID, accession number, or number of a job.")
        ],
        routine: Annotated[bool, typer.Option("--routine", help="The other way round.")] = False,
        because: Because = _ASKED,
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Make a job urgent; or a study, with all that waits of it and all that will be opened for it."""
        from console import steer
        from console.acting import at_the_terminal
        from console.show import NotFound
        from ledger.job import JobRecord, Priority

        ledger = open_ledger(open_site(config, data))
        found = ledger.find(what)
        if found is None:
            raise NotFound(f"the ledger knows no study and no job {what!r}")
        priority = Priority.ROUTINE if routine else Priority.STAT
        change = steer.set_job_priority if isinstance(found, JobRecord) else steer.set_study_priority
        _say(change(ledger, found.id, priority, by=at_the_terminal(), because=because))


def _pausing(app: typer.Typer, open_site: OpenSite, open_ledger: OpenLedger) -> None:
    @app.command(rich_help_panel=_DECIDE)
    def pause(
        kind: Kind, name: Name, because: Because = _ASKED, config: Config = None, data: Data = None
    ) -> None:
        """Hold a model, a worker or a destination still: what waits keeps its place, and nothing is lost."""
        from console import steer
        from console.acting import at_the_terminal

        ledger = open_ledger(open_site(config, data))
        _say(steer.pause(ledger, kind, name, by=at_the_terminal(), because=because))

    @app.command(rich_help_panel=_DECIDE)
    def resume(
        kind: Kind, name: Name, because: Because = _ASKED, config: Config = None, data: Data = None
    ) -> None:
        """Let what was paused go on, at once."""
        from console import steer
        from console.acting import at_the_terminal

        ledger = open_ledger(open_site(config, data))
        _say(steer.resume(ledger, kind, name, by=at_the_terminal(), because=because))


def _asking(app: typer.Typer, open_site: OpenSite, open_ledger: OpenLedger) -> None:
    @app.command(rich_help_panel=_DECIDE)
    def again(job: Job, because: Because = _ASKED, config: Config = None, data: Data = None) -> None:
        """Run a job again: of one that is done, a new run whose results take the place of the first ones."""
        from console import steer
        from console.acting import at_the_terminal

        ledger = open_ledger(open_site(config, data))
        _say(steer.run_again(ledger, job, by=at_the_terminal(), because=because))

    @app.command(rich_help_panel=_DECIDE)
    def ask(
        model: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="As `wetread models` lists it.")],
        study: Study,
        series: Annotated[str, typer.Option(metavar="UID", help="Series Instance UID.")],
        to: Annotated[
            list[str] | None,
            typer.Option(
                metavar="PEER", help="Where its results go; without it, nowhere. May be given twice."
            ),
        ] = None,
        because: Because = _ASKED,
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Run a model on a series of a closed study, whatever the rules say."""
        from console import steer
        from console.acting import at_the_terminal
        from console.show import NotFound

        site = open_site(config, data)
        ledger = open_ledger(site)
        found = _study(ledger, study)
        one = next((each for each in ledger.series_of(found.id) if str(each.series) == series.strip()), None)
        if one is None:
            raise NotFound(f"the study has no series {series!r} with images")
        who = at_the_terminal()
        _say(
            steer.run_model(
                site, ledger, found.id, one.id, model=model, destinations=to or (), by=who, because=because
            )
        )

    @app.command(rich_help_panel=_DECIDE)
    def deliver(
        job: Job,
        to: Annotated[
            str | None, typer.Option(metavar="PEER", help="To this one as well, instead of again.")
        ] = None,
        like: Annotated[
            str | None,
            typer.Option(metavar="PEER", help="With --to: in the form that this destination gets."),
        ] = None,
        because: Because = _ASKED,
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Send the results of a job again, the same bytes; or to another peer as well."""
        from console import steer
        from console.acting import at_the_terminal

        site = open_site(config, data)
        ledger, who = open_ledger(site), at_the_terminal()
        if to is None:
            _say(steer.deliver_all_again(ledger, job, by=who, because=because))
        else:
            _say(steer.deliver_to(site, ledger, job, to, like=like, by=who, because=because))


def _deciding(app: typer.Typer, open_site: OpenSite, open_ledger: OpenLedger) -> None:
    @app.command("force-complete", rich_help_panel=_DECIDE)
    def force_complete(
        study: Study, because: Because = _ASKED, config: Config = None, data: Data = None
    ) -> None:
        """Have the node close an open study now, and route what is here. A late image opens it again."""
        from console import steer
        from console.acting import at_the_terminal

        ledger = open_ledger(open_site(config, data))
        found = _study(ledger, study)
        _say(steer.close(ledger, found.id, by=at_the_terminal(), because=because))

    @app.command(rich_help_panel=_DECIDE)
    def release(
        number: Annotated[int, typer.Argument(help="As `wetread show quarantine` lists it.")],
        delete: Annotated[bool, typer.Option("--delete", help="Have the file deleted instead.")] = False,
        because: Because = _ASKED,
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Have the node take in a file from quarantine, if its checks pass now."""
        from console import steer
        from console.acting import at_the_terminal

        ledger = open_ledger(open_site(config, data))
        decide = steer.discard if delete else steer.release
        _say(decide(ledger, number, by=at_the_terminal(), because=because))


def _study(ledger: "Ledger", what: str) -> "StudyRecord":
    """Raises `NotFound`."""
    from console.show import NotFound
    from ledger.study import StudyRecord

    found = ledger.find(what)
    if not isinstance(found, StudyRecord):
        raise NotFound(f"the ledger knows no study {what!r}; give its UID or an accession number")
    return found


def _say(sentence: str) -> None:
    Console(highlight=False).print(sentence, markup=False)
