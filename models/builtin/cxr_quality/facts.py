"""What the headers say of a chest radiograph: view, greys, exposure. The picture is asked elsewhere."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from models.contract import NotForThisModel
from models.headers import number

#: View Code Sequence in SNOMED CT (CID 4010), and View Position (0018,5101; PS3.3 §C.8.1.1).
_VIEWS = {
    "272479007": "PA", "399348003": "AP", "399033003": "frontal",
    "399067008": "lateral", "399198007": "lateral", "399173006": "lateral",
    "PA": "PA", "AP": "AP", "LL": "lateral", "RL": "lateral", "LAT": "lateral", "LATERAL": "lateral",
}  # fmt: skip
#: The same in SNOMED RT, which older images have (PS3.16, SNOMED Concept ID to SNOMED ID Mapping).
_RETIRED = {
    "R-40888": "272479007", "R-10206": "399348003", "R-10202": "399033003",
    "R-102CD": "399067008", "R-10232": "399198007", "R-10236": "399173006",
}  # fmt: skip
_OTHER = {"RLD": "decubitus", "LLD": "decubitus", "RLO": "oblique", "LLO": "oblique"}
_CHEST = ("CHEST", "THORAX", "LUNG", "TORAX", "THORACIC")
_SHAPES = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the headers of a chest radiograph say; None or an empty string where they do not."""

    view: str  #: "PA", "AP", "frontal", "lateral" or ""
    photometric: str  #: "MONOCHROME1", "MONOCHROME2" or ""
    contradiction: str  #: of the two attributes that say how greys are shown; a sentence, or ""
    mirrored: bool  #: rows run towards the patient's right, so the heart is shown at the left
    exposure_index: float | None
    target_index: float | None
    deviation: float | None  #: as sent, else 10 log10 of the quotient of the two (IEC 62494-1)
    steps: float | None  #: how many grey steps can be stored, in units of the pixels that a model is given

    @property
    def frontal(self) -> bool:
        """Whether the headers say or allow that it is frontal."""
        return self.view != "lateral"


def read(headers: Mapping[str, str]) -> Said:
    """Raises `NotForThisModel` where the headers name another part of the body, another view, or frames."""
    part = headers.get("BodyPartExamined", "").strip().upper()
    if part and not any(word in part for word in _CHEST):
        raise NotForThisModel(f"The body part is said to be {part.lower()}; this model looks at chests.")
    if number(headers.get("NumberOfFrames", "1")) > 1:
        raise NotForThisModel("The image has several frames; this model looks at single radiographs.")
    index, target = _positive(headers, "ExposureIndex"), _positive(headers, "TargetExposureIndex")
    deviation = _number(headers, "DeviationIndex")
    if deviation is None and index and target:
        deviation = 10 * math.log10(index / target)
    photometric = headers.get("PhotometricInterpretation", "").strip()
    view = _view(headers)
    return Said(
        view=view,
        photometric=photometric if photometric in _SHAPES else "",
        contradiction=_contradiction(photometric, headers.get("PresentationLUTShape", "").strip()),
        mirrored=view != "lateral" and headers.get("PatientOrientation", "").upper().startswith("R"),
        exposure_index=index,
        target_index=target,
        deviation=deviation,
        steps=_steps(headers),
    )


def _view(headers: Mapping[str, str]) -> str:
    code = headers.get("ViewCodeSequence", "").strip()
    said = headers.get("ViewPosition", "").strip().upper()
    if said in _OTHER:
        raise NotForThisModel(
            f"The view is said to be {_OTHER[said]}; this model looks at frontal and lateral radiographs."
        )
    return _VIEWS.get(_RETIRED.get(code, code), "") or _VIEWS.get(said, "")


def _contradiction(photometric: str, shape: str) -> str:
    """Presentation LUT Shape has to be INVERSE with MONOCHROME1 and IDENTITY with 2 (PS3.3 §C.8.11.3.1)."""
    wanted = _SHAPES.get(photometric, "")
    if wanted and shape in _SHAPES.values() and shape != wanted:
        return (
            f"The headers contradict each other: {photometric} with the Presentation LUT Shape {shape}. "
            "Viewers may show the image inverted."
        )
    return ""


def _steps(headers: Mapping[str, str]) -> float | None:
    bits = number(headers.get("BitsStored", ""))
    slope = abs(number(headers.get("RescaleSlope", "1"))) or 1.0
    return (2.0**bits - 1) * slope if 1 <= bits <= 32 else None


def _positive(headers: Mapping[str, str], keyword: str) -> float | None:
    value = _number(headers, keyword)
    return value if value is not None and value > 0 else None


def _number(headers: Mapping[str, str], keyword: str) -> float | None:
    try:
        value = float(headers.get(keyword, ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
