"""Are these images what the model's manifest asks for? Asked before any model runs, and answered in words.

A rule may only narrow what a manifest says, and a manifest is written by whoever knows the model: so its
conditions hold whatever the rules of a site let through.
"""

import re
from collections.abc import Mapping

from dicom_node.conditions import contrast_given
from models.contract import BrokenModel
from models.manifest import Input
from results.source import Source

# A hundredth of a millimetre is rounding of positions.
_ROUNDING_MM = 0.01


def why_unsuitable(
    wanted: Input, headers: Mapping[str, str], source: Source, *, model: str, about: str = ""
) -> str | None:
    """The first condition of `wanted` that does not hold, as a sentence; None where the model may look.

    `headers` are keyword → text, `source` is the series that was loaded or the one image. `about` begins the
    sentence where there are several series. Raises `BrokenModel` for a condition that cannot be asked.
    """
    because = (
        _modality(wanted, headers)
        or _body_part(wanted, headers)
        or _patterns(wanted, headers)
        or _contrast(wanted, headers)
        or _slices(wanted, source)
    )
    if because is None:
        return None
    found, asked = because
    sentence = f"{about}{found}; {model} is made for {asked}."
    return sentence[:1].upper() + sentence[1:]


_Because = tuple[str, str] | None  #: what was found, and what is asked


def _modality(wanted: Input, headers: Mapping[str, str]) -> _Because:
    found = headers.get("Modality", "").strip().upper()
    if found in wanted.modality:
        return None
    return f"modality is {found or 'not given'}", " or ".join(wanted.modality)


def _body_part(wanted: Input, headers: Mapping[str, str]) -> _Because:
    """One that is not given contradicts nothing: many scanners leave it out."""
    found = headers.get("BodyPartExamined", "").strip().upper()
    if not wanted.body_part or not found or found in {part.upper() for part in wanted.body_part}:
        return None
    return f"body part is {found}", " or ".join(wanted.body_part)


def _patterns(wanted: Input, headers: Mapping[str, str]) -> _Because:
    patterns = dict(wanted.attributes)
    if wanted.description is not None:
        patterns["SeriesDescription"] = wanted.description
    for keyword, pattern in sorted(patterns.items()):
        found = headers.get(keyword, "").strip()
        try:
            fits = re.search(pattern, found, re.IGNORECASE) is not None
        except re.error as error:
            raise BrokenModel(f"{pattern!r} of the manifest is no regular expression: {error}") from error
        if not fits:
            # Free text is not quoted: who typed it may have named the patient.
            return f"{keyword} {'does not match' if found else 'is not given'}", f"/{pattern}/"
    return None


def _contrast(wanted: Input, headers: Mapping[str, str]) -> _Because:
    if wanted.contrast is None:
        return None
    given = contrast_given(headers)
    if given is wanted.contrast:
        return None
    words = {True: "images with contrast medium", False: "images without contrast medium"}
    return ("a contrast medium was given" if given else "no contrast medium is named"), words[wanted.contrast]


def _slices(wanted: Input, source: Source) -> _Because:
    if source.geometry is None:
        return None
    slices = source.geometry.spatial_shape[0]
    if slices < wanted.minimum_slices:
        return f"there are {slices} slices", f"at least {wanted.minimum_slices}"
    spacing_mm = float(source.geometry.spacing[0])
    if wanted.spacing_max_mm is not None and spacing_mm > wanted.spacing_max_mm + _ROUNDING_MM:
        return f"slices are {spacing_mm:.2f} mm apart", f"at most {wanted.spacing_max_mm:g} mm"
    return None
