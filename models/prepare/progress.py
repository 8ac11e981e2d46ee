"""
How far a model is, for whoever watches: told while it runs, at most once a second.

A model that goes over its input piece by piece says after each piece how many are done. Where nobody listens
that costs a look at one variable; where somebody does, a look at the clock.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_EVERY_S = 1.0


@dataclass(slots=True)
class _Listener:
    """Whom to tell, and which stretch of all the work is being done."""

    told: Callable[[float], None]
    clock: Callable[[], float]
    told_at: float
    first: float = 0.0
    length: float = 1.0


_listener: ContextVar[_Listener | None] = ContextVar("listener", default=None)


@contextmanager
def telling(told: Callable[[float], None], *, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """While the block runs, `told` hears how much is done, 0 … 1: first after a second, then every second."""
    token = _listener.set(_Listener(told, clock, clock()))
    try:
        yield
    finally:
        _listener.reset(token)


def tell(done: int, of: int) -> None:
    """`done` of `of` equal pieces of this stretch are done."""
    listener = _listener.get()
    if listener is None or of < 1:
        return
    now = listener.clock()
    if now - listener.told_at >= _EVERY_S:
        listener.told_at = now
        part = listener.first + listener.length * done / of
        listener.told(round(min(1.0, max(0.0, part)), 4))


@contextmanager
def stretch(number: int, of: int) -> Iterator[None]:
    """What is told in the block is about the `number`-th, from 0, of `of` equal stretches of the work."""
    listener = _listener.get()
    if listener is None or of < 1:
        yield
        return
    first, length = listener.first, listener.length
    listener.first, listener.length = first + length * number / of, length / of
    try:
        yield
    finally:
        listener.first, listener.length = first, length
