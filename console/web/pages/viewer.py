"""The viewer, and the images that it asks for: OHIF's files below /viewer/, DICOMweb below /dicom-web/.

Whoever opens a study in the viewer sees whose it is: opening one needs the permission to see patients, and is
audited.
"""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from console.viewer.installed import HOW, Viewer, find_viewer
from console.viewer.page import POLICY, WORKER_POLICY, page, settings
from console.viewer.settle import Settled
from console.web.access.visitor import visitor_of
from console.web.deck import deck_of
from console.web.images import Images
from console.web.rendering import problem
from ledger.study import StudyRecord

router = APIRouter()
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
    studies: Annotated[str, Query(alias="StudyInstanceUIDs", max_length=1024)] = "",
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
    _note_who_looks(request, studies)
    return HTMLResponse(
        page(installed.index),
        headers={**_KEPT_TO_OURSELVES, "Content-Security-Policy": POLICY, "Cache-Control": "no-store"},
    )


@router.get("/dicom-web/{path:path}")
def images(request: Request, path: str) -> Response:
    """QIDO-RS and WADO-RS."""
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


def _note_who_looks(request: Request, studies: str) -> None:
    ledger = deck_of(request).ledger
    for text in studies.split(",")[:20]:
        found = ledger.find(text)
        if isinstance(found, StudyRecord) and str(found.study) == text:
            # By our own number: a UID may name the patient.
            ledger.record_audit(visitor_of(request).actor, "study.viewed", thing_id=found.id)
