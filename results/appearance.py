"""
How the source's images look, as a presentation state repeats it: grey values, window, size and shutter.

A presentation state replaces what the image says of all this (PS3.4 §N.2), so what is left out is lost. It is
repeated as the source has it; nothing here judges which window would be better.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.multival import MultiValue

from results.grid import Grid, Plane, plane_attribute
from results.source import Source
from results.spacing import between_pixels

#: Presentation State Shutter and Display Shutter (PS3.3 §C.11.12, §C.7.6.11)
_SHUTTER = (
    "ShutterShape",
    "ShutterLeftVerticalEdge",
    "ShutterRightVerticalEdge",
    "ShutterUpperHorizontalEdge",
    "ShutterLowerHorizontalEdge",
    "CenterOfCircularShutter",
    "RadiusOfCircularShutter",
    "VerticesOfThePolygonalShutter",
    "ShutterPresentationValue",
)

#: For a CT that names no window: soft tissue, from which every reader knows the way.
_USUAL_WINDOW = {"CT": ("40", "400")}


def image_references(grid: Grid, planes: Iterable[int]) -> list[Dataset]:
    """The images of `planes`, each once, with all its frames that are meant (PS3.3 §10.3)."""
    frames: dict[tuple[str, str], list[int]] = {}
    for k in planes:
        plane = grid.planes[k]
        found = frames.setdefault((plane.sop_class, plane.sop_instance), [])
        if plane.frame is not None:
            found.append(plane.frame)
    items = []
    for (sop_class, sop_instance), numbers in frames.items():
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
        if numbers:
            item.ReferencedFrameNumber = sorted(numbers)
        items.append(item)
    return items


def is_grey(source: Source) -> bool:
    """Whether the images have grey values, which a window is laid over."""
    return int(source.first.get("SamplesPerPixel") or 1) == 1 and str(
        source.first.get("PhotometricInterpretation") or "MONOCHROME2"
    ).startswith("MONOCHROME")


def displayed_area(source: Source, grid: Grid, references: Sequence[Dataset] = ()) -> Dataset:
    """The whole image, as large as the screen allows (PS3.3 §C.10.4)."""
    item = Dataset()
    if references:
        item.ReferencedImageSequence = list(references)
    item.DisplayedAreaTopLeftHandCorner = [1, 1]
    item.DisplayedAreaBottomRightHandCorner = [grid.columns, grid.rows]
    item.PresentationSizeMode = "SCALE TO FIT"
    if grid.place is not None:
        item.PresentationPixelSpacing = grid.place.pixel_spacing
    else:
        item.PresentationPixelAspectRatio = _aspect_ratio(source, grid)
    return item


def _aspect_ratio(source: Source, grid: Grid) -> list[int]:
    """Height and width of a pixel. Of a projection it is no distance in the patient, only a shape."""
    height, width = (Fraction(str(one)) for one in between_pixels(source, grid))
    shape = (height / width).limit_denominator(1000)
    return [max(shape.numerator, 1), shape.denominator]


def grey_values(dataset: Dataset, source: Source, grid: Grid, planes: Sequence[int]) -> None:
    """Modality LUT and Softcopy VOI LUT (PS3.3 §C.11.1, §C.11.8) of the images of `planes`.

    There is one Modality LUT for all images. Where the source has several, as PET does, it is left out, and
    each window is said in stored values instead.
    """
    rescales = {k: _rescale(_header(source, k), grid.planes[k], source) for k in planes}
    one_for_all = len(set(rescales.values())) == 1
    lut = source.first.get("ModalityLUTSequence")
    if lut:
        dataset.ModalityLUTSequence = copy.deepcopy(lut)
    elif one_for_all and (rescale := next(iter(rescales.values()))) is not None:
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = rescale

    stored = None if one_for_all or lut else {k: rescale for k, rescale in rescales.items() if rescale}
    items = windows(source, grid, planes, stored or {})
    if items:
        dataset.SoftcopyVOILUTSequence = items


def windows(
    source: Source, grid: Grid, planes: Sequence[int], stored: Mapping[int, tuple[str, str, str]]
) -> list[Dataset]:
    """Items of Softcopy VOI LUT Sequence: the images of each window that the source has, if it has any.

    Those whose rescaling is in `stored` have theirs in stored values.
    """
    alike: dict[bytes, tuple[Dataset, list[int]]] = {}
    for k in planes:
        plane = grid.planes[k]
        item = _window(_header(source, k), plane, source, stored.get(k))
        if item is not None:
            alike.setdefault(_compared(item), (item, []))[1].append(k)
    for item, members in alike.values():
        if len(members) < len(planes):
            item.ReferencedImageSequence = image_references(grid, members)
    return [item for item, _ in alike.values()]


def presentation_lut_shape(source: Source) -> str:
    """Softcopy Presentation LUT (PS3.3 §C.11.6): it decides what is black, and not the image's Photometric
    Interpretation.
    """
    return "INVERSE" if source.first.get("PhotometricInterpretation") == "MONOCHROME1" else "IDENTITY"


def shutter(dataset: Dataset, source: Source) -> None:
    """What the source hides of its image, hidden here too."""
    image = source.first
    if source.geometry is not None or not image.get("ShutterShape"):
        return
    for keyword in _SHUTTER:
        if keyword in image:
            dataset.add(copy.deepcopy(image[keyword]))
    if "ShutterPresentationValue" not in dataset:
        dataset.ShutterPresentationValue = 0


def _header(source: Source, k: int) -> Dataset:
    """The image that slice `k` is, or is a frame of."""
    return source.datasets[k] if source.frames is None else source.first


def _of_plane(image: Dataset, plane: Plane, group: str, keyword: str):  # type: ignore[no-untyped-def]
    """`keyword` of a plane, in its functional group where it has those; None where it is nowhere."""
    found = None
    if plane.frame is not None and "PerFrameFunctionalGroupsSequence" in image:
        found = plane_attribute(image, plane.frame, group, keyword, required=False)
    return image.get(keyword) if found is None else found


def _rescale(image: Dataset, plane: Plane, source: Source) -> tuple[str, str, str] | None:
    group = "PixelValueTransformationSequence"
    slope = _of_plane(image, plane, group, "RescaleSlope")
    intercept = _of_plane(image, plane, group, "RescaleIntercept")
    if slope is None or intercept is None:
        return None
    usual = "HU" if source.first.get("Modality") == "CT" else "US"
    return str(intercept), str(slope), str(_of_plane(image, plane, group, "RescaleType") or usual)


def _window(
    image: Dataset, plane: Plane, source: Source, stored: tuple[str, str, str] | None
) -> Dataset | None:
    """The first window of the image, or its first table; None where it has neither.

    In stored values where `stored`, its own rescale intercept and slope, are given.
    """
    group = "FrameVOILUTSequence"
    item = Dataset()
    centre, width = (_of_plane(image, plane, group, one) for one in ("WindowCenter", "WindowWidth"))
    if centre is not None and width is not None:
        item.WindowCenter, item.WindowWidth = _first(centre), _first(width)
        explanation = _of_plane(image, plane, group, "WindowCenterWidthExplanation")
        if explanation:
            item.WindowCenterWidthExplanation = _first(explanation)
        function = _of_plane(image, plane, group, "VOILUTFunction")
        if function:
            item.VOILUTFunction = function
    elif image.get("VOILUTSequence") and stored is None:
        item.VOILUTSequence = [copy.deepcopy(image.VOILUTSequence[0])]
    elif (usual := _USUAL_WINDOW.get(str(source.first.get("Modality")))) is not None:
        item.WindowCenter, item.WindowWidth = usual
    else:
        return None
    if stored is not None and "WindowCenter" in item:
        intercept, slope = float(stored[0]), float(stored[1]) or 1.0
        item.WindowCenter = f"{(float(item.WindowCenter) - intercept) / slope:.10g}"
        item.WindowWidth = f"{float(item.WindowWidth) / abs(slope):.10g}"
    return item


def _first(value: object) -> object:
    return value[0] if isinstance(value, MultiValue | list) else value


def _compared(item: Dataset) -> bytes:
    """Everything in it, byte by byte: as text, tables of one length would all be alike."""
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, item)
    return bytes(out.getvalue())
