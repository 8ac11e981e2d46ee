"""OHIF's built files made ready to be served below /viewer/: moved, thinned out, and packed for the way.

Its makers build it for the root of a server of its own. Three kinds of places in the files say so, and each
is changed here; its own page is replaced by one without scripts in the text, so that browsers can be told to
run none. What only helps developers, and what would load from elsewhere, is left out.
"""

import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from html.parser import HTMLParser
from pathlib import Path

from ledger.errors import SiteError

BASE = "/viewer/"
INDEX = "installed.json"
FILES = "files"

#: Not for here: source maps, service workers, sign-in at other companies, and networks of 100 MB that segment
#: by clicking and load their weights from elsewhere.
_LEFT_OUT = re.compile(
    r"(\.map|\.html|/package\.json)$|^(ort|customizations)/|"
    r"^(sw|init-service-worker|google|oidc-client\.min|app-config|es6-shim\.min|polyfill\.min)\.js$|"
    r"^(_headers|_redirects|serve\.json|manifest\.json)$|apple-touch-startup"
)
_TYPES = {
    ".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm", ".json": "application/json",
    ".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon", ".woff2": "font/woff2",
    ".xml": "application/xml", ".webapp": "application/json",
}  # fmt: skip
_SHRINK = {".js", ".css", ".wasm", ".json", ".svg"}
#: What webpack puts before the name of every file that it loads later.
_PUBLIC_PATH = re.compile(rb'(?<=\.p)(\s*=\s*)"/"(?=\s*[;,}])')
_OTHER_PATHS = re.compile(rb"""(browserImportFunction\(['"])/(?=[a-z])""")
_IN_STYLES = re.compile(rb"url\(/(?=[A-Za-z0-9])")
#: Their names change with their content.
_HASHED = re.compile(r"(^|[./])[0-9a-f]{16}\.(js|wasm|woff2)$")


class NotAViewer(SiteError):
    """The archive is not built as OHIF is, so it cannot be served from here."""


@dataclass(frozen=True, slots=True)
class Settled:
    """One file as it is served."""

    type: str  #: media type
    size: int
    packed: int  #: bytes of the gzipped form beside it; 0: there is none
    etag: str
    immutable: bool  #: its name changes with its content


@dataclass(frozen=True, slots=True)
class Index:
    """What is installed, as it is written down beside the files."""

    version: str
    sha512: str
    scripts: tuple[str, ...]  #: of the page, in their order
    styles: tuple[str, ...]
    files: Mapping[str, Settled]  #: by path below /viewer/

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(one.size + one.packed for one in self.files.values())


def settle(package: Path, into: Path, *, version: str, sha512: str) -> Index:
    """Write the files of an unpacked npm package into the folder `into`, with their index. Raises
    `NotAViewer`.
    """
    built = package / "dist"
    _check(package, built, version)
    scripts, styles = _page(built)
    (into / FILES).mkdir()
    files = dict(_written(built, into / FILES))
    if missing := [name for name in (*scripts, *styles) if name not in files]:
        raise NotAViewer(f"the page of this OHIF names {missing[0]}, which is not in the archive")
    if not any(_moved(into / FILES / name) for name in files if name.endswith(".js")):
        raise NotAViewer(
            f"OHIF {version} does not say in a way that is known here where its files lie: it cannot be "
            f"moved to {BASE}"
        )
    # Its licence asks for this, wherever a copy goes.
    (into / "LICENSE").write_bytes((package / "LICENSE").read_bytes())
    index = Index(version, sha512, scripts, styles, files)
    (into / INDEX).write_text(json.dumps(asdict(index), indent=1), encoding="utf-8")
    return index


def read_index(folder: Path) -> Index:
    """The index that `settle` wrote. Raises `NotAViewer` where it is not there or not whole."""
    try:
        told = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        files = {name: Settled(**one) for name, one in told["files"].items()}
        return Index(told["version"], told["sha512"], tuple(told["scripts"]), tuple(told["styles"]), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotAViewer(
            f"the viewer in {folder} is not whole any more: `wetread viewer install` again"
        ) from error


def _check(package: Path, built: Path, version: str) -> None:
    """Raise `NotAViewer` unless this is OHIF, in this version, under its licence."""
    try:
        facts = json.loads((package / "package.json").read_text(encoding="utf-8"))
        licence = (package / "LICENSE").read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise NotAViewer("the archive has no package.json or no LICENSE: it is not OHIF's") from error
    if not isinstance(facts, dict) or facts.get("name") != "@ohif/app" or facts.get("version") != version:
        name = f"{facts.get('name')} {facts.get('version')}" if isinstance(facts, dict) else "something else"
        raise NotAViewer(f"the archive holds {name}, not @ohif/app {version}")
    if "Permission is hereby granted, free of charge" not in licence:
        raise NotAViewer("the licence of this OHIF is not the MIT licence: read it before it is used")
    if not (built / "index.html").is_file():
        raise NotAViewer("the archive has no built pages (dist/index.html)")


class _Names(HTMLParser):
    """The files that a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.styles: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "script" and given.get("src") and not given.get("rel"):
            self.scripts.append(given["src"])
        if tag == "link" and given.get("rel") == "stylesheet":
            self.styles.append(given.get("href", ""))


def _page(built: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = _Names()
    names.feed((built / "index.html").read_text(encoding="utf-8"))
    if not names.scripts or any("//" in name for name in (*names.scripts, *names.styles)):
        raise NotAViewer("the page of this OHIF loads nothing, or loads from elsewhere")
    return tuple(one.lstrip("/") for one in names.scripts), tuple(one.lstrip("/") for one in names.styles)


def _written(built: Path, into: Path) -> Iterator[tuple[str, Settled]]:
    for path in sorted(built.rglob("*")):
        name = path.relative_to(built).as_posix()
        type = _TYPES.get(path.suffix)
        if not path.is_file() or type is None or _LEFT_OUT.search(name):
            continue
        content = _at_home(path.suffix, path.read_bytes())
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        packed = 0
        if path.suffix in _SHRINK and len(content) > 1024:
            # Without a time: the same archive gives the same files.
            small = gzip.compress(content, 6, mtime=0)
            packed = len(small)
            target.with_name(f"{target.name}.gz").write_bytes(small)
        digest = hashlib.sha256(content).hexdigest()[:32]
        yield name, Settled(type, len(content), packed, f'"{digest}"', bool(_HASHED.search(name)))


def _at_home(suffix: str, content: bytes) -> bytes:
    base = BASE.encode()
    if suffix == ".js":
        content = _PUBLIC_PATH.sub(rb'\1"%s"' % base, content)
        return _OTHER_PATHS.sub(rb"\1%s" % base, content)
    return _IN_STYLES.sub(b"url(%s" % base, content) if suffix == ".css" else content


def _moved(script: Path) -> bool:
    return f'.p = "{BASE}"'.encode() in (content := script.read_bytes()) or f'.p="{BASE}"'.encode() in content
