"""A model on a folder, without any network: SEG, SR and a picture of every series that the model is made for.

It is the same path as a worker's (load, model, encode, check), in this process. There are no rules here: what
is an image of the model's modality is tried, as its manifest says that it is given, and loader and model give
their own reasons.
"""

import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from console.folder import look_into
from console.folder_runs import FolderRun, NotTaken, runs_of
from console.reading import read_report
from console.tables import findings_table, timings
from ledger.errors import SiteError, StudyError, WetreadError
from ledger.job import Outcome
from ledger.profile import DEFAULT, Profile
from ledger.result import Role
from models.manifest import Manifest
from models.registry import open_model
from models.settings import BUILT_IN_ONLY, ModelsSettings
from results.picture import CannotDraw, overlay
from worker.exchange import Plan, RunReply, RunRequest
from worker.residents import Residents, device_named
from worker.run import analyse

_STAGES = ("load", "open", "model", "encode", "check")


Setting = str | int | float | bool
NO_SETTINGS: Mapping[str, Setting] = MappingProxyType({})


class NothingAnalysed(StudyError):
    """No series of the folder has findings; why is said for each."""


def settings_said(said: Sequence[str]) -> dict[str, Setting]:
    """Each `name=value` as a rule would hold it: the value as TOML reads it, other words as text.

    Raises `SiteError`.
    """
    settings: dict[str, Setting] = {}
    for one in said:
        name, equals, text = (part.strip() for part in one.partition("="))
        if not equals or not name:
            raise SiteError(f"{one!r} sets nothing: write name=value, as in least_mm=6")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        settings[name] = value if isinstance(value, str | int | float | bool) else text
    return settings


def run_folder(
    model: str,
    folder: Path,
    out: Path,
    device: str,
    console: Console,
    *,
    time_zone: str = "UTC",
    models: ModelsSettings = BUILT_IN_ONLY,
    profile: Profile = DEFAULT,
    settings: Mapping[str, Setting] = NO_SETTINGS,
) -> None:
    """Analyse every suitable series below `folder` into `out`, with `settings` as a rule would give them.
    Raises `NothingAnalysed` and other `WetreadError`.

    The results, those of `profile`, tell their times in `time_zone` where the images do not say theirs.
    """
    # Whoever types a command may run code here; what is installed has to be trusted all the same.
    manifest = open_model(model, settings=models, allow_python=True).manifest
    residents = Residents(device=device_named(device))
    runs, left, set_aside = _choose(manifest, folder, console)
    _say_what_is_not_taken(left, set_aside, console)
    if not runs:
        raise NothingAnalysed(f"no series in {folder} is one for {manifest.name}")
    found = 0
    for run in runs:
        place = _make(out if len(runs) == 1 else out / run.folder)
        console.print(
            Text.assemble(
                ("  ", ""), (run.title, "bold"), (f"  {run.images} image{'s'[: run.images > 1]}", "dim")
            )
        )
        try:
            with _progress(console) as enter:
                reply = analyse(
                    _request(model, run, place, device, time_zone, models, profile, settings),
                    residents=residents,
                    enter=enter,
                )
        except WetreadError as error:
            console.print(Text(f"    ✘ {error}\n", "red"))
            continue
        found += reply.outcome is not Outcome.REFUSED
        _show(reply, run, place, console)
    if not found:
        raise NothingAnalysed(f"{manifest.name} analysed no series of {folder}")


def _choose(
    manifest: Manifest, folder: Path, console: Console
) -> tuple[list[FolderRun], list[NotTaken], list[str]]:
    with Progress(TextColumn("  reading headers"), BarColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        found = look_into(folder, lambda done, total: progress.update(task, completed=done, total=total))
    runs, left = runs_of(manifest, found.series)
    return runs, left, found.set_aside()


def _say_what_is_not_taken(left: list[NotTaken], set_aside: list[str], console: Console) -> None:
    for one in left:
        console.print(Text.assemble(("  – ", "dim"), one.title, (f": {one.because}", "yellow")))
    for words in set_aside:
        console.print(Text(f"  – {words}", "yellow"))
    console.print()


def _request(  # noqa: PLR0917
    model: str,
    run: FolderRun,
    place: Path,
    device: str,
    time_zone: str,
    models: ModelsSettings,
    profile: Profile,
    settings: Mapping[str, Setting],
) -> RunRequest:
    return RunRequest(
        **dict(run.files),
        model=model,
        settings=settings,
        out=str(place),
        at=time.time(),
        time_zone=time_zone,
        device=device,
        allow_python_models=True,
        models=models,
        plans=(Plan(profile=profile),),
    )


@contextmanager
def _progress(console: Console) -> Iterator[Callable[..., None]]:
    columns = (
        TextColumn("   "),
        SpinnerColumn(),
        TextColumn("{task.description:<8}"),
        BarColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("load", total=len(_STAGES))

        def enter(stage: str, _limit_s: float | None = None) -> None:
            progress.update(task, description=stage, completed=_STAGES.index(stage))

        yield enter


def _show(reply: RunReply, run: FolderRun, place: Path, console: Console) -> None:
    if reply.outcome is Outcome.FOUND:
        report = next(Path(file.path) for file in reply.files if file.role is Role.REPORT)
        # From the report as it was written: what a reader of the file will see.
        for line in reply.lines:
            console.print(Text(f"    {line}"))
        if values := read_report(report).values:
            console.print(Padding(findings_table(values), (0, 4)))
    else:
        console.print(Text(f"    {reply.outcome}: {reply.because}", "yellow"))
    for caution in reply.cautions:
        console.print(Text(f"    ! {caution}", "yellow"))
    written = [Path(file.path) for file in reply.files]
    segmentation = next((Path(file.path) for file in reply.files if file.role is Role.SEGMENTATION), None)
    if segmentation is not None:
        try:
            picture = overlay(run.reference, segmentation)
        except CannotDraw as error:  # The objects are made and checked; it is only their picture.
            console.print(Text(f"    – no picture: {error}", "dim"))
        else:
            written.append(place / "overlay.png")
            written[-1].write_bytes(picture)
    console.print(Text(f"    {timings(reply.timings)}", "dim"))
    for path in written:
        console.print(f"    {path}", soft_wrap=True)
    console.print()


def _make(place: Path) -> Path:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SiteError(f"{place} cannot be made: {error.strerror}") from error
    return place
