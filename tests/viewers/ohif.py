"""OHIF in a tab, driven as a radiologist would; it says itself where on the screen a place is."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Browser

from tests.patience import patient
from tests.peers.browser import Tab, coloured, tab
from tests.peers.loopback import until
from tests.peers.npm import package
from tests.viewers.pages import pages

VERSION = "3.13.2"
_SHA512 = "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
_VIEWPORTS = "cornerstone.getRenderingEngines().flatMap(engine => engine.getViewports())"
_VIEWPORT = f"{_VIEWPORTS}[0]"
_PANE = "[data-cy=viewport-pane]"
WIDTH, HEIGHT = 1500, 950


def settings(qido: str, wado: str) -> str:
    """OHIF's own configuration file, with one DICOMweb server as its only source."""
    source = {
        "friendlyName": "Archive", "name": "archive",
        "qidoRoot": qido, "wadoRoot": qido, "wadoUriRoot": wado,
        "qidoSupportsIncludeField": True, "supportsReject": False, "supportsWildcard": True,
        "supportsFuzzyMatching": False, "imageRendering": "wadors", "thumbnailRendering": "wadors",
        "enableStudyLazyLoad": True, "omitQuotationForMultipartRequest": True,
        "bulkDataURI": {"enabled": True},
    }  # fmt: skip
    return "window.config = " + json.dumps(
        {
            "routerBasename": "/", "extensions": [], "modes": [], "showStudyList": True,
            "maxNumberOfWebWorkers": 2, "investigationalUseDialog": {"option": "never"},
            "disableConfirmationPrompts": True, "showErrorDetails": "always",
            "defaultDataSourceName": "archive",
            "dataSources": [
                {
                    "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                    "sourceName": "archive",
                    "configuration": source,
                }
            ],
        }
    )  # fmt: skip


@contextmanager
def served(port: int, config: str, behind: Mapping[str, str] | None = None) -> Iterator[str]:
    """OHIF's built files at the URL that comes; `behind` as in `pages`."""
    built = package("@ohif/app", VERSION, _SHA512)
    with pages(built / "dist", port, {"/app-config.js": config}, behind or {}) as url:
        yield url


class Ohif:
    """A tab with OHIF in it."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.url = url
        self.tab: Tab = tab(browser, width=WIDTH, height=HEIGHT)
        self.page = self.tab.page
        self.said: list[str] = []  #: to the console, since the last study was opened
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.add_init_script(
            "localStorage.setItem('shownTours', '[\"basicViewerTour\", \"basicTour\"]')"
        )

    def open(self, study: str, series: str | None = None) -> None:
        """The study, at once with `series` in the viewport if one is named: what a deep link does."""
        self.tab.errors.clear()
        self.said.clear()
        first = f"&initialSeriesInstanceUID={series}" if series else ""
        self.page.goto(f"{self.url}/viewer?StudyInstanceUIDs={study}{first}")
        self.page.locator(
            "[data-cy=study-browser-thumbnail], [data-cy^=study-browser-thumbnail]"
        ).first.wait_for(timeout=patient(60_000))

    def show(self, description: str) -> None:
        """Double-click the series, as a radiologist does."""
        entry = self.page.get_by_text(description, exact=True).first
        entry.wait_for(timeout=patient(60_000))
        entry.dblclick()

    def listed(self) -> dict[str, bool]:
        """Series Description → whether the list says with a warning sign that OHIF cannot show the series."""
        pairs = self.page.evaluate(
            "[...document.querySelectorAll('[data-cy^=study-browser-thumbnail]')].map(entry => ["
            "entry.querySelector('[data-cy=series-description-label]')?.innerText ?? '',"
            " entry.querySelector('#status-warning') !== null])"
        )
        return dict(pairs)

    def lays_over(self, name: str, *, what: str, pixels: int = 20) -> None:
        """Wait until something coloured lies over the image."""
        until(
            lambda: coloured(self.middle(name)) > pixels,
            within_s=60,
            what=f"{what} is shown in its colours: {self.tab.errors}",
        )

    def drawn(self, name: str, *, by: str) -> None:
        """Wait for an image in the viewport: no black one."""
        until(
            lambda: self.canvas(name).std() > 10,
            within_s=60,
            what=f"{by} shows something else than a black viewport: {self.tab.errors}",
        )

    def canvas(self, name: str) -> NDArray[np.uint8]:
        """The viewport without its frame: rows × columns × RGB."""
        box = self.page.locator(_PANE).first.bounding_box()
        assert box is not None
        left, top, width, height = (int(box[side]) for side in ("x", "y", "width", "height"))
        # Without the frame of the active viewport, which is coloured, and without the texts in the corners.
        return self.tab.picture(name)[top + 60 : top + height - 60, left + 40 : left + width - 60]

    def middle(self, name: str) -> NDArray[np.uint8]:
        """The middle of the viewport, where no text and no scroll bar is."""
        seen = self.canvas(name)
        rows, columns = seen.shape[:2]
        return seen[rows // 8 : -rows // 8, columns // 8 : -columns // 8]

    def to_place(self, place: NDArray[np.float64]) -> bool:
        """Bring the slice that a place (LPS mm) lies on to the viewport; not where it is an image alone.

        False while OHIF makes the viewport anew: then there is none, or one that holds no image yet.
        """
        jump = f"{_VIEWPORT}.jumpToWorld(place)"
        script = f"place => {{ try {{ {jump}; return true; }} catch {{ return false; }} }}"
        return bool(self.page.evaluate(script, [float(v) for v in place]))

    def off(self, place: NDArray[np.float64]) -> float:
        """How far a place lies before or behind the slice in the viewport, in mm."""
        camera = self.page.evaluate(
            f"(() => {{ const c = {_VIEWPORT}.getCamera();"
            " return [[...c.focalPoint], [...c.viewPlaneNormal]]; })()"
        )
        focus, normal = np.asarray(camera, dtype=float)
        return float(abs(np.dot(place - focus, normal)))

    def on_screen(self, world: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where places of the patient, (n, 3) LPS mm, are on the page: (n, 2) x, y."""
        box = self.page.locator(f"{_PANE} canvas").first.bounding_box()
        assert box is not None
        xy = self.page.evaluate(
            f"places => places.map(place => {_VIEWPORT}.worldToCanvas(place))", world.tolist()
        )
        return np.asarray(xy, dtype=float).reshape(-1, 2) + np.array([box["x"], box["y"]])

    def seen(self, world: NDArray[np.float64]) -> NDArray[np.float64]:
        """Those of the places that lie on the canvas, away from the texts along its border."""
        box = self.page.locator(f"{_PANE} canvas").first.bounding_box()
        assert box is not None
        xy = self.on_screen(world) - np.array([box["x"], box["y"]])
        return world[((xy > 90) & (xy < np.array([box["width"], box["height"]]) - 90)).all(axis=1)]

    def colours_at(self, world: NDArray[np.float64], name: str) -> NDArray[np.int64]:
        """What OHIF draws at places of the patient: (n, 3) RGB."""
        xy = self.on_screen(world).astype(int)
        columns, rows = np.clip(xy[:, 0], 0, WIDTH - 1), np.clip(xy[:, 1], 0, HEIGHT - 1)
        return self.tab.picture(name)[rows, columns].astype(np.int64)

    def graphics(self) -> list[dict[str, Any]]:
        """The shapes that lie over the image as SVG: each with its tag, colour and box on the page."""
        return self.page.evaluate(
            "[...document.querySelectorAll('svg.svg-layer *')]"
            ".filter(e => ['path', 'polyline', 'polygon', 'line', 'circle', 'ellipse', 'rect']"
            ".includes(e.tagName) && !e.closest('defs'))"
            ".map(e => { const b = e.getBoundingClientRect();"
            " return {tag: e.tagName, stroke: getComputedStyle(e).stroke,"
            " x: b.x, y: b.y, width: b.width, height: b.height}; })"
        )

    def says(self, text: str) -> None:
        """Wait until OHIF says it to the console."""

        def said() -> bool:
            self.page.evaluate("0")  # Playwright hears of the console while it is asked something.
            return any(text in one for one in self.said)

        until(said, within_s=60, what=f"OHIF says {text!r}; it says {self.said[-5:]}")

    def close(self) -> None:
        self.page.close()
