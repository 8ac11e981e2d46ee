"""A web server for a viewer's built files: what a hospital has on another machine than the images."""

import http.server
import mimetypes
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.patience import patient


@contextmanager
def pages(
    folder: Path, port: int, extra: Mapping[str, str | bytes], behind: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Serve `folder` at the URL that comes; `extra` are contents by path, beside its files or in their place.

    `behind` are servers that lie behind this one, URLs by the path that they are found under: an archive that
    lets no other origin in is put behind the viewer's own, as a hospital's reverse proxy does.
    """

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, directory=str(folder), **named)

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path in extra:
                content = extra[path]
                body = content.encode() if isinstance(content, str) else content
                kind, _ = mimetypes.guess_type(path)
                self.send_response(200)
                self.send_header("Content-Type", kind or "application/octet-stream")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return
            for prefix, url in (behind or {}).items():
                if path.startswith(prefix):
                    self._ask(f"{url}{self.path}")
                    return
            if not (folder / path.lstrip("/")).is_file():
                self.path = "/index.html"  # The viewer reads the path by itself.
            super().do_GET()

        def _ask(self, url: str) -> None:
            """Pass on what the server behind answers."""
            asked = {name: self.headers[name] for name in ("Accept", "Range") if name in self.headers}
            # It names itself by the name that it is asked by: then its links lead through here again.
            asked["Host"] = self.headers["Host"]
            try:
                answer = urllib.request.urlopen(
                    urllib.request.Request(url, headers=asked), timeout=patient(60)
                )
            except urllib.error.HTTPError as refusal:
                answer = refusal
            with answer:
                self.send_response(answer.status)
                for name in ("Content-Type", "Content-Length", "Content-Range"):
                    if answer.headers[name]:
                        self.send_header(name, answer.headers[name])
                self.end_headers()
                shutil.copyfileobj(answer, self.wfile)

        def end_headers(self) -> None:
            # Viewers share memory between threads, which browsers allow to isolated pages only. What such a
            # page loads from elsewhere has to agree to it.
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            super().end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
