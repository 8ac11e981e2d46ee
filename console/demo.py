"""The whole journey of one study on this machine: scanner → Wetread → archive, everything real.

The scanner sends over DICOM, `wetread serve` runs in its own process tree with a real Redis, and the archive
is another process. What is shown at the end was read from what the archive received. The demo succeeds only
if all of it is true.
"""

import shutil
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from console.board import Board
from console.built_in_rules import built_in, rule_for
from console.companion import Companion, companion
from console.demo_follow import STAGES, follow
from console.demo_proof import Proof, prove
from console.demo_scanner import Sendable, send, sendable
from console.settings import Site, load_site
from console.tables import findings_table
from console.tree import python
from ledger.errors import SiteError, WetreadError
from ledger.profile import DEFAULT
from ledger.store.ledger import Ledger
from models.manifest import Manifest
from models.training.own_kind import OWN_KIND, write_own_kind
from models.training.phantom_series import write_series
from models.training.phantoms import Phantom, chest

_NODE, _ARCHIVE = "WETREAD", "ARCHIVE"
_PATIENCE_S = 180.0  # Without any change. A full chest CT takes ten seconds on two cores.
_SHAPE = (200, 320, 320)
_EMPHYSEMA = 0.12  # of the lungs: so that LAA-950 has something to say

_SETTINGS = """\
# The settings of this demo. Start the same site again with: wetread serve --config {folder}/wetread.toml

[site]
name = "Wetread demo"
data = "wetread-data"

[node]
ae_title = "{node}"
port = {node_port}

[dicomweb]
port = 0             # any free one

[console]
port = 0

[closing]
quiet_s = 1.5        # shorter than for a hospital: nobody likes to wait in a demo

[spool]
reserve_bytes = 0    # a demo needs some 100 MB, whatever the disk
soft_percent = 99.0
resume_percent = 99.0
hard_percent = 99.5

[[peer]]
name = "archive"
ae_title = "{archive}"
confirm = "answer"
host = "127.0.0.1"
port = {archive_port}
profile = "{profile}"

[[rule]]
{rule}
deliver_to = ["archive"]
"""

DEMO_MODEL = "lung_ct"
_CHEST_RULE = """name = "chest CT"
model = "lung_ct"
modality = "CT"
at_least = 20
choose = "thinnest\""""

_HEADING = """
  [bold]Wetread[/] takes {what} from a scanner to the archive. Not a medical device.
"""


class NoDemo(SiteError):
    """A demo was asked for of a model that does not come with Wetread."""


class DemoFailed(WetreadError):
    """Something that the demo promises turned out not to be true."""


@dataclass(frozen=True, slots=True)
class Images:
    """What the scanner sends; `phantom` is None for a folder of somebody's own."""

    files: list[Sendable]
    phantom: Phantom | None


def demo(
    dicom: Path | None,
    keep: Path | None,
    console: Console,
    *,
    profile: str = DEFAULT.name,
    model: str = DEMO_MODEL,
) -> None:
    """Run the demo of a built-in model, with an archive of that profile. Raises `WetreadError` where any of
    it is untrue.
    """
    began = time.monotonic()
    manifest = _built_in(model)
    folder = _folder(keep)
    board = Board(console, ["images", "started", "sent", *STAGES, "re-read"])
    what = "one chest CT" if model == DEMO_MODEL else f"what {model} is for"
    console.print(_HEADING.format(what=what))
    try:
        with ExitStack() as stack:
            with board.shown():
                images = _images(dicom, folder, board, model)
                proof = _journey(
                    images,
                    folder,
                    board,
                    stack,
                    profile,
                    _CHEST_RULE if model == DEMO_MODEL else rule_for(manifest),
                )
            console.print(_ending(proof, folder, time.monotonic() - began))
    except KeyboardInterrupt:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    except WetreadError:
        console.print(
            f"\n  Everything that happened is in {folder} (serve.log, archive.log).", soft_wrap=True
        )
        raise
    if proof.complaints:
        raise DemoFailed("; ".join(proof.complaints))


def _built_in(model: str) -> Manifest:
    """Raise `NoDemo` for what does not come with Wetread: nobody here could make images for it."""
    here = {manifest.name: manifest for manifest in built_in()}
    if model not in here or model not in OWN_KIND:
        raise NoDemo(
            f"there is no demo of {model!r}: the models that come with Wetread are {', '.join(here)}"
        )
    return here[model]


def _folder(keep: Path | None) -> Path:
    if keep is None:
        # Stays when the demo ends: the archive's files and the picture are what one wants to look at.
        return Path(tempfile.mkdtemp(prefix="wetread-demo-"))
    folder = keep.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SiteError(f"{folder} is not empty: the demo wants a folder of its own")
    return folder


def _images(dicom: Path | None, folder: Path, board: Board, model: str) -> Images:
    if dicom is not None:
        board.begin("images", f"reading {dicom}")
        files = sendable(sorted(path for path in dicom.rglob("*") if path.is_file()))
        board.good("images", f"{len(files)} DICOM instances in {dicom}")
        return Images(files, None)
    board.begin("images", f"building a phantom for {model}")
    if model != DEMO_MODEL:
        files = sendable(write_own_kind(model, folder / "scanner", seed=int(time.time()) % 1000))
        count = f"{len(files)} images" if len(files) > 1 else "one image"
        board.good("images", f"{count}: a phantom of what {model} is for")
        return Images(files, None)
    # Another chest each time: nobody shall think that the answer was prepared.
    phantom = chest(_SHAPE, seed=int(time.time()) % 1_000_000, emphysema=_EMPHYSEMA)
    files = sendable(write_series(phantom, folder / "scanner", accession="DEMO-1"))
    slices, rows, columns = _SHAPE
    board.good(
        "images", f"a chest CT of {slices} slices, {rows} × {columns}: a phantom whose right answer is known"
    )
    return Images(files, phantom)


def _journey(  # noqa: PLR0917
    images: Images, folder: Path, board: Board, stack: ExitStack, profile: str, rule: str
) -> Proof:
    """From the scanner to the archive and back out of it; the processes end with `stack`."""
    site, companions = _start(folder, board, stack, profile, rule)

    def check() -> None:
        for one in companions:
            one.check()

    total = len(images.files)
    studies = {file.study for file in images.files}
    board.begin("sent", f"SCANNER → {_NODE}", 0.0)
    with closing(Ledger.open(site.ledger)) as ledger:
        scanner = ThreadPoolExecutor(1)
        sending = scanner.submit(send, images.files, port=site.node.port, called=_NODE)
        scanner.shutdown(wait=False)  # After Ctrl-C it ends when the node does.
        while wait([sending], 0.1).not_done:
            check()
            here = sum(study.instances for study in ledger.studies() if str(study.study) in studies)
            board.begin("sent", f"SCANNER → {_NODE}, {here} of {total} images", here / total)
        sending.result()
        board.good("sent", f"SCANNER → {_NODE} by C-STORE: {total} images, each answered with Success")
        end = follow(ledger, studies, total, board, check=check, patience_s=_PATIENCE_S)
    board.begin("re-read", "what the archive received")
    proof = prove(end, folder / "archive", images.phantom, images.files, folder / "overlay.png")
    if proof.complaints:
        board.bad("re-read", "; ".join(proof.complaints))
    else:
        board.good("re-read", proof.words)
    return proof


def _start(
    folder: Path, board: Board, stack: ExitStack, profile: str, rule: str
) -> tuple[Site, list[Companion]]:
    board.begin("started", "queue, node, worker and archive (importing torch takes a few seconds)")
    node_port, archive_port = free_ports(2)
    settings = folder / "wetread.toml"
    settings.write_text(
        settings_of(folder, node_port=node_port, archive_port=archive_port, profile=profile, rule=rule)
    )
    archive = python("console.demo_archive", str(folder / "archive"), str(archive_port), _ARCHIVE)
    serve = python("console", "serve", "--config", str(settings))
    companions = [
        stack.enter_context(companion("the archive", archive, folder / "archive.log", says="ready")),
        stack.enter_context(companion("wetread serve", serve, folder / "serve.log", says="is ready")),
    ]
    board.good(
        "started",
        f"wetread serve ({_NODE}, port {node_port}) and an archive ({_ARCHIVE}, port {archive_port})",
    )
    return load_site(settings), companions


def settings_of(folder: Path, *, node_port: int, archive_port: int, profile: str, rule: str) -> str:
    """The settings of the demo's site, with the lines of its one rule."""
    return _SETTINGS.format(
        folder=folder,
        node=_NODE,
        node_port=node_port,
        archive=_ARCHIVE,
        archive_port=archive_port,
        profile=profile,
        rule=rule,
    )


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _ending(proof: Proof, folder: Path, took_s: float) -> Group:
    places = Table.grid(padding=(0, 2))
    places.add_row("What the archive received", Text(str(folder / "archive"), "bold"))
    if proof.picture is not None:
        places.add_row("The picture", Text(str(proof.picture), "bold"))
    places.add_row("The whole history", f"wetread show --config {folder}/wetread.toml {proof.study}")
    verdict = Text(f"✘ Not everything is true, after {took_s:.0f} s.", "bold red")
    if not proof.complaints:
        verdict = Text(f"✔ All of it is true. {took_s:.0f} s in all.", "bold green")
    return Group(
        Text("\n  What the report says, as the archive received it\n", "bold cyan"),
        Padding(findings_table(proof.values, proof.truths), (0, 4)),
        *(Text(f"    {sentence}", "yellow") for sentence in proof.sentences),
        Padding(places, (1, 4)),
        Padding(verdict, (0, 4, 1, 4)),
    )
