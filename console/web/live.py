"""News: whoever has a page open is told that there is something new, and asks for the parts that it shows.

One look at the ledger serves everybody, at most every `LOOK_S`, and only while somebody listens.
(Server-Sent Events: WHATWG HTML §9.2.)
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from ledger.errors import SiteError
from ledger.store.ledger import Ledger

LOOK_S = 0.4  # What changed is on every screen within a second.
HEARTBEAT_S = 15.0  # Proxies close what is silent, and browsers notice that a server is gone.
LISTENERS_MAX = 200  # The pages of a hospital's operators; more are answered 503.

router = APIRouter()


class Live:
    """Watches the ledger for all who listen."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._listeners: set[asyncio.Queue[int]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._number = 0
        self.closing = False  #: the process is being stopped: nobody is kept waiting

    @property
    def listeners(self) -> int:
        """How many pages are open."""
        return len(self._listeners)

    async def news(self) -> AsyncIterator[bytes]:
        """Events until the reader goes away or the process is stopped."""
        mine: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
        self._listeners.add(mine)
        try:
            if self._watching is None or self._watching.done():
                self._watching = asyncio.create_task(self._watch())
            # What happened while the page was on its way here, or was cut off, it cannot know.
            yield b"retry: 2000\nevent: changed\ndata: 0\n\n"
            while not self.closing:
                try:
                    number = await asyncio.wait_for(mine.get(), HEARTBEAT_S)
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                yield b"event: changed\ndata: %d\n\n" % number
        finally:
            self._listeners.discard(mine)

    def close(self) -> None:
        """Let everybody go: called from the loop."""
        self.closing = True
        self._tell()

    async def _watch(self) -> None:
        seen: object = None  # The first look is news: what happened before it was perhaps not yet shown.
        while self._listeners and not self.closing:
            latest = await self._look()
            if latest is not None and latest != seen:
                self._tell()
                seen = latest
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> object:
        """What changes whenever the ledger does; None while it is away, which pages say by themselves."""
        with suppress(SiteError):
            return await run_in_threadpool(self._ledger.signature)
        return None

    def _tell(self) -> None:
        self._number += 1
        for queue in self._listeners:
            # One piece of news that was not fetched yet says as much as two.
            with suppress(asyncio.QueueFull):
                queue.put_nowait(self._number)


@router.get("/live")
async def live(request: Request) -> StreamingResponse:
    """News for one page, until it is closed."""
    watched: Live = request.app.state.live
    if watched.listeners >= LISTENERS_MAX:
        return StreamingResponse(iter(()), 503, headers={"Retry-After": "30"})
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(watched.news(), media_type="text/event-stream", headers=headers)
