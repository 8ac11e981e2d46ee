"""
The source's pixels as a radiologist sees them: eight bits of grey, made from the request's own files.

Plane by plane and only when asked: a run that shows nothing costs nothing. From stored values through the
modality's transform to the window, in the order of the standard (PS3.3 §C.11, PS3.4 §N.2): the VOI LUT or
window of the image, or one that is usual where it has none; MONOCHROME1 is turned round at the end, padding
is black, and colour becomes luminance. What was made is kept within a bound of memory, and compressed frames
are decoded some at a time, because each time starts a process.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ledger.errors import WetreadError
from ledger.result import Role
from results.asked import Asked
from results.grid import NotEncodable, grid_of
from results.overlay import drawable
from results.pictures import NOT_DRAWN, NoPicture, about_lungs
from results.source import Source
from worker.assemble import UNCOMPRESSED, Slice, assemble
from worker.colour import COLOURS, PALETTE, image_format, through_palette
from worker.exchange import Files
from worker.files import ImageFile, read_image_file
from worker.load import DECODE_LIMIT_S, check_pixels, text_of, usable_cores
from worker.load_image import rescales_of, rgb_of
from worker.pixels import PixelFormat
from worker.windows import Scale, Window, offered, rescaled_padding, usual, voi_table, window_of_values

#: Kinds of results that are pictures.
_PICTURED = frozenset({Role.OVERLAY, Role.SUMMARY, Role.DOCUMENT})
#: Of grey pictures that are kept: 128 slices of 512 × 512.
KEPT_BYTES = 32 << 20
#: Compressed planes that are decoded at a time.
AHEAD = 16
#: Planes that the window of a series without one is taken from.
_SAMPLES = 5


def with_pictures(asked: Asked, files: Files) -> Asked:
    """`asked` with pictures of its images, made from `files`, where its profile has pictures among its kinds.

    Whether they can be made is tried on one plane. Where not, the findings say so to every reader, and all
    that machines read is made as ever.
    """
    if not asked.profile.kinds & _PICTURED or not drawable(asked):
        return asked
    paths = [*files.inputs, *(path for group in files.named.values() for path in group)]
    pictures = FilePictures(asked.source, paths, lungs=about_lungs(asked.findings))
    try:
        pictures.grey(len(grid_of(asked.source).planes) // 2)
    except (NoPicture, NotEncodable):
        findings = replace(asked.findings, cautions=(*asked.findings.cautions, NOT_DRAWN))
        return replace(asked, findings=findings, pictures=None)
    return replace(asked, pictures=pictures)


class FilePictures:
    """Pictures of the planes of `source`, out of the files at `paths`, which may hold other series too.

    `lungs` says that what was found lies in the lungs: they are then shown in a window for them.
    """

    def __init__(
        self,
        source: Source,
        paths: Sequence[str] | Sequence[Path],
        *,
        lungs: bool = False,
        cores: int | None = None,
        decode_limit_s: float = DECODE_LIMIT_S,
    ) -> None:
        self._source, self._paths, self._lungs = source, [Path(path) for path in paths], lungs
        self._cores, self._limit_s = cores or usable_cores(), decode_limit_s
        self._files: Mapping[str, ImageFile] | None = None
        self._slices: dict[int, Slice] = {}
        self._sampled: Window | None = None
        self._kept: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._last = -1

    def grey(self, plane: int) -> NDArray[np.uint8]:
        """Plane `plane` of the grid as (row, column); the array is not to be changed. Raises `NoPicture`."""
        try:
            if plane not in self._kept:
                self._make(list(self._next(plane)))
            self._last = plane
            self._kept.move_to_end(plane)
            return self._kept[plane]
        except (WetreadError, OSError) as error:
            if isinstance(error, NoPicture):
                raise
            raise NoPicture(f"The images cannot be drawn: {_because(error)}") from error
        except (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            # Whatever a broken header makes of arithmetic.
            raise NoPicture(
                f"The images cannot be drawn: plane {plane + 1} has no usable pixel description."
            ) from error

    def _next(self, plane: int) -> Iterator[int]:
        """The planes to make along with `plane`: as far apart as the last two that were asked for."""
        yield plane
        if self._slice(plane).file.transfer_syntax in UNCOMPRESSED:
            return
        step = plane - self._last if self._last >= 0 and plane > self._last else 1
        last = min(self._planes, plane + AHEAD * step)
        yield from (k for k in range(plane + step, last, step) if k not in self._kept)

    @property
    def _planes(self) -> int:
        return len(self._source.datasets if self._source.frames is None else self._source.frames)

    def _make(self, planes: Sequence[int]) -> None:
        for plane, values in zip(planes, self._values(planes), strict=True):
            grey = self._shown(plane, values)
            grey.setflags(write=False)
            self._kept[plane] = grey
        self._kept.move_to_end(planes[0])
        while len(self._kept) > 1 and sum(one.nbytes for one in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)

    def _slice(self, plane: int) -> Slice:
        """Where the stored values of a plane are, and what they mean. Raises `NoPicture` and `StudyError`."""
        if plane not in self._slices:
            if not 0 <= plane < self._planes:
                raise NoPicture(f"The images cannot be drawn: there is no plane {plane + 1}.")
            frames, name = self._source.frames, f"plane {plane + 1}"
            image = self._source.first if frames is not None else self._source.datasets[plane]
            file = self._file(text_of(image, "SOPInstanceUID"))
            if file is None or file.pixel is None:
                raise NoPicture(f"The images cannot be drawn: the pixels of {name} are not at hand.")
            format = image_format(file.dataset, name)
            check_pixels([file], [format])
            if frames is None:
                self._slices[plane] = _slice(file, 0, format, name)
            else:  # All of them at once, because the functional groups are gone through as a whole.
                rescales = rescales_of(file.dataset, format, "the image")
                for k, frame in enumerate(frames):
                    self._slices[k] = Slice(
                        file=file,
                        frame=frame - 1,
                        format=format,
                        rescale=rescales[frame - 1],
                        name=f"frame {frame}",
                    )
        return self._slices[plane]

    def _file(self, instance: str) -> ImageFile | None:
        if self._files is None:
            files = (read_image_file(path) for path in self._paths)
            self._files = {text_of(file.dataset, "SOPInstanceUID"): file for file in files}
        return self._files.get(instance)

    def _frame(self, plane: int) -> int | None:
        """From 1; None where the image has but one."""
        return None if self._source.frames is None else self._source.frames[plane]

    def _values(self, planes: Sequence[int]) -> Sequence[NDArray[Any]]:
        """Modality values (row, column) of grey planes, RGB (row, column, 3) of coloured ones."""
        slices = [self._slice(plane) for plane in planes]
        if slices[0].format.photometric in COLOURS:
            return [rgb_of(one, self._limit_s) for one in slices]
        values = assemble(slices, cores=self._cores, decode_limit_s=self._limit_s)
        if slices[0].format.photometric != PALETTE:
            return list(values)
        return [
            through_palette(one, each.file.dataset, each.name)
            for one, each in zip(values, slices, strict=True)
        ]

    def _shown(self, plane: int, values: NDArray[Any]) -> NDArray[np.uint8]:
        if values.ndim == 3:
            return _luminance(values)
        one = self._slice(plane)
        shown = self._scale(plane, one.file.dataset).apply(values)
        if one.format.photometric == "MONOCHROME1":
            np.subtract(255, shown, out=shown)
        padding = _padding(one, values)
        if padding is not None:
            shown[padding] = 0
        return shown

    def _scale(self, plane: int, dataset: Dataset) -> Scale:
        """How this plane is shown; where none of the planes says, the same for all of them."""
        modality, frame = text_of(dataset, "Modality"), self._frame(plane)
        lungs = self._lungs and modality == "CT"
        table = None if lungs else voi_table(dataset, frame)
        found = table or offered(dataset, frame, lungs=lungs)
        found = found or usual(modality, text_of(dataset, "BodyPartExamined"), lungs=lungs)
        if found is not None:
            return found
        if self._sampled is None:
            chosen = sorted({*np.linspace(0, self._planes - 1, _SAMPLES).round().astype(int).tolist()})
            samples = []
            for k, values in zip(chosen, self._values(chosen), strict=True):
                padding = _padding(self._slice(k), values)
                samples.append(values.reshape(-1) if padding is None else values[~padding])
            self._sampled = window_of_values(np.concatenate(samples), modality)
        return self._sampled


def _slice(file: ImageFile, frame: int, format: PixelFormat, name: str) -> Slice:
    return Slice(
        file=file,
        frame=frame,
        format=format,
        rescale=rescales_of(file.dataset, format, name)[frame],
        name=name,
    )


def _padding(one: Slice, values: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Where no tissue is; None where the image does not mark it."""
    ends = rescaled_padding(one.file.dataset, one.format, one.rescale)
    if ends is None:
        return None
    return np.asarray((values >= ends[0]) & (values <= ends[1]))


def _luminance(rgb: NDArray[Any]) -> NDArray[np.uint8]:
    """(row, column, 3) of eight or sixteen bits to grey (ITU-R BT.601)."""
    grey = rgb @ np.array((0.299, 0.587, 0.114))
    if rgb.dtype.itemsize > 1:
        grey /= 257.0
    return np.asarray(np.rint(grey), dtype=np.uint8)


def _because(error: Exception) -> str:
    if isinstance(error, OSError):  # Its text holds a path.
        return f"a file cannot be read ({error.strerror or type(error).__name__})."
    return str(error)
