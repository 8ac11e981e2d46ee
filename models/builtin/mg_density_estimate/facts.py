"""
What the headers say of a mammogram: which view of which breast, how it was made, and whether it can be used.

View Code Sequence and its modifiers (CID 4014, CID 4015) reach a model as the text of their code values.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from models.contract import NotForThisModel
from models.headers import number

#: CID 4014, in SNOMED CT.
_OBLIQUE = {"399368009", "399099002", "441555000", "399188001"}
_CRANIO_CAUDAL = {"399162004", "399192008", "399101009"}
_SPECIMEN = "127457009"
_OTHER = {
    "399260004": "medio-lateral", "399352003": "latero-medial", "399196006": "caudo-cranial",
    "ML": "medio-lateral", "LM": "latero-medial", "FB": "caudo-cranial",
}  # fmt: skip
#: CID 4015: of a part of the breast, or larger than life.
_MODIFIERS = {
    "399055006": "spot compression", "399163009": "magnification", "399011000": "axillary tail",
    "399161006": "cleavage", "399110001": "tangential", "442580003": "axillary tissue",
    "399209000": "implant displaced", "441752004": "anterior compression",
}  # fmt: skip
#: The same in SNOMED RT, which older images have (PS3.16, SNOMED Concept ID to SNOMED ID Mapping).
_RETIRED = {
    "R-10226": "399368009", "R-10230": "399099002", "R-40AAA": "441555000", "R-102D0": "399188001",
    "R-10242": "399162004", "R-1024A": "399192008", "R-1024B": "399101009", "G-8310": "127457009",
    "R-10224": "399260004", "R-10228": "399352003", "R-10244": "399196006",
    "R-102D7": "399055006", "R-102D6": "399163009", "R-102D1": "399011000", "R-102D2": "399161006",
    "R-102C2": "399110001", "R-40AB2": "442580003", "R-102D5": "399209000", "P2-00161": "441752004",
}  # fmt: skip
_MAGNIFIED = 1.2  # a breast on a standard table is magnified by less
_TOMOSYNTHESIS = "1.2.840.10008.5.1.4.1.1.13.1.3"
_KINDS = {
    "TOMO": "tomosynthesis", "TOMOSYNTHESIS": "tomosynthesis", "TOMO_PROJ": "tomosynthesis",
    "TOMO_2D": "a synthetic image from tomosynthesis", "GENERATED_2D": "a synthetic image from tomosynthesis",
    "STEREO": "a stereotactic image", "SPECIMEN": "a specimen",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mammogram:
    """What the headers of a usable mammogram say; an empty string where they do not."""

    view: str  #: "CC" or "MLO"; other views are refused
    side: str  #: "R", "L" or ""
    processing: bool  #: for processing: before the unit made it fit to be looked at
    wall: str  #: the side of the image where the chest wall is, by Patient Orientation: "left", "right" or ""


def read(headers: Mapping[str, str]) -> Mammogram:
    """Raises `NotForThisModel` for what is no standard view of a whole breast without an implant."""
    _refuse_kinds(headers)
    intent = headers.get("PresentationIntentType", "").strip().upper()
    side = headers.get("ImageLaterality", "").strip().upper() or headers.get("Laterality", "").strip().upper()
    if side == "B":
        raise NotForThisModel("The image is said to show both breasts; one breast is measured at a time.")
    return Mammogram(
        view=_view(headers),
        side=side if side in ("R", "L") else "",
        processing=intent == "FOR PROCESSING",
        wall=_wall(headers),
    )


def _refuse_kinds(headers: Mapping[str, str]) -> None:
    if headers.get("SOPClassUID") == _TOMOSYNTHESIS or number(headers.get("NumberOfFrames", "1")) > 1:
        raise NotForThisModel("This is tomosynthesis; the model reads two-dimensional mammograms.")
    for word in headers.get("ImageType", "").upper().split("\\"):
        if word in _KINDS:
            raise NotForThisModel(f"The headers say that this is {_KINDS[word]}, not a standard mammogram.")
    if headers.get("BreastImplantPresent", "").strip().upper() == "YES":
        raise NotForThisModel("The breast has an implant: its area and density would be wrong.")
    if headers.get("PartialView", "").strip().upper() == "YES":
        raise NotForThisModel("The headers say that the image shows a part of the breast only.")
    if headers.get("QualityControlImage", "").strip().upper() == "YES":
        raise NotForThisModel("This is an image for quality control, not of a breast.")
    for code in headers.get("ViewModifierCodeSequence", "").split("\\"):
        if modifier := _MODIFIERS.get(_RETIRED.get(code, code)):
            raise NotForThisModel(f"This is a special view ({modifier}), not one of a whole breast.")
    factor = number(headers.get("EstimatedRadiographicMagnificationFactor", ""))
    if factor > _MAGNIFIED:
        raise NotForThisModel(f"The image is magnified {factor:g} times, and shows a part of the breast.")


def _view(headers: Mapping[str, str]) -> str:
    code = headers.get("ViewCodeSequence", "").strip()
    code = _RETIRED.get(code, code)
    said = headers.get("ViewPosition", "").strip().upper()
    if code == _SPECIMEN:
        raise NotForThisModel("This is the image of a specimen, not of a breast.")
    if other := _OTHER.get(code) or _OTHER.get(said):
        raise NotForThisModel(
            f"The view is {other}; cranio-caudal and medio-lateral oblique views are measured."
        )
    if code in _OBLIQUE or said in ("MLO", "LMO"):
        return "MLO"
    if code in _CRANIO_CAUDAL or said in ("CC", "XCCL", "XCCM"):
        return "CC"
    raise NotForThisModel("The headers do not say which view of the breast this is (CC or MLO).")


def _wall(headers: Mapping[str, str]) -> str:
    """Rows that run towards the back end at the chest wall (Patient Orientation, PS3.3 §C.7.6.1.1.1)."""
    along = headers.get("PatientOrientation", "").upper().split("\\")[0]
    return {"P": "right", "A": "left"}.get(along[:1], "")


def transmitted(headers: Mapping[str, str]) -> tuple[str, float]:
    """Pixel Intensity Relationship and its sign (PS3.3 §C.8.11.3.1.2) of an image for processing.

    Raises `NotForThisModel` where they are not known: without them nobody can say what is dense.
    """
    relation = headers.get("PixelIntensityRelationship", "").strip().upper()
    sign = number(headers.get("PixelIntensityRelationshipSign", ""))
    if relation not in ("LIN", "LOG") or sign not in (1.0, -1.0):
        raise NotForThisModel(
            "The image is for processing, and its headers do not say how its values follow the exposure."
        )
    return relation, sign
