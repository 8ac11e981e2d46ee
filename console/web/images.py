"""The images behind the console's own door: DICOMweb for the viewer, with the console's sign-in as its guard.

The same resources as those of the DICOMweb server, read by processes of their own: a console that shows
thousands of slices takes no decoder from other viewers.
"""

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.settings import Site
from dicom_node.dicomweb.access import ALWAYS
from dicom_node.dicomweb.app import ROOT, DicomWeb
from dicom_node.dicomweb.readers import Readers
from dicom_node.spool import Spool
from ledger.store.ledger import Ledger


class Images:
    """DICOMweb over a site's spool, for whoever the console has let in."""

    def __init__(self, site: Site, ledger: Ledger, spool: Spool) -> None:
        settings = site.dicomweb
        self._readers = Readers(
            processes=settings.decoders, limit_s=settings.decode_s, bytes_max=settings.decode_bytes_max
        )
        # Answers name their own addresses: those of the console, and not those that other viewers are told.
        outside = f"{site.console.public_url}{ROOT}" if site.console.public_url else None
        web = site.web_site().model_copy(
            update={"dicomweb": settings.model_copy(update={"public_url": outside})}
        )
        self._app = DicomWeb(web, ledger, spool, self._readers).bare()

    def answer(self) -> Response:
        """What answers the request that is being handled, once it was let through."""
        return _Passed(self._app)

    def close(self) -> None:
        """End the processes that read."""
        self._readers.close()


#: What our own routing has left behind.
_OURS = frozenset({"route", "router", "endpoint", "path_params", "app"})


class _Passed(Response):
    """Hands a request on as it came, and adds what every answer with images has to carry."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        inner = {key: value for key, value in scope.items() if key not in _OURS}

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(ALWAYS)
            await send(message)

        await self._app(inner, receive, sending)
