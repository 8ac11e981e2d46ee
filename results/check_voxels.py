"""
Do the pixels of a segmentation on disk hold what the model drew?

Bits are unpacked here and everything else is decoded by pydicom; then every frame is compared with the
model's label map, or with its probabilities, on the slice that the frame lies on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.utils import iter_pixels

from results.expect import CheckFailed, expect
from results.findings import Findings, HeatMap, Segment

_STEP = 0.5 / 255 + 1e-6  # half of one step of a fraction, and what single precision leaves


@dataclass(slots=True)
class Tally:
    """What the frames of one segment add up to; the fractions of voxels count as that."""

    voxels: float = 0.0
    rows: float = 0.0  #: sum of the row indices of its voxels …
    columns: float = 0.0  #: … and of the column indices, on one frame

    @classmethod
    def of(cls, mask: NDArray[np.bool_], top: int) -> "Tally":
        """`mask` is (row, column), its first row the row `top` of the frame."""
        in_rows, in_columns = mask.sum(axis=1, dtype=np.uint32), mask.sum(axis=0, dtype=np.uint32)
        return cls(
            float(in_rows.sum()),
            float(in_rows @ np.arange(top, top + len(in_rows))),
            float(in_columns @ np.arange(len(in_columns))),
        )


#: Told the 0-based index of a frame, its Segment Number (None: all) and slice: what it holds by segment.
Compare = Callable[[int, int | None, int], Iterator[tuple[int, Tally]]]


def comparing(
    dataset: Dataset, findings: Findings, segments: dict[int, Segment], maps: dict[int, HeatMap], what: str
) -> Compare:
    """How the frames of `dataset`, taken in order, are compared with `segments` by Segment Number, or with
    `maps` of their probability. Raises `CheckFailed` where they do not agree.
    """
    shape = int(dataset.NumberOfFrames), int(dataset.Rows), int(dataset.Columns)
    if dataset.SegmentationType == "BINARY":
        return _binary(dataset, findings, segments, shape, what)
    frames = iter_pixels(dataset, raw=True)
    if dataset.SegmentationType == "FRACTIONAL":
        return _fractional(frames, maps, int(dataset.MaximumFractionalValue), what)
    return _label_map(frames, findings, segments, what)


def _binary(
    dataset: Dataset,
    findings: Findings,
    segments: dict[int, Segment],
    shape: tuple[int, int, int],
    what: str,
) -> Compare:
    """One bit for each pixel; a frame may begin and end within a byte (PS3.5 §8.1.1)."""
    bits = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    count, rows, columns = shape
    needed = -(-count * rows * columns // 8)
    expect(
        needed <= bits.size <= needed + 1, f"{what}: pixel data has {bits.size} bytes, {needed} are needed"
    )

    def compare(index: int, number: int | None, k: int) -> Iterator[tuple[int, Tally]]:
        if number is None:
            raise CheckFailed(f"{what}: frame {index + 1} is of no segment")
        first = index * rows * columns
        used = bits[first // 8 : -(-(first + rows * columns) // 8)] != 0
        # Rows before the first bit and after the last are empty. One byte too many at either end belongs to
        # the frames beside it, and costs at most a row more.
        low = max(int(used.argmax()) * 8 - first % 8, 0)
        high = min((used.size - int(used[::-1].argmax())) * 8 - first % 8, rows * columns)
        top, bottom = low // columns, -(-high // columns)
        mask = _unpacked(bits, first + top * columns, (bottom - top) * columns).reshape(-1, columns)
        segment = segments[number]
        meant = findings.layers[segment.layer][k, top:bottom] == segment.number
        # Outside of these rows the frame is empty; that the model has nothing there either is known once all
        # voxels are counted.
        if not np.array_equal(mask, meant):
            raise CheckFailed(
                f"{what}: frame {index + 1} does not hold the voxels of {segment.label!r} on slice {k}"
            )
        yield number, Tally.of(mask, top)

    return compare


def _unpacked(bits: NDArray[np.uint8], first: int, count: int) -> NDArray[np.bool_]:
    loose = np.unpackbits(bits[first // 8 : -(-(first + count) // 8)], bitorder="little")
    return loose[first % 8 : first % 8 + count].view(np.bool_)


def _label_map(
    frames: Iterator[NDArray[np.integer]], findings: Findings, segments: dict[int, Segment], what: str
) -> Compare:
    """A number for each pixel: that of its segment, or 0."""
    largest = max(segments)
    of_model = np.zeros(largest + 1, np.uint16)  # the model's number for each of the file, …
    layer_of = np.zeros(largest + 1, np.intp)  # … and where the model drew it
    for number, segment in segments.items():
        of_model[number], layer_of[number] = segment.number, segment.layer

    def compare(index: int, number: int | None, k: int) -> Iterator[tuple[int, Tally]]:
        if number is not None:
            raise CheckFailed(f"{what}: frame {index + 1} is said to be of segment {number} alone")
        labels = next(frames)
        columns = labels.shape[1]
        places = np.flatnonzero(labels)
        of = labels.reshape(-1)[places]
        if int(of.max(initial=0)) > largest:
            raise CheckFailed(
                f"{what}: frame {index + 1} has a value above {largest}, which is not described"
            )
        rows, across = np.divmod(places, columns)
        meant = (
            findings.layers[layer_of[of], k, rows, across]
            if layer_of.any()
            else (findings.layers[0, k].reshape(-1)[places])
        )
        # What the model drew and the frame has not is missing once all voxels are counted.
        if not np.array_equal(of_model[of], meant):
            raise CheckFailed(f"{what}: frame {index + 1} does not hold the labels of slice {k}")
        counts = np.bincount(of)
        in_rows, in_columns = np.bincount(of, rows), np.bincount(of, across)
        for one in np.flatnonzero(counts).tolist():
            yield one, Tally(float(counts[one]), float(in_rows[one]), float(in_columns[one]))

    return compare


def _fractional(
    frames: Iterator[NDArray[np.integer]], maps: dict[int, HeatMap], whole: int, what: str
) -> Compare:
    """A fraction for each pixel: the probability that it is the segment's, in steps."""

    def compare(index: int, number: int | None, k: int) -> Iterator[tuple[int, Tally]]:
        if number is None:
            raise CheckFailed(f"{what}: frame {index + 1} is of no segment")
        one = maps[number]
        values = next(frames) / np.float32(whole)
        if float(np.abs(values - one.values[k]).max()) > _STEP:
            raise CheckFailed(
                f"{what}: frame {index + 1} does not hold the values of {one.label!r} on slice {k}"
            )
        in_rows, in_columns = values.sum(axis=1, dtype=np.float64), values.sum(axis=0, dtype=np.float64)
        yield (
            number,
            Tally(
                float(in_rows.sum()),
                float(in_rows @ np.arange(len(in_rows))),
                float(in_columns @ np.arange(len(in_columns))),
            ),
        )

    return compare


def check_left_out(one: HeatMap, planes: set[int], what: str) -> None:
    """Where a segment has no frame its probability rounds to nothing. Raises `CheckFailed`."""
    rest = [k for k in range(len(one.values)) if k not in planes]
    largest = max((float(one.values[k].max()) for k in rest), default=0.0)
    expect(largest <= _STEP, f"{what}: a slice on which {one.label!r} reaches {largest:.4g} is left out")
