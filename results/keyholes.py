"""
An outline with holes → one polygon, by the keyhole technique (PS3.3 §C.8.8.6.3).

A contour around another is read in three ways: as a hole, as the same thing twice, or as an outline that
holds whatever the outer one holds. A keyhole is read in one: from each hole a channel without width leads to
what is beside it, so that a single polygon goes around everything. It is right for whoever fills polygons,
adds them up or takes one from the other.

The channels run between two rows of pixels, where no centre lies.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.contours import Outline, Ring


def polygons(outline: Outline) -> list[Ring]:
    """The outlines around something, each with its holes in it; as many as `outline.around`."""
    if not outline.holes:
        return list(outline.around)
    first = len(outline.around)
    rings = [*outline.around, *outline.holes]
    edges = _Edges(rings)
    joined: dict[int, list[tuple[int, Ring]]] = {}
    # A channel leads to a ring that reaches further up, or as far up and further left: so with the lowest
    # hole joined first, no hole is joined to one that has been.
    tops = [ring[np.lexsort((ring[:, 0], ring[:, 1]))[0]] for ring in outline.holes]
    for one in sorted(range(len(tops)), key=lambda one: (tops[one][1], tops[one][0]), reverse=True):
        channel = _channel(edges, tops[one], outline.holes[one], first)
        whole = _with_channels(outline.holes[one], joined.pop(first + one, []))
        begin = int(np.argmax((whole == channel.begin).all(axis=1)))
        way = np.concatenate(
            [channel.end, np.roll(whole, -begin, axis=0), channel.begin[np.newaxis], channel.end]
        )
        joined.setdefault(channel.ring, []).append((channel.edge, way))
    return [_with_channels(ring, joined.pop(number, [])) for number, ring in enumerate(outline.around)]


@dataclass(frozen=True, slots=True)
class _Channel:
    """From a vertex of a hole to an edge of another ring, along a row."""

    begin: NDArray[np.float64]  #: (2,)
    ring: int
    edge: int
    end: NDArray[np.float64]  #: (1, 2)

    @property
    def length(self) -> float:
        return float(abs(self.end[0, 0] - self.begin[0]))


def _channel(edges: "_Edges", top: NDArray[np.float64], hole: Ring, outer: int) -> _Channel:
    """The shorter one of those to the left and to the right from the top of `hole`; `outer` rings are around
    something.
    """
    left, right = edges.beside(top, float(hole[hole[:, 1] == top[1], 0].max()))
    # To the right only what reaches further up, or two holes as high as one another would wait for each
    # other.
    if right.length < left.length and (right.ring < outer or edges.tops[right.ring] < top[1]):
        return right
    return left


class _Edges:
    """All edges of some rings."""

    def __init__(self, rings: list[Ring]) -> None:
        lengths = [len(ring) for ring in rings]
        self._ring = np.repeat(np.arange(len(rings)), lengths)
        self._edge = np.concatenate([np.arange(length) for length in lengths])
        self._from = np.concatenate(rings)
        self._to = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
        self._top = np.minimum(self._from[:, 1], self._to[:, 1])
        self._bottom = np.maximum(self._from[:, 1], self._to[:, 1])
        self.tops = [float(ring[:, 1].min()) for ring in rings]

    def beside(self, top: NDArray[np.float64], to_x: float) -> tuple[_Channel, _Channel]:
        """To what is met first on the way to the left of `top`, and to the right of what is level with it and
        reaches to `to_x`.
        """
        x, y = top
        level = np.flatnonzero((self._top <= y) & (y <= self._bottom))
        a, b = self._from[level], self._to[level]
        height = b[:, 1] - a[:, 1]
        # Directions are multiples of 45 degrees and vertices of half a pixel: all this is exact. A level edge
        # is met at one of its ends, where another one begins.
        met = a[:, 0] + (y - a[:, 1]) / np.where(height == 0, 1, height) * (b[:, 0] - a[:, 0])
        met = np.where(height == 0, a[:, 0], met)
        left = int(np.argmax(np.where(met < x, met, -np.inf)))
        right = int(np.argmin(np.where(met > to_x, met, np.inf)))
        return (
            self._channel(top, int(level[left]), np.array([(met[left], y)])),
            self._channel(np.array([to_x, y]), int(level[right]), np.array([(met[right], y)])),
        )

    def _channel(self, begin: NDArray[np.float64], at: int, end: NDArray[np.float64]) -> _Channel:
        return _Channel(begin, int(self._ring[at]), int(self._edge[at]), end)


def _with_channels(ring: Ring, inserted: list[tuple[int, Ring]]) -> Ring:
    """`ring` with each of these ways out and back, which begin and end on the edge of that number."""
    if not inserted:
        return ring

    def place(one: tuple[int, Ring]) -> tuple[int, float]:
        return one[0], float(np.abs(one[1][0] - ring[one[0]]).max())

    parts, begin = [], 0
    for edge, way in sorted(inserted, key=place):
        parts += [ring[begin : edge + 1], way]
        begin = edge + 1
    whole = np.concatenate([*parts, ring[begin:]])
    # Where a channel ends at a vertex, that is there already.
    kept: Ring = whole[(whole != np.roll(whole, 1, axis=0)).any(axis=1)]
    return kept
