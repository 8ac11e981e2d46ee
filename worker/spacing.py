"""How large a pixel of a single image is, and where: in the patient, or on the detector.

A radiograph is a shadow. Its Imager Pixel Spacing is that of the detector's front, where everything is larger
than in the patient; its Pixel Spacing may say the same once more, or be calibrated to a place in the patient.
PS3.3 §10.7.1.1 tells the two apart by whether they differ, or by a calibration type.
"""

from dataclasses import dataclass

from pydicom import Dataset

from worker.elements import HeaderUnreadable, numbers_of, value_of

Spacing = tuple[float, float]

#: (0018,602C): physical deltas are in centimetres for this unit (PS3.3 §C.8.5.5.1.15).
_CENTIMETRES = 3
#: (0018,6012): a region of tissue in two dimensions; traces and curves have other axes.
_TISSUE = 1
# Closer than this a magnification is one, and two spacings are the same: decimal strings are rounded.
_SAME = 1e-4
#: No patient is imaged with more; a larger quotient is a mistake.
_MAGNIFICATION_MAXIMUM = 5.0


@dataclass(frozen=True, slots=True)
class PixelSize:
    """Distances between rows and between columns in mm, and the sentence that a reader of lengths needs."""

    spacing_mm: Spacing | None
    caution: str = ""


def pixel_size(dataset: Dataset) -> PixelSize:
    """The size of the pixels of an image that is no slice. Values that cannot be are as if not there."""
    pixel, imager = _pair(dataset, "PixelSpacing"), _pair(dataset, "ImagerPixelSpacing")
    imager = imager or _pair(dataset, "NominalScannedPixelSpacing")
    if imager is None:
        if pixel is None:
            pixel = _of_ultrasound(dataset)
        if pixel is not None:
            return PixelSize(pixel)
        return PixelSize(None, _shape_only(dataset))
    calibrated = _text(dataset, "PixelSpacingCalibrationType")
    if pixel is not None and (calibrated or not _same(pixel, imager)):
        how = f" ({calibrated.lower()})" if calibrated else ""
        return PixelSize(
            pixel,
            f"Lengths hold at the one depth that Pixel Spacing was calibrated to{how}, and nowhere else.",
        )
    magnification = _magnification(dataset)
    if magnification is None:
        return PixelSize(
            imager,
            "Lengths are those on the detector, larger than in the patient: the magnification is not known.",
        )
    inside = (imager[0] / magnification, imager[1] / magnification)
    return PixelSize(
        inside, f"Lengths are those on the detector divided by the estimated magnification {magnification:g}."
    )


def _magnification(dataset: Dataset) -> float | None:
    """How many times larger the shadow is: said, or the quotient of distances that it is defined as."""
    said = _number(dataset, "EstimatedRadiographicMagnificationFactor")
    if said is None:
        detector, patient = (
            _number(dataset, "DistanceSourceToDetector"),
            _number(dataset, "DistanceSourceToPatient"),
        )
        said = detector / patient if detector and patient else None
    return said if said is not None and 1 - _SAME <= said <= _MAGNIFICATION_MAXIMUM else None


def tissue_regions(dataset: Dataset) -> list[Dataset]:
    """The regions of an ultrasound image that show tissue; the rest of it is text, scales and traces."""
    try:
        regions = value_of(dataset, "SequenceOfUltrasoundRegions") or []
    except HeaderUnreadable:
        return []
    return [region for region in regions if _number(region, "RegionSpatialFormat") == _TISSUE]


def _of_ultrasound(dataset: Dataset) -> Spacing | None:
    """From the regions of an ultrasound image (PS3.3 §C.8.5.5), where those of tissue agree."""
    found: set[Spacing] = set()
    for region in tissue_regions(dataset):
        units = {_number(region, f"PhysicalUnits{axis}Direction") for axis in "XY"}
        down, along = _number(region, "PhysicalDeltaY"), _number(region, "PhysicalDeltaX")
        if units != {_CENTIMETRES} or not down or not along:
            return None
        found.add((abs(down) * 10, abs(along) * 10))
    return found.pop() if len(found) == 1 else None


def _shape_only(dataset: Dataset) -> str:
    """What is known of pixels without a size: Pixel Aspect Ratio (0028,0034), vertical : horizontal."""
    ratio = _numbers(dataset, "PixelAspectRatio")
    if len(ratio) == 2 and min(ratio) > 0 and abs(ratio[0] / ratio[1] - 1) > _SAME:
        return f"The pixels are not square ({ratio[0]:g} : {ratio[1]:g}), and their size is not known."
    return ""


def _same(one: Spacing, other: Spacing) -> bool:
    return all(abs(a - b) <= _SAME * max(a, b) for a, b in zip(one, other, strict=True))


def _pair(dataset: Dataset, keyword: str) -> Spacing | None:
    numbers = _numbers(dataset, keyword)
    return (numbers[0], numbers[1]) if len(numbers) == 2 and all(0 < x < 1e3 for x in numbers) else None


def _number(dataset: Dataset, keyword: str) -> float | None:
    numbers = _numbers(dataset, keyword)
    return numbers[0] if len(numbers) == 1 else None


def _numbers(dataset: Dataset, keyword: str) -> list[float]:
    try:
        return numbers_of(dataset, keyword)
    except HeaderUnreadable:
        return []


def _text(dataset: Dataset, keyword: str) -> str:
    try:
        return str(value_of(dataset, keyword) or "").strip()
    except HeaderUnreadable:
        return ""
