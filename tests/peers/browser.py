"""Debian's Chromium without a screen, driven by Playwright. WebGL comes from its own software renderer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.patience import patient
from tests.peers.loopback import until
from tests.peers.programs import find

#: Pictures of what was seen, to look at: the tests write them, nothing reads them.
PICTURES = Path(__file__).resolve().parents[2] / ".cache" / "pictures"

_ARGUMENTS = [
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    # Viewers ask the world for fonts and icons: there is no world here.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip
#: OHIF 3.13 sometimes asks a viewport that it has just replaced, on a slow machine; it shows all the same.
_OF_OHIF = "viewport has been destroyed"


@dataclass
class Tab:
    """A page, and what went wrong on it."""

    page: Page
    errors: list[str] = field(default_factory=list)  #: uncaught exceptions and answers of 400 and above

    def text(self) -> str:
        """All that can be read on it."""
        return self.page.inner_text("body")

    def reads(self, *words: str, within_s: float = 60) -> None:
        """Wait until all `words` stand on the page."""
        until(
            lambda: all(word in self.text() for word in words),
            within_s=within_s,
            what=f"the page says {', '.join(words)}; it says:\n{self.text()}\n{self.errors}",
        )

    def picture(self, name: str) -> np.ndarray:
        """What is seen now: rows × columns × RGB. It is kept as `name`.png."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        path = PICTURES / f"{name}.png"
        self.page.screenshot(path=path)
        return np.asarray(Image.open(path).convert("RGB"))


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a profile of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find("chromium"), args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def tab(browser: Browser, *, width: int = 1500, height: int = 950) -> Tab:
    """A new, empty page."""
    opened = Tab(browser.new_page(viewport={"width": width, "height": height}))
    opened.page.set_default_timeout(patient(30_000))
    opened.page.on(
        "pageerror",
        lambda error: opened.errors.append(f"uncaught: {error}") if _OF_OHIF not in str(error) else None,
    )
    opened.page.on(
        "response",
        lambda answer: (
            opened.errors.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
        ),
    )
    return opened


def coloured(picture: np.ndarray) -> int:
    """How many pixels are neither black, white nor grey: what a viewer lays over grey images."""
    channels = picture.astype(int)
    return int((channels.max(axis=2) - channels.min(axis=2) > 40).sum())
