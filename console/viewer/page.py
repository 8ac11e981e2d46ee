"""What the console says to a browser that opens the viewer: its page, its settings, and what it may do.

Rule 1: the viewer asks nobody but the console: the images come from /dicom-web/ of the same origin, and the
session of whoever looks is the only credential.
Rule 2: nothing is executed but OHIF's own files and one of ours: no script in a page, none from elsewhere.
"""

import json
from collections.abc import Sequence
from html import escape

from console.viewer.settle import BASE, Index
from ledger.identifiers import Uid
from ledger.result import ResultRecord, Role, of_one_plan

DICOMWEB = "/dicom-web"

#: Of the page. OHIF writes styles into the page, and one of its parts makes functions from text to read
#: segmentations; images and fonts that it makes are data: and blob:.
POLICY = "; ".join((
    "default-src 'none'",
    "script-src 'self' 'unsafe-eval'",
    "worker-src 'self' blob:",
    "style-src 'self'",
    "style-src-elem 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    "connect-src 'self' blob: data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "object-src 'none'",
))  # fmt: skip
#: Of every file: it counts where one is opened as a worker, and for nothing else.
WORKER_POLICY = "; ".join((
    "default-src 'none'",
    "script-src 'self' 'unsafe-eval' 'wasm-unsafe-eval'",
    "connect-src 'self' blob: data:",
    "worker-src 'self' blob:",
))  # fmt: skip

#: Which object of a run is opened first: what is drawn on the images, before what is read.
_FIRST = (
    Role.SEGMENTATION, Role.MARKS, Role.PARAMETRIC_MAP, Role.STRUCTURE_SET, Role.OVERLAY, Role.REPORT,
    Role.OLDER_REPORT, Role.SUMMARY,
)  # fmt: skip


def page(index: Index) -> str:
    """The viewer's page: the files that it loads, and nothing else."""
    styles = "".join(f'<link rel="stylesheet" href="{BASE}{escape(name)}">' for name in index.styles)
    scripts = "".join(f'<script defer src="{BASE}{escape(name)}"></script>' for name in index.scripts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Wetread: viewer</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="{BASE}assets/favicon.ico">{styles}'
        f'<script src="{BASE}app-config.js"></script><script src="/static/viewer.js"></script>{scripts}'
        '</head><body><noscript>The viewer needs JavaScript.</noscript><div id="react-portal"></div>'
        '<div id="root"></div></body></html>'
    )


def settings() -> str:
    """OHIF's settings, as the script that it reads them from."""
    source = {
        "friendlyName": "Wetread", "name": "wetread",
        "qidoRoot": DICOMWEB, "wadoRoot": DICOMWEB, "wadoUriRoot": DICOMWEB,
        "qidoSupportsIncludeField": True, "supportsReject": False, "supportsWildcard": True,
        "supportsFuzzyMatching": False, "imageRendering": "wadors", "thumbnailRendering": "wadors",
        "enableStudyLazyLoad": True, "omitQuotationForMultipartRequest": True, "supportsStow": False,
        "bulkDataURI": {"enabled": True},
    }  # fmt: skip
    told = {
        "routerBasename": BASE.rstrip("/"), "extensions": [], "modes": [],
        "showStudyList": False,  # Studies are found on the console, which writes down who looked.
        "maxNumberOfWebWorkers": 2,
        "investigationalUseDialog": {"option": "configure", "days": 30},
        "disableConfirmationPrompts": True, "showErrorDetails": "dev",
        "customizationService": [{"ohif.tours": {"$set": []}}],
        "defaultDataSourceName": "wetread",
        "dataSources": [
            {
                "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                "sourceName": "wetread",
                "configuration": source,
            }
        ],
    }  # fmt: skip
    return (
        f"window.PUBLIC_URL = {json.dumps(BASE)};\n"
        "window.browserImportFunction = name => import(name);\n"
        f"window.config = {json.dumps(told)};\n"
    )


def viewer_link(study: Uid, results: Sequence[ResultRecord] = ()) -> str:
    """Where the viewer shows the study, at once with the one of `results` that shows most of a run."""
    ours = of_one_plan(results)
    first = next((one for role in _FIRST for one in ours if one.role is role), None)
    shown = f"&initialSeriesInstanceUID={first.series}" if first is not None else ""
    return f"{BASE}viewer?StudyInstanceUIDs={study}{shown}"


def can_be_opened(result: ResultRecord) -> bool:
    """Whether the viewer has something to show when a link names this object."""
    return result.role in _FIRST
