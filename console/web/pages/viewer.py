"""The viewer, and the images that it asks for: OHIF's files below /viewer/, DICOMweb below /dicom-web/.

Whoever opens a study in the viewer sees whose it is: opening one needs the permission to see patients, and is
audited.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from console.viewer.installed import HOW, Viewer, find_viewer
from console.viewer.page import POLICY, WORKER_POLICY, page, settings
from console.viewer.settle import Settled
from console.web.access.visitor import visitor_of
from console.web.deck import deck_of
from console.web.images import Images
from console.web.looks import Looks
from console.web.rendering import problem
from ledger.identifiers import Uid

router = APIRouter()
_STUDIES_MAXIMUM = 20  # in one address
_FOREVER = "private, max-age=31536000, immutable"
_ASK_AGAIN = "private, no-cache"
_KEPT_TO_OURSELVES = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@router.get("/viewer/{path:path}")
def viewer(
    request: Request,
    path: str,
    takes: Annotated[str, Header(alias="Accept-Encoding")] = "",
    has: Annotated[str, Header(alias="If-None-Match")] = "",
) -> Response:
    """A file of the viewer, its settings, or its page with a study."""
    installed = find_viewer(deck_of(request).site.data)
    if installed is None:
        return problem(request, 404, HOW)
    if path == "app-config.js":
        return _script(settings())
    file = installed.index.files.get(path)
    if file is not None:
        return _file(installed, path, file, takes, has)
    if path != "viewer":  # The only page that there is: the viewer has no list of its own.
        return (
            RedirectResponse("/studies", 303)
            if path == ""
            else problem(request, 404, "there is no such page")
        )
    _note_who_opens(request)
    return HTMLResponse(
        page(installed.index),
        headers={**_KEPT_TO_OURSELVES, "Content-Security-Policy": POLICY, "Cache-Control": "no-store"},
    )


@router.get("/dicom-web/{path:path}")
def images(request: Request, path: str) -> Response:
    """QIDO-RS and WADO-RS."""
    _note_who_fetches(request, path)
    return _images(request).answer()


@router.post("/dicom-web/{path:path}")
def store(request: Request, path: str) -> Response:
    """STOW-RS."""
    return _images(request).answer()


def _images(request: Request) -> Images:
    found: Images = request.app.state.images
    return found


def _script(text: str) -> Response:
    headers = {**_KEPT_TO_OURSELVES, "Cache-Control": _ASK_AGAIN}
    return Response(text, media_type="text/javascript", headers=headers)


def _file(installed: Viewer, path: str, file: Settled, takes: str, has: str) -> Response:
    headers = {
        **_KEPT_TO_OURSELVES,
        "Content-Security-Policy": WORKER_POLICY,
        "Cache-Control": _FOREVER if file.immutable else _ASK_AGAIN,
        "ETag": file.etag,
        "Vary": "Accept-Encoding",
    }
    if file.etag in (one.strip() for one in has.split(",")):
        return Response(status_code=304, headers=headers)
    where = installed.file(path)
    if file.packed and any(one.partition(";")[0].strip() == "gzip" for one in takes.split(",")):
        headers["Content-Encoding"] = "gzip"
        where = where.with_name(f"{where.name}.gz")
    return FileResponse(where, media_type=file.type, headers=headers)


def _note_who_opens(request: Request) -> None:
    """Raises 422."""
    # As the viewer reads its address: whatever the case of the key, and however often it is there.
    keys = request.query_params.multi_items()
    values = [value for key, value in keys if key.lower() == "studyinstanceuids"]
    named = [text for text in (one.strip() for one in ",".join(values).split(",")) if text]
    if len(named) > _STUDIES_MAXIMUM:
        raise HTTPException(422, f"more than {_STUDIES_MAXIMUM} studies are not opened at once")
    _looks(request).opens(visitor_of(request), _uids(named))


def _note_who_fetches(request: Request, path: str) -> None:
    """One row for a study in a session, before anything of it leaves."""
    visitor, steps = visitor_of(request), path.split("/")
    if len(steps) > 1 and steps[0] == "studies":
        _looks(request).fetches(visitor, _uids(steps[1:2]))
        return
    keys = request.query_params.multi_items()
    values = [value for key, value in keys if key in ("StudyInstanceUID", "0020000D")]
    named = re.split(r"[,\\]", ",".join(values))
    studies = _uids(named)
    if len(studies) == len(named) <= _STUDIES_MAXIMUM:
        _looks(request).fetches(visitor, studies)
    else:
        _looks(request).lists(visitor)


def _uids(texts: Iterable[str]) -> list[Uid]:
    """Those that are UIDs: of nothing else there is a study."""
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(Uid.parse(text))
    return found


def _looks(request: Request) -> Looks:
    found: Looks = request.app.state.looks
    return found
