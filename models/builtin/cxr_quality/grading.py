"""
From the numbers of an image to words: a grade for each aspect, and a caution wherever somebody should look
again before the image is read.

Bounds are ours, set on phantoms and on the radiographs of CARD.md. Only that of the exposure needs no choice:
a deviation index of 3 is twice the exposure that was aimed at, -3 half of it (IEC 62494-1: 10 log10).
"""

import math
from dataclasses import dataclass

from models.builtin.cxr_quality.facts import Said
from models.builtin.cxr_quality.greys import Greys
from models.builtin.cxr_quality.lie import Lie
from models.builtin.cxr_quality.lungs import Lungs, find_lungs
from models.images.grid import Plane
from results import codes
from results.findings import Concept, Grade, Measurement

_MARGIN = 3.0  #: of the fit: less than that better turned is no suspicion
_TURNED_FIT = 6.0  #: nor is what fits worse even when it is put right
_SURE_FIT = 8.0  #: without two lungs; half of the films fit better, and no drawn shape but a chest
_FRONTAL_FIT = 4.5  #: 97 % of frontal films of adults fit better, and all of children; lateral phantoms: 4.0
_LEAST_FIT = 2.0  #: of a frontal film that is badly centred
_MIDDLE = 0.36  #: by so much, in ranks, its middle is brighter than two lungs; lateral phantoms: up to 0.33
_TWO = 0.2  #: the same for two lungs at all, once a film is put right
_TWICE = 3.0  #: deviation index
_CLIPPED_BLACK = 0.05  #: of the lungs
_CLIPPED_WHITE = 0.25  #: of the field
_NOISY = 12.0  #: contrast over noise
_UNSHARP = 3.0  #: thousandths of the longer side: wider blur is seen without a magnifying glass

_VIEWS = {
    "PA": codes.POSTERO_ANTERIOR,
    "AP": codes.ANTERO_POSTERIOR,
    "frontal": codes.FRONTAL,
    "lateral": codes.LATERAL,
    "": codes.NOT_STATED,
}
_Judged = tuple[Grade, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen on the image."""

    lie: Lie
    turned: bool  #: it lies so much better in another way that somebody should look
    seen: Lungs | None  #: what looks like two lungs, once it is put right
    greys: Greys
    edge: float  #: blur in thousandths of the longer side; not finite where no edge is sharp

    @property
    def fit(self) -> float:
        """How well it fits a frontal chest, as it was sent or, where it is turned, put right."""
        return self.lie.fit if self.turned else self.lie.as_sent

    @property
    def frontal(self) -> bool:
        """Whether it looks like a frontal view."""
        two = self.seen is not None and self.seen.middle >= _MIDDLE
        return self.fit >= _FRONTAL_FIT or (two and self.fit >= _LEAST_FIT)

    def lungs(self, said: Said) -> Lungs | None:
        """Those that can be trusted: on what is, and looks like, an upright frontal view."""
        return self.seen if said.frontal and self.frontal and not self.turned else None


def is_turned(lie: Lie, field: Plane) -> bool:
    """Whether it lies much better, and well, in another way; very well, if no two lungs are seen then."""
    if lie.upright or lie.fit - lie.as_sent < _MARGIN or lie.fit < _TURNED_FIT:
        return False
    lungs = find_lungs(lie.righted(field))
    return lie.fit >= _SURE_FIT or (lungs is not None and lungs.middle >= _TWO)


def judge(said: Said, look: Look) -> tuple[tuple[Grade, ...], tuple[str, ...]]:
    """The grades and the cautions."""
    judged = (
        *_views(said, look),
        *_greys(said),
        _orientation(said, look),
        _collimation(said, look),
        _exposure(said, look),
        _sharpness(look),
    )
    return tuple(grade for grade, _ in judged), tuple(caution for _, caution in judged if caution)


def _grade(label: str, value: Concept, *inputs: Measurement, scale: Concept = codes.IMAGE_QUALITY) -> Grade:
    return Grade(label=label, scale=scale, value=value, inputs=inputs)


def _views(said: Said, look: Look) -> list[_Judged]:
    stated = _grade("View, by the headers", _VIEWS[said.view], scale=codes.IMAGE_VIEW)
    seen = codes.FRONTAL if look.frontal else codes.NOT_FRONTAL
    pictured = _grade("View, by the picture", seen, scale=codes.IMAGE_VIEW)
    judged = [(stated, ""), (pictured, "")]
    if said.view == "lateral":
        if look.frontal:
            wrong = "The headers say lateral, and the image looks like a frontal chest: check the view."
            return [*judged, (_grade("View", codes.VIEW_CONTRADICTED), wrong)]
        limit = "A lateral view by its headers: only field, exposure, noise and sharpness were judged."
        return [*judged, (_grade("View", codes.INCONSPICUOUS), limit)]
    if said.view and not look.frontal:
        name = f"{said.view} view" if said.view != "frontal" else "frontal view"
        wrong = f"The headers say {name}, and the image does not look like a usual one: check the view."
        return [*judged, (_grade("View", codes.VIEW_CONTRADICTED), wrong)]
    if said.view in ("PA", "AP"):
        return [*judged, (_grade("View", codes.INCONSPICUOUS), "")]
    unknown = "Frontal by its looks; whether PA or AP is not in the headers, and was not guessed."
    return [*judged, (_grade("View", codes.NOT_JUDGED), unknown)]


def _greys(said: Said) -> list[_Judged]:
    stated = codes.MONOCHROME.get(said.photometric, codes.NOT_STATED)
    judged = [(_grade("Greys, by the headers", stated, scale=codes.PHOTOMETRIC), said.contradiction)]
    if said.mirrored:
        mirror = "The headers say that the left of the image is the patient's left: it is shown mirrored."
        judged.append((_grade("Side", codes.SIDE_CONTRADICTED), mirror))
    return judged


def _orientation(said: Said, look: Look) -> _Judged:
    label = "Orientation and greys"
    if not said.frontal or not (look.turned or look.frontal):
        return _grade(label, codes.NOT_JUDGED), ""
    if not look.turned:
        return _grade(label, codes.INCONSPICUOUS), ""
    words = []
    if look.lie.inverted:
        words.append("its grey values are inverted (MONOCHROME1 called MONOCHROME2, or the other way round)")
    if look.lie.turned_deg:
        turn = look.lie.turned_deg
        words.append("it is upside down" if turn == 180 else f"it is turned by {turn} degrees clockwise")
    value = codes.GREYS_INVERTED if look.lie.inverted else codes.TURNED
    return _grade(label, value), f"The image looks as if {' and '.join(words)}: check it before it is read."


def _collimation(said: Said, look: Look) -> _Judged:
    label = "Collimation"
    lungs = look.lungs(said)
    if lungs is None:
        unseen = "Whether the lungs are cut off was not judged: two dark lungs were not seen."
        return _grade(label, codes.NOT_JUDGED), unseen if said.frontal and not look.turned else ""
    if parts := lungs.cut_off:
        return _grade(label, codes.CUT_OFF), f"The field probably cuts off {' and '.join(parts)}."
    return _grade(label, codes.INCONSPICUOUS), ""


def _exposure(said: Said, look: Look) -> _Judged:
    label = "Exposure"
    number: tuple[Measurement, ...] = ()
    if said.deviation is not None:
        number = (Measurement(name=codes.DEVIATION_INDEX, value=said.deviation, unit=codes.NO_UNITS),)
        if abs(said.deviation) >= _TWICE:
            times = 10 ** (abs(said.deviation) / 10)
            over = said.deviation > 0
            part = f"{times:.1f} times" if over else f"1/{times:.1f} of"
            return (
                _grade(label, codes.OVER_EXPOSED if over else codes.UNDER_EXPOSED, *number),
                f"The detector got {part} the exposure that was aimed at (deviation index "
                f"{said.deviation:+.1f}).",
            )
    if look.lungs(said) is not None and look.greys.black >= _CLIPPED_BLACK:
        return (
            _grade(label, codes.CLIPPED, *number),
            f"{100 * look.greys.black:.0f} % of the lungs are at the darkest value: nothing is seen there.",
        )
    if look.greys.white >= _CLIPPED_WHITE:
        return (
            _grade(label, codes.CLIPPED, *number),
            f"{100 * look.greys.white:.0f} % of the field are at the brightest value: nothing is seen there.",
        )
    return _grade(label, codes.INCONSPICUOUS if number else codes.NOT_JUDGED, *number), ""


def _sharpness(look: Look) -> _Judged:
    label = "Noise and sharpness"
    if look.greys.noise_ratio < _NOISY:
        return (
            _grade(label, codes.NOISY),
            f"The image is noisy: its contrast is only {look.greys.noise_ratio:.0f} times its noise.",
        )
    if not math.isfinite(look.edge):
        return _grade(label, codes.NOT_JUDGED), ""
    if look.edge >= _UNSHARP:
        return (
            _grade(label, codes.UNSHARP),
            "The image is unsharp: its sharpest edges are blurred (motion, a very small original, or "
            "smoothing).",
        )
    return _grade(label, codes.INCONSPICUOUS), ""
