"""Everything on one machine, in one process tree: queue, node, compute, deliver, dispatch.

`wetread node` and `wetread worker` are the same tree with fewer parts, for sites where they live on several
hosts.
"""

import fcntl
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from console.accounts import first_account, first_words
from console.alarms import disk_alarms, disk_under
from console.pulse import LOOK_S, echo_ourselves
from console.redis import queue_url, redis_part, socket_path
from console.rule_checks import check_models, check_names, told_site
from console.rule_pages import in_words
from console.settings import Site
from console.telemetry.installed import check_telemetry
from console.tree import Part, Tree, python
from console.web.settings import ConsoleSettings
from console.web.site import ConsoleSite
from ledger.errors import SiteError
from ledger.store.ledger import Ledger

WORKER_ROLES = ("compute", "deliver", "dispatch")


class AlreadyServed(SiteError):
    """Another process works on this data folder."""


def serve(site: Site, file: Path | None, console: Console) -> None:
    """Run the whole site until SIGTERM or Ctrl-C. `file` is where its settings stand.

    Raises `SiteError` where it cannot.
    """
    told = told_site(site)
    check_names(told)
    check_models(told)
    check_words(told)
    check_telemetry(site.telemetry)
    with ExitStack() as stack:
        stack.enter_context(only_one(site.data))
        with closing(Ledger.open(site.ledger)) as ledger:
            # Creates or migrates it once, before five processes want to; a wrong URL is told here.
            password = first_account(ledger) if site.console.enabled else None
        foundations: list[Part] = []
        if site.queue is None:
            folder = site.data / "redis"
            path = stack.enter_context(socket_path(folder))
            foundations = [redis_part(folder, path)]
            site = site.with_queue(queue_url(path))
        parts = [*foundations, *node_parts(site), *worker_parts(site, WORKER_ROLES)]
        parts += console_parts(site, file)
        _run(
            parts,
            console,
            lambda words: greeting(
                told,
                port_of(site, words),
                web_of(site, words),
                console_address(site.console, words),
                password=password,
            ),
        )


def serve_node(site: Site, console: Console) -> None:
    """Run the node alone. Raises `SiteError` where it cannot."""
    check_names(told_site(site))
    with only_one(site.data):
        _run(node_parts(site), console, lambda words: tell_the_pacs(site, port_of(site, words)))


def serve_worker(site: Site, roles: Sequence[str], console: Console) -> None:
    """Run some of compute, deliver and dispatch. Raises `SiteError` where it cannot."""
    if "compute" in roles:
        told = told_site(site)
        check_names(told)
        check_models(told)
    if "dispatch" in roles:
        check_words(site)
    parts = worker_parts(site, roles)
    _run(parts, console, lambda _words: Text(f"  Working: {', '.join(roles)}.  Stop with Ctrl-C.\n"))


def serve_console(site: Site, file: Path | None, console: Console) -> None:
    """Run the console alone. Raises `SiteError` where it cannot."""
    site = site.model_copy(update={"console": site.console.model_copy(update={"enabled": True})})
    with closing(Ledger.open(site.ledger)) as ledger:
        password = first_account(ledger)
    _run(
        console_parts(site, file),
        console,
        lambda words: Group(
            Text(f"  The console is at {console_address(site.console, words)}  Stop with Ctrl-C.\n"),
            *([first_words(password)] if password is not None else []),
        ),
    )


def _run(
    parts: Sequence[Part], console: Console, words: Callable[[Mapping[str, str]], "Group | Panel | Text"]
) -> None:
    Tree(
        parts,
        on_ready=lambda ready: console.print(words(ready)),
        on_stopping=lambda: console.print(
            "\n  Stopping: work in progress is finished or given back. At most 30 s.\n"
        ),
    ).run()


def node_part(site: Site) -> Part:
    """The node."""
    return Part(
        name="node",
        command=python("dicom_node"),
        stdin=site.node_site().model_dump_json(),
        pulse=lambda words: echo_ourselves(site, LOOK_S, port_of(site, {"node": words}))[0],
        waits_for="its ledger, and every file of the spool to be compared with it",
    )


def node_parts(site: Site) -> list[Part]:
    """The node, and where the site wants it, its DICOMweb server: apart, so that no web client slows it."""
    parts = [node_part(site)]
    if site.dicomweb.enabled:
        settings = site.web_site().model_dump_json()
        parts.append(Part(name="dicomweb", command=python("dicom_node.dicomweb"), stdin=settings))
    return parts


def console_parts(site: Site, file: Path | None) -> list[Part]:
    """The console, where the site wants it. Keys of licences are none of its business."""
    if not site.console.enabled:
        return []
    told = ConsoleSite(site=site, file=file)
    settings = told.model_dump_json(by_alias=True, exclude={"site": {"models": {"licence_keys"}}})
    return [Part(name="console", command=python("console.web"), stdin=settings)]


def worker_parts(site: Site, roles: Sequence[str]) -> list[Part]:
    """One process (group) for each of `roles`."""
    settings = site.worker_site().model_dump_json()
    form = "text" if sys.stderr.isatty() else "json"
    return [
        Part(
            name=role,
            command=python("worker", role, "--log", form),
            stdin=settings,
            waits_for="the ledger and the queue to answer",
        )
        for role in roles
    ]


def check_words(site: Site) -> None:
    """Raise `TemplateUnusable` where a message of a webhook or a mail could not be made: now, not some
    night.
    """
    if any(one.tells_text for one in site.receivers):
        from worker.words import check_templates  # noqa: PLC0415  `wetread status` need not wait for it.

        check_templates(site.receivers, datetime.now(UTC))


@contextmanager
def only_one(data: Path) -> Iterator[None]:
    """Hold the data folder for this process. Raises `AlreadyServed`.

    The kernel gives the lock back however the process ends, so there is no stale lock to remove by hand.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(data / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SiteError(f"the data folder {data} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 32).decode(errors="replace").strip() or "unknown"
            raise AlreadyServed(
                f"process {holder} already serves the data folder {data}; only one may"
            ) from None
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(file)


def port_of(site: Site, words: Mapping[str, str]) -> int:
    """The port that the node listens on, by its own words: with port = 0 only it knows."""
    said = words.get("node", "").split()
    return int(said[-1]) if said and said[-1].isdigit() else site.node.port


def web_of(site: Site, words: Mapping[str, str]) -> str:
    """Where viewers find the studies; "" where DICOMweb is switched off."""
    said = words.get("dicomweb", "").split()
    if not said:
        return ""
    host = f"[{site.dicomweb.host}]" if ":" in site.dicomweb.host else site.dicomweb.host
    return site.dicomweb.public_url or f"{site.dicomweb.scheme}://{host}:{said[-1]}/dicom-web"


def console_address(settings: ConsoleSettings, words: Mapping[str, str]) -> str:
    """Where operators open the console; "" where it is switched off."""
    said = words.get("console", "").split()
    if not said:
        return ""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    scheme = "http" if settings.tls is None else "https"
    return settings.public_url or f"{scheme}://{host}:{said[-1]}"


def greeting(
    site: Site, port: int, web: str = "", console: str = "", *, password: str | None = None
) -> Group:
    """What the operator needs in the first minute: what to tell the PACS, what will happen, what to do
    next.
    """
    rules = Table.grid(padding=(0, 2))
    for rule in site.rules:
        where = ", ".join(rule.deliver_to) or "stays here (no destination)"
        rules.add_row(Text(rule.name, "bold"), Text(f"{in_words(rule)}  →  {rule.model}  →  {where}"))
    if not site.rules:
        rules.add_row(Text("There is no rule: studies are received and nothing is analysed.", style="yellow"))
    hints = Table.grid(padding=(0, 2))
    if not any(rule.deliver_to for rule in site.rules):
        hints.add_row(
            "Send results on",
            Text("`wetread init` writes wetread.toml: add a [[peer]], name it in deliver_to"),
        )
    if console:
        hints.add_row("Open the console", Text(console, "bold"))
    if web:
        hints.add_row("For viewers", Text(f"DICOMweb at {web}"))
    hints.add_row("Watch", "wetread status --watch")
    hints.add_row("Where it is kept", str(site.data))
    hints.add_row("Stop", "Ctrl-C (nothing is lost)")
    return Group(
        tell_the_pacs(site, port),
        *(
            Text(f"  ● {alarm.words}\n", "bold red" if alarm.urgent else "yellow")
            for alarm in disk_alarms(disk_under(site.spool), site.spool)
        ),
        Text("  What will happen", style="bold cyan"),
        Padding(rules, (0, 0, 1, 4)),
        Text("  Good to know", style="bold cyan"),
        Padding(hints, (0, 0, 1, 4)),
        *([first_words(password)] if password is not None else []),
    )


def tell_the_pacs(site: Site, port: int) -> Panel:
    """The three values that every DICOM configuration page asks for."""
    host = site.node.host
    local = host in ("127.0.0.1", "localhost", "::1")
    shown = host if host not in ("0.0.0.0", "::") else socket.gethostname()  # noqa: S104  Compared, not bound.
    table = Table.grid(padding=(0, 3))
    table.add_row("AE title", Text(site.node.ae_title, style="bold"))
    table.add_row("Host", Text(shown, style="bold"))
    tls = site.node.tls
    if tls is None or tls.plain:
        table.add_row("Port", Text(str(port), style="bold"))
    if tls is not None:
        table.add_row("Port for TLS", Text(str(tls.port), style="bold"))
    note = (
        Text(
            '\nOnly this machine can reach it. For others: host = "0.0.0.0" under [node] in wetread.toml.',
            "yellow",
        )
        if local
        else Text(
            "\nReachable from the network. DICOM has no passwords: see callers and [[peer]] addresses.", "dim"
        )
    )
    title = f"[bold]{site.site.name}[/] is ready. Tell the PACS or the scanner"
    return Panel(
        Group(table, note), title=title, title_align="left", border_style="cyan", padding=(1, 2), expand=False
    )
