"""A web server for a viewer's built files: what a hospital has on another machine than the images."""

import http.server
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit


@contextmanager
def pages(folder: Path, port: int, extra: Mapping[str, str]) -> Iterator[str]:
    """Serve `folder` at the URL that comes; `extra` are scripts by path that take the place of files."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, directory=str(folder), **named)

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path in extra:
                body = extra[path].encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/javascript")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return
            if not (folder / path.lstrip("/")).is_file():
                self.path = "/index.html"  # The viewer reads the path by itself.
            super().do_GET()

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
