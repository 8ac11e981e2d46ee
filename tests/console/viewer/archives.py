"""Small archives that are built as OHIF's own is, and such as nobody should take."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

VERSION = "9.9.9"
INDEX_HTML = (
    '<!doctype html><html><head><script>window.PUBLIC_URL="/"</script>'
    '<script rel="preload" as="script" src="/app-config.js"></script>'
    '<script defer src="/app.bundle.0123456789abcdef.js"></script>'
    '<link href="/app.bundle.css" rel="stylesheet"></head><body><div id="root"></div></body></html>'
)
APP = (
    "(() => {\n__webpack_require__.p = \"/\";\n})();\nwindow.browserImportFunction('/slides/x.min.js');\n"
    + "//" * 900
)


def whole(**changed: str | None) -> dict[str, bytes]:
    """The files of a package, by name; `changed` has `__` for a slash, `_dot_` for a dot. None: left out."""
    files: dict[str, str] = {
        "package/package.json": json.dumps({"name": "@ohif/app", "version": VERSION}),
        "package/LICENSE": "MIT License\n\nPermission is hereby granted, free of charge, to any person",
        "package/dist/index.html": INDEX_HTML,
        "package/dist/app.bundle.0123456789abcdef.js": APP,
        "package/dist/app.bundle.css": "@font-face { src: url(/a34f9d1faa5f3315.woff2) }",
        "package/dist/a34f9d1faa5f3315.woff2": "font",
        "package/dist/app.bundle.0123456789abcdef.js.map": "{}",
        "package/dist/sw.js": "importScripts('https://elsewhere.example/x.js')",
        "package/dist/ort/ort.wasm.min.js": "large",
        "package/dist/app-config.js": "window.config = {}",
    }
    for name, content in changed.items():
        path = f"package/{name.replace('__', '/').replace('_dot_', '.')}"
        if content is None:
            del files[path]
        else:
            files[path] = content
    return {name: content.encode() for name, content in files.items()}


def tgz(path: Path, files: dict[str, bytes], *, more: tuple[tarfile.TarInfo, ...] = ()) -> str:
    """Write an archive with `files`, and `more` members without content; its SHA-512 in base64."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in more:
            archive.addfile(member)
    path.write_bytes(gzip.compress(written.getvalue()))
    return base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    """A member that is a link."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member
