"""News for open pages: one look at the ledger serves everybody."""

import asyncio

from console.web.live import Live
from tests.console.web.conftest import Desk


def test_pages_that_come_back_at_once_share_one_look_at_the_ledger(desk: Desk) -> None:
    async def come() -> list[str]:
        live = Live(desk.ledger)
        pages = [live.news() for _ in range(5)]
        first = await asyncio.gather(*(anext(page) for page in pages))
        assert all(b"event: changed" in said for said in first)
        watching = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]
        for page in pages:
            await page.aclose()
        live.close()
        return watching

    assert asyncio.run(come()).count("Live._watch") == 1
