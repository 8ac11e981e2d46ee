"""One image on disk becomes what a model of single images is given: a radiograph, a photograph, a frame.

The same order as for a series: the header is judged first, then the memory is bounded, and only then is a
pixel touched, in the process of its own where it is compressed. Of several frames one is taken: the one that
the sender calls representative (0028,6010), else the middle one.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from models.contract import Image
from results.source import Source
from worker.assemble import UNCOMPRESSED, Slice, assemble, offset_tables
from worker.colour import COLOURS, PALETTE, brighter_is_more, from_stored, image_format, through_palette
from worker.decode import EncodedFile, decode
from worker.defects import CannotDecode, NotAnImage
from worker.elements import HeaderUnreadable, value_of
from worker.files import ImageFile, read_image_file
from worker.frames import has_functional_groups, rescales_of_frames
from worker.load import DECODE_LIMIT_S, check_pixels, headers_of, text_of
from worker.pixels import PixelFormat, Rescale, rescale_of
from worker.spacing import pixel_size, tissue_regions

_PIXEL_DATA = 0x7FE00010
_SIDES = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedImage:
    """An image ready for a model. `source` is its one header, with the frame that was taken of several."""

    image: Image
    source: Source
    lengths: str = ""  #: what a reader of lengths in mm must know
    cautions: tuple[str, ...] = ()  #: what a reader of anything must know

    @property
    def headers(self) -> Mapping[str, str]:
        """Keyword → text."""
        return self.image.headers


def load_image(path: Path, *, decode_limit_s: float = DECODE_LIMIT_S) -> LoadedImage:
    """The image in the file at `path`.

    Raises `NotAnImage`, `NotAVolume`, `HeaderUnreadable`, `CannotDecode`, `UnsafeInput`, all of them facts
    about the study, and `OSError`.
    """
    file = read_image_file(Path(path))
    _check(file)
    dataset, name = file.dataset, "the image"
    format = image_format(dataset, name)
    check_pixels([file], [format])
    frame = representative(dataset, format.frames)
    one = Slice(
        file=file, frame=frame, format=format, rescale=rescales_of(dataset, format, name)[frame], name=name
    )
    array = _array(one, decode_limit_s)

    size = pixel_size(dataset)
    headers = {**headers_of(dataset), **_region(dataset), **_view(dataset)}
    image = Image(array=array, spacing_mm=size.spacing_mm, headers=headers)
    frames = (frame + 1,) if format.frames > 1 else None
    return LoadedImage(
        image=image,
        source=Source(datasets=(dataset,), geometry=None, frames=frames),
        lengths=size.caution,
        cautions=tuple(_cautions(dataset, format, frame)),
    )


def representative(dataset: Dataset, frames: int) -> int:
    """Which of `frames` frames stands for all, from 0."""
    try:
        said = int(value_of(dataset, "RepresentativeFrameNumber") or 0)
    except (HeaderUnreadable, TypeError, ValueError):
        said = 0
    return said - 1 if 0 < said <= frames else frames // 2


def _check(file: ImageFile) -> None:
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not text_of(file.dataset, keyword):
            raise NotAnImage(f"The image has no {keyword}.")
    if file.pixel is None:
        raise NotAnImage("The object has no pixel data.")
    if file.pixel.tag != _PIXEL_DATA:
        raise NotAnImage("The pixel data is floating point (a parametric map): no image to analyse.")


def rescales_of(dataset: Dataset, format: PixelFormat, name: str) -> list[Rescale]:
    """The modality transform of every frame of an image. Raises `NotAVolume`."""
    if format.samples > 1 or format.photometric == PALETTE:
        return [Rescale()] * format.frames  # Colour has no modality units.
    sop_class = text_of(dataset, "SOPClassUID")
    if has_functional_groups(dataset):
        return rescales_of_frames(dataset, format, sop_class=sop_class, name=name)
    return [rescale_of(dataset, sop_class=sop_class, name=name)] * format.frames


def _array(one: Slice, limit_s: float) -> NDArray[Any]:
    if one.format.photometric in COLOURS:
        return rgb_of(one, limit_s)
    # A palette's indices are assembled like grey values, without a modality transform.
    values = assemble([one], cores=1, decode_limit_s=limit_s)[0]
    if one.format.photometric == PALETTE:
        return through_palette(values, one.file.dataset, one.name)
    return brighter_is_more(values, one.format, one.rescale)


def rgb_of(one: Slice, limit_s: float) -> NDArray[Any]:
    """(row, column, 3) in RGB, of eight bits, or of sixteen where they were stored.

    Raises `CannotDecode`, `UnsafeInput` and `DecoderKilled`.
    """
    file, format = one.file, one.format
    assert file.pixel is not None
    if file.transfer_syntax in UNCOMPRESSED:
        return np.ascontiguousarray(from_stored(_bytes_of(one), format))
    encoded = EncodedFile(
        path=str(file.path),
        name=one.name,
        offset=file.pixel.offset,
        transfer_syntax=file.transfer_syntax,
        format=format,
        wanted=((one.frame, 0),),
        offset_tables=offset_tables(file),
    )
    shape = (1, format.rows, format.columns, 3)
    array: NDArray[Any] = decode((encoded,), shape, format.stored, processes=1, limit_s=limit_s)[0]
    return array


def _bytes_of(one: Slice) -> bytes:
    """One frame as it is stored, in little endian."""
    file, size = one.file, one.format.stored_frame_bytes
    assert file.pixel is not None
    if file.inline is not None:  # big endian, read along with the header
        found = file.inline[one.frame * size : (one.frame + 1) * size]
        eight = one.format.bits_allocated == 8
        return found if eight else np.frombuffer(found, ">u2").astype("<u2").tobytes()
    descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.pread(descriptor, size, file.pixel.offset + one.frame * size)
    finally:
        os.close(descriptor)
    if len(found) < size:
        raise CannotDecode(f"The pixel data of {one.name} ends after {len(found)} of {size} bytes.")
    return found


def _region(dataset: Dataset) -> dict[str, str]:
    """Where the tissue is, in an ultrasound image with one region of it, in pixels from 0."""
    regions = tissue_regions(dataset)
    if len(regions) != 1:
        return {}
    return {side: said for side in _SIDES if (said := text_of(regions[0], side))}


def _view(dataset: Dataset) -> dict[str, str]:
    """The codes of the view and of what modifies it (PS3.3 §C.8.11.7, CID 4014, CID 4015), as their
    values.
    """
    found = {}
    try:
        views = list(value_of(dataset, "ViewCodeSequence") or [])[:1]
        modifiers = [code for view in views for code in value_of(view, "ViewModifierCodeSequence") or []]
    except HeaderUnreadable:
        return {}
    for keyword, items in (("ViewCodeSequence", views), ("ViewModifierCodeSequence", modifiers)):
        if values := [value for code in items if (value := text_of(code, "CodeValue"))]:
            found[keyword] = "\\".join(values)
    return found


def _cautions(dataset: Dataset, format: PixelFormat, frame: int) -> list[str]:
    said = []
    if format.frames > 1:
        said.append(f"Frame {frame + 1} of {format.frames} was analysed, and no other.")
    if text_of(dataset, "BurnedInAnnotation").upper() == "YES":
        said.append("Text is burned into the image, and may have been taken for anatomy.")
    return said
