"""A series on disk becomes a volume: one regular grid in LPS millimetres, in Hounsfield units where it is CT.

The order of the steps is the point. Headers are read first and judged completely, so that a series which is
no volume costs no decoding; then the memory is bounded; only then does anything touch a pixel. What comes out
is the same whatever order the files come in.

The array is int16 where every modality value is an integer that fits (nearly all CT), else float32. Both hold
the same numbers as highdicom's `get_volume_from_series`, and the geometry is the one that highdicom computes.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.uid import UID

from results.source import Source
from worker.assemble import UNCOMPRESSED, Slice, assemble
from worker.decode import check_decodable
from worker.defects import CannotDecode, Defect, NotAVolume, UnsafeInput
from worker.elements import HeaderUnreadable, numbers_of, value_of
from worker.files import ImageFile, read_image_file
from worker.frames import has_functional_groups, is_localizer, planes_of_frames, rescales_of_frames
from worker.geometry import MINIMUM_SLICES, Plane, stack
from worker.pixels import SERIES_LIMIT, PixelFormat, check_size, pixel_format, rescale_of

__all__ = [
    "CannotDecode",
    "Defect",
    "HeaderUnreadable",
    "Loaded",
    "NotAVolume",
    "UnsafeInput",
    "load_series",
    "load_source",
]

#: Processor seconds of one decoding process: no honest series takes so long. The worker's own limit of the
#: stage is by the clock.
DECODE_LIMIT_S = 300.0
#: Longer text is a report or a protocol, nothing that a rule or a model asks for.
HEADER_TEXT_LIMIT = 1024
_NO_TEXT = frozenset({"SQ", "OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB or OW"})
_PIXEL_DATA = 0x7FE00010


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A series ready for a model: slice k is `source.datasets[k]`, or frame `source.frames[k]`."""

    volume: hd.Volume
    source: Source
    headers: Mapping[str, str]  #: of the first slice: keyword → text, several values joined by a backslash


def load_series(
    paths: Sequence[Path],
    *,
    minimum: int = MINIMUM_SLICES,
    cores: int | None = None,
    decode_limit_s: float = DECODE_LIMIT_S,
) -> Loaded:
    """The volume in the files at `paths`, which are one series.

    Raises `NotAVolume`, whose `defect` says which way, `HeaderUnreadable`, `CannotDecode`, `UnsafeInput`, all
    of them facts about the study, and `OSError`. `cores` is how many files are read or decoded at once; None
    takes what this process may use.
    """
    cores = cores if cores is not None else usable_cores()
    files = read_files(paths)
    _check_one_series(files)
    formats = [pixel_format(file.dataset, name) for file, name in named(files)]
    enhanced = _is_enhanced(files, formats)
    check_pixels(files, formats)

    if enhanced:
        source, slices = _from_frames(files[0], formats[0], minimum)
    else:
        source, slices = _from_files(files, formats, minimum)
    assert source.geometry is not None
    array = assemble(slices, cores=cores, decode_limit_s=decode_limit_s)
    return Loaded(volume=_volume(array, source.geometry), source=source, headers=headers_of(source.first))


def load_source(paths: Sequence[Path]) -> Source:
    """The headers of a series that is no volume, for the report that says so, by Instance Number.

    Raises `HeaderUnreadable` and `OSError`.
    """
    files = read_files(paths)
    files.sort(key=lambda file: (_instance_number(file.dataset), text_of(file.dataset, "SOPInstanceUID")))
    return Source(datasets=tuple(file.dataset for file in files), geometry=None)


def usable_cores() -> int:
    """How many processes may run at once."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_files(paths: Sequence[Path]) -> list[ImageFile]:
    """The headers of all files, at least one. Raises `NotAVolume`, `HeaderUnreadable` and `OSError`."""
    if not paths:
        raise NotAVolume(Defect.TOO_FEW, "The series has no images.")
    return [read_image_file(Path(path)) for path in paths]


def text_of(dataset: Dataset, keyword: str) -> str:
    """The value as text, "" where it is absent, empty or broken."""
    try:
        return str(value_of(dataset, keyword) or "").strip("\0 ")
    except HeaderUnreadable:
        return ""


def _instance_number(dataset: Dataset) -> int:
    try:
        return int(text_of(dataset, "InstanceNumber"))
    except ValueError:
        return 0


def named(files: Sequence[ImageFile]) -> list[tuple[ImageFile, str]]:
    """Each file with what a sentence calls it: never its name on disk, which may identify a patient."""
    return [(file, f"image {_instance_number(file.dataset) or k}") for k, file in enumerate(files, 1)]


def _check_one_series(files: Sequence[ImageFile]) -> None:
    """All files are images of one series, each with a name of its own."""
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        missing = sum(not text_of(file.dataset, keyword) for file in files)
        if missing:
            raise NotAVolume(Defect.NO_UID, f"{missing} of {len(files)} images have no {keyword}.")
    without = sum(file.pixel is None for file in files)
    if without:
        raise NotAVolume(Defect.NO_PIXELS, f"{without} of {len(files)} objects have no pixel data.")
    if any(file.pixel is not None and file.pixel.tag != _PIXEL_DATA for file in files):
        raise NotAVolume(
            Defect.NO_PIXELS, "The pixel data is floating point (a parametric map): no image to analyse."
        )
    series = Counter(text_of(file.dataset, "SeriesInstanceUID") for file in files)
    if len(series) > 1:
        raise NotAVolume(Defect.MIXED_SERIES, f"The {len(files)} images belong to {len(series)} series.")
    classes = Counter(text_of(file.dataset, "SOPClassUID") for file in files)
    if len(classes) > 1:
        listed = ", ".join(f"{n} × {UID(uid).name}" for uid, n in classes.most_common(4))
        raise NotAVolume(Defect.MIXED_CLASS, f"The series mixes kinds of images: {listed}.")
    twice = len(files) - len({text_of(file.dataset, "SOPInstanceUID") for file in files})
    if twice:
        raise NotAVolume(
            Defect.DUPLICATE, f"{twice} of {len(files)} files repeat an image that is already there."
        )
    localizers = sum(is_localizer(file.dataset) for file in files)
    if localizers:
        raise NotAVolume(Defect.LOCALIZER, f"{localizers} of {len(files)} images are localizers (scouts).")


def _is_enhanced(files: Sequence[ImageFile], formats: Sequence[PixelFormat]) -> bool:
    """Whether the series is one enhanced image. Raises `NotAVolume` for other multi-frame images."""
    enhanced = [has_functional_groups(file.dataset) for file in files]
    if any(enhanced):
        if len(files) > 1:
            frames = sum(format.frames for format in formats)
            raise NotAVolume(
                Defect.NOT_A_STACK,
                f"The series holds {len(files)} enhanced images with {frames} frames: several volumes.",
            )
        return True
    if any(format.frames > 1 for format in formats):
        most = max(format.frames for format in formats)
        raise NotAVolume(
            Defect.NOT_A_STACK,
            f"An image has {most} frames without positions of their own: a cine loop, no stack.",
        )
    return False


def check_pixels(files: Sequence[ImageFile], formats: Sequence[PixelFormat]) -> None:
    """Bound the memory, one image at a time and all together, before any of it is asked for."""
    for (file, name), format in zip(named(files), formats, strict=True):
        assert file.pixel is not None
        encoded = file.size - file.pixel.offset if file.inline is None else len(file.inline)
        check_size(format, encoded, name)
        if file.transfer_syntax not in UNCOMPRESSED:
            check_decodable(file.transfer_syntax, format, name)
            if file.pixel.length is not None:
                raise CannotDecode(
                    f"The pixel data of {name} is not encapsulated, although its transfer syntax says so."
                )
            continue
        wanted = format.stored_frame_bytes * format.frames
        there = min(encoded, wanted if file.pixel.length is None else file.pixel.length)
        if file.pixel.length is None or there < wanted:
            raise CannotDecode(f"The pixel data of {name} ends early: {there} of {wanted} bytes.")
    size = sum(format.frame_bytes * format.frames for format in formats)
    if size > SERIES_LIMIT:
        raise UnsafeInput(
            f"The series takes {size / 2**30:.1f} GiB uncompressed; the limit is {SERIES_LIMIT >> 30} GiB."
        )


def _from_files(
    files: Sequence[ImageFile], formats: Sequence[PixelFormat], minimum: int
) -> tuple[Source, list[Slice]]:
    """Single-frame images: one file is one slice."""
    images = named(files)
    planes = [
        _plane(file.dataset, format, name) for (file, name), format in zip(images, formats, strict=True)
    ]
    found = stack(planes, minimum=minimum)
    slices = []
    for k in found.order:
        file, name = images[k]
        rescale = rescale_of(file.dataset, sop_class=text_of(file.dataset, "SOPClassUID"), name=name)
        slices.append(Slice(file=file, frame=0, format=formats[k], rescale=rescale, name=name))
    datasets = tuple(files[k].dataset for k in found.order)
    return Source(datasets=datasets, geometry=found.geometry), slices


def _from_frames(file: ImageFile, format: PixelFormat, minimum: int) -> tuple[Source, list[Slice]]:
    """An enhanced image: one frame is one slice."""
    name = "the image"
    found = stack(planes_of_frames(file.dataset, format, name), minimum=minimum)
    sop_class = text_of(file.dataset, "SOPClassUID")
    rescales = rescales_of_frames(file.dataset, format, sop_class=sop_class, name=name)
    slices = [Slice(file=file, frame=k, format=format, rescale=rescales[k], name=name) for k in found.order]
    frames = tuple(k + 1 for k in found.order)
    return Source(datasets=(file.dataset,), geometry=found.geometry, frames=frames), slices


def _plane(dataset: Dataset, format: PixelFormat, name: str) -> Plane:
    position = _numbers(dataset, "ImagePositionPatient", 3, name)
    orientation = _numbers(dataset, "ImageOrientationPatient", 6, name)
    spacing = _numbers(dataset, "PixelSpacing", 2, name)
    return Plane(
        position=(position[0], position[1], position[2]),
        orientation=(*orientation[:3], *orientation[3:]),  # type: ignore[arg-type]
        pixel_spacing=(spacing[0], spacing[1]),
        rows=format.rows,
        columns=format.columns,
        frame_of_reference=text_of(dataset, "FrameOfReferenceUID"),
        name=name,
    )


def _numbers(dataset: Dataset, keyword: str, count: int, name: str) -> list[float]:
    try:
        numbers = numbers_of(dataset, keyword)
    except HeaderUnreadable as error:
        raise NotAVolume(Defect.NOT_FINITE, f"{keyword} of {name} cannot be read as numbers.") from error
    if len(numbers) != count:
        said = f"has {len(numbers)} of {count} numbers in its" if numbers else "has no"
        raise NotAVolume(Defect.NO_GEOMETRY, f"{name} {said} {keyword}.")
    return numbers


def _volume(array: NDArray[Any], geometry: hd.VolumeGeometry) -> hd.Volume:
    return hd.Volume(
        array,
        affine=geometry.affine,
        coordinate_system=geometry.coordinate_system,
        frame_of_reference_uid=geometry.frame_of_reference_uid,
    )


def headers_of(dataset: Dataset) -> dict[str, str]:
    """Top-level attributes as text, as a model's context and a routing rule see them.

    Long values, sequences, bytes and private elements are left out.
    """
    found = {}
    for tag in list(dataset.keys()):
        raw = dataset.get_item(tag)
        keyword = keyword_for_tag(tag)
        if not keyword or raw is None or (isinstance(raw, RawDataElement) and raw.length > HEADER_TEXT_LIMIT):
            continue
        try:
            element = dataset[tag]
        except Exception:  # noqa: S112 - one broken value is no reason to withhold the others
            continue
        if element.VR in _NO_TEXT or element.value is None:
            continue
        values = [element.value] if element.VM < 2 else element.value
        found[keyword] = "\\".join(str(value) for value in values)
    return found
