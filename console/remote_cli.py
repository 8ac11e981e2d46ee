# Commands import what they need when they run, and Typer wants their options as plain arguments:
# ruff: noqa: PLC0415
"""`wetread remote`: the same questions and decisions as here, asked of a console elsewhere over its API.

Which console is told once, in WETREAD_CONSOLE and WETREAD_TOKEN_FILE, or by options before the command.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ledger.pause import PauseKind

#: What a console elsewhere can do for a command of this name: with WETREAD_CONSOLE it is asked.
REMOTE = frozenset({"status", "show", "queue", "retry", "cancel", "front", "stat", "pause", "resume"})
_ASKED = "asked for on the command line"
Because = Annotated[str, typer.Option(help="Goes into the history and the audit.")]
AsJson = Annotated[bool, typer.Option("--json", help="As the API says it.")]
Job = Annotated[int, typer.Argument(help="Number of the job.", min=1)]


def remote_app() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(no_args_is_help=True, help="Ask a console elsewhere, over its API.")

    @app.callback()
    def which(
        context: typer.Context,
        console: Annotated[
            str | None, typer.Option(envvar="WETREAD_CONSOLE", help="https://host of the console.")
        ] = None,
        token_file: Annotated[
            Path | None,
            typer.Option(envvar="WETREAD_TOKEN_FILE", help="File with a token of its accounts page."),
        ] = None,
        ca_file: Annotated[
            Path | None, typer.Option(envvar="WETREAD_CA_FILE", help="Who vouches for its certificate (PEM).")
        ] = None,
    ) -> None:
        """Ask a console elsewhere, over its API: nothing of the site has to be on this machine."""
        from console.remote import Remote

        context.obj = lambda: Remote.of(console, token_file, ca_file)

    _looking(app)
    _deciding(app)
    return app


def _looking(app: typer.Typer) -> None:
    @app.command()
    def status(context: typer.Context, as_json: AsJson = False) -> None:
        """Alarms, what is unfinished, and the latest studies. Exit code 1 while an alarm is urgent."""
        found = context.obj().get("/now")
        if as_json:
            _print_json(found)
        else:
            _status(found)
        if any(alarm["urgent"] for alarm in found["alarms"]):
            raise typer.Exit(1)

    @app.command()
    def studies(
        context: typer.Context,
        text: Annotated[str, typer.Argument(help="Accession number, UID, patient or description.")] = "",
        state: Annotated[str, typer.Option(help="open, closed, purged, queued, running or parked.")] = "",
        limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
        as_json: AsJson = False,
    ) -> None:
        """Look for studies."""
        found = context.obj().get("/studies", text=text, state=state, limit=limit)
        if as_json:
            _print_json(found)
        else:
            _studies(found["studies"])

    @app.command()
    def show(
        context: typer.Context,
        what: Annotated[str, typer.Argument(metavar="STUDY|JOB", help="UID, accession number, or job.")],
        as_json: AsJson = False,
    ) -> None:
        """Why is there no result? One sentence, and where each job stands."""
        found = context.obj().get("/why", what=what)
        if as_json:
            _print_json(found)
            return
        out = Console(highlight=False)
        out.print(found["why"], style="bold", markup=False)
        for one in found["jobs"]:
            job = one["job"]
            because = f": {job['because']}" if job["because"] else ""
            out.print(f"  job {job['id']}  {job['model']}  {job['state']}{because}", markup=False)

    @app.command()
    def queue(context: typer.Context, as_json: AsJson = False) -> None:
        """What runs and what waits."""
        found = context.obj().get("/queue")
        if as_json:
            _print_json(found)
        else:
            _queue(found)


def _deciding(app: typer.Typer) -> None:
    @app.command()
    def retry(context: typer.Context, job: Job, because: Because = _ASKED) -> None:
        """Run a job again."""
        found = context.obj().post(f"/jobs/{job}/again", {"because": because})
        _say(f"Job {found['job']} is queued.")

    @app.command()
    def cancel(context: typer.Context, job: Job, because: Because = _ASKED) -> None:
        """Withdraw a job."""
        context.obj().post(f"/jobs/{job}/cancel", {"because": because})
        _say(f"Job {job} is cancelled.")

    @app.command()
    def front(
        context: typer.Context,
        job: Job,
        after: Annotated[int | None, typer.Option(metavar="JOB", help="Behind this one.", min=1)] = None,
        because: Because = _ASKED,
    ) -> None:
        """Move a waiting job to the front of its lane."""
        context.obj().post("/queue/move", {"job": job, "after": after, "because": because})
        _say(f"Job {job} stands {'first' if after is None else f'behind job {after}'}.")

    @app.command()
    def stat(context: typer.Context, job: Job, because: Because = _ASKED) -> None:
        """Make a waiting job urgent."""
        context.obj().post(f"/jobs/{job}/priority", {"priority": "stat", "because": because})
        _say(f"Job {job} is urgent.")

    @app.command()
    def pause(context: typer.Context, kind: PauseKind, name: str, because: Because = _ASKED) -> None:
        """Hold a model, a worker or a peer still."""
        context.obj().post("/queue/pause", {"kind": kind, "name": name, "because": because})
        _say(f"{kind} {name} is paused.")

    @app.command()
    def resume(context: typer.Context, kind: PauseKind, name: str, because: Because = _ASKED) -> None:
        """Let it go on."""
        context.obj().post("/queue/resume", {"kind": kind, "name": name, "because": because})
        _say(f"{kind} {name} goes on.")


def _status(found: dict[str, Any]) -> None:
    out = Console(highlight=False)
    for alarm in found["alarms"]:
        out.print(f"  ● {alarm['words']}", style="bold red" if alarm["urgent"] else "yellow", markup=False)
    if not found["alarms"]:
        out.print("  ✔ nothing needs attention", style="green")
    present = found["present"]
    jobs = ", ".join(f"{number} {state}" for state, number in present["jobs"].items())
    sent = ", ".join(f"{number} {state}" for state, number in present["deliveries"].items())
    out.print(f"\n  {present['open_studies']} studies open; jobs: {jobs}; deliveries: {sent}\n", markup=False)
    _studies([*found["receiving"], *found["latest"]])


def _studies(rows: list[dict[str, Any]]) -> None:
    from console.tables import clock_time, plain_table, state

    if not rows:
        Console(highlight=False).print("  no study fits", style="dim")
        return
    table = plain_table("Last image", "Study", "From", "Images", "State", "Where it stands")
    now = max(row["arrived_at"] for row in rows)
    for row in rows:
        name = row["accession"] or f"…{row['study'][-10:]}"
        at = clock_time(row["arrived_at"], now)
        table.add_row(at, name, row["calling"], str(row["instances"]), state(row["state"]), row["where"])
    Console(highlight=False).print(table)


def _queue(found: dict[str, Any]) -> None:
    from console.tables import plain_table

    table = plain_table("Lane", "Job", "Model", "Study")
    for lane in ("running", "stat", "routine"):
        for one in found[lane]:
            table.add_row(lane, str(one["job"]), one["model"], one["accession"] or one["study_uid"])
    Console(highlight=False).print(table)
    for one in found["pauses"]:
        Console(highlight=False).print(f"  paused: {one['kind']} {one['name']}", style="yellow", markup=False)


def _print_json(found: object) -> None:
    Console(highlight=False).print_json(json.dumps(found))


def _say(words: str) -> None:
    Console(highlight=False).print(words, markup=False)
