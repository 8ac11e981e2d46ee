"""What is measured of `cxr_quality`: phantoms whose field, lungs and lie are known, and real films."""

import csv
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from benchmarks.chest_lie import held_out
from benchmarks.cxr_films import ADULT, CHILD, KERMANY, NIH, chosen, every_film
from benchmarks.measured import DATA, Agreement, Measured, Row, agreement
from models.builtin.cxr_quality.model import ChestQuality
from models.contract import Context, Image
from models.training.film_faults import collimated, inverted, turned, unsharp
from models.training.radiographs import Radiograph, View, radiograph, shadow_mm
from models.training.thorax import Patient
from models.training.thorax_build import Build
from results import codes
from results.findings import Concept, Findings
from worker.load_image import load_image

_BUILDS = (
    Build(),
    Build(width=1.15, fat_mm=25, bend_mm=4, seed=2),
    Build(width=0.9, height=1.1, heart=1.2, bend_mm=4, seed=3),
    Build(scale=0.7, bend_mm=3, seed=4),
)
_MARGINS = ((20, 30, 40, 25), (35, 12, 18, 45))  # pixels: above, below, left, right
_SIDES = ("upper", "lower", "left", "right")
_DEEP_MM = 50.0  # a lung begins where rays run through so much of it
_FILMS = 120  # of each group
_WAYS = [(degrees, negative) for degrees in (0, 90, 180, 270) for negative in (False, True)]
_MODEL = ChestQuality()


@cache
def _phantoms(view: View = "PA") -> tuple[Radiograph, ...]:
    return tuple(
        radiograph(
            Patient(seed=seed, build=build), view, pixel_mm=1.2 * build.scale, voxel_mm=3.0 * build.scale
        )
        for seed, build in enumerate(_BUILDS)
    )


def _said(pixels: NDArray[np.generic], mm: float | None, **headers: str) -> Findings:
    stated = {"Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "PA"} | headers
    image = Image(array=pixels, spacing_mm=(mm, mm) if mm else None, headers=stated)
    return _MODEL.run(image, Context(headers=stated))


def _of(film: Radiograph, **headers: str) -> Findings:
    return _said(film.pixels, film.spacing_mm, BitsStored="12", **headers)


def _value(findings: Findings, name: Concept) -> float:
    """0 where there is none: no margin was found."""
    return next((one.value for one in findings.measurements if one.name == name), 0.0)


def _grade(findings: Findings, label: str) -> str:
    return next((one.value.meaning for one in findings.grades if one.label == label), "refused")


def edges() -> Iterator[Row]:
    """Each edge of the field of each phantom, collimated in two ways."""
    for how, name in (("shutter", "black: a shutter"), ("unexposed", "white: no exposure")):
        pairs = [
            (_value(findings, codes.MARGIN_OF_IMAGE[side]), lines * film.spacing_mm)
            for film, margins in product(_phantoms(), _MARGINS)
            for findings in [_of(collimated(film, margins, "shutter" if how == "shutter" else "unexposed"))]
            for side, lines in zip(_SIDES, margins, strict=True)
        ]
        yield f"width of the margin, {name}", *agreement(*zip(*pairs, strict=True)).cells("mm")


def lungs() -> Iterator[Row]:
    """Where the lungs end on the films of the phantoms, counted from the edges of the image."""
    pairs: dict[str, list[tuple[float, float]]] = {side: [] for side in _SIDES}
    for film in _phantoms():
        findings = _of(film)
        dark = shadow_mm(film, film.drawn.lobes > 0) > _DEEP_MM
        rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
        truth = (rows[0], len(dark) - 1 - rows[-1], columns[0], dark.shape[1] - 1 - columns[-1])
        for side, lines in zip(_SIDES, truth, strict=True):
            seen = _value(findings, codes.LUNGS_TO_EDGE[side])
            seen += _value(findings, codes.MARGIN_OF_IMAGE[side])
            pairs[side].append((seen, float(lines) * film.spacing_mm))
    for side, some in pairs.items():
        yield f"lungs to the {side} edge", *agreement(*zip(*some, strict=True)).cells("mm")


def lies() -> Iterator[Row]:
    """Each phantom in each of the eight ways, and its lateral film under either name."""
    for degrees, negative in _WAYS:
        right = 0
        for film in _phantoms():
            faulty = turned(film, degrees)  # type: ignore[arg-type]
            findings = _of(inverted(faulty) if negative else faulty)
            right += _named(findings, degrees, negative=negative)
        yield f"turned by {degrees} degrees{', negative' * negative}", f"{right} of {len(_BUILDS)} named"
    for position, name in (("LL", "lateral, called lateral"), ("PA", "lateral, called PA")):
        doubted = [
            _grade(_of(film, ViewPosition=position), "View") == codes.VIEW_CONTRADICTED.meaning
            for film in _phantoms("LATERAL")
        ]
        yield name, f"{sum(doubted)} of {len(_BUILDS)} doubted"
    doubted = [
        _grade(_of(film, ViewPosition="LL"), "View") == codes.VIEW_CONTRADICTED.meaning
        for film in _phantoms()
    ]
    yield "frontal, called lateral", f"{sum(doubted)} of {len(_BUILDS)} doubted"


def _named(findings: Findings, degrees: int, *, negative: bool) -> bool:
    """Whether the way in which an image lies is what the cautions say."""
    words = " ".join(findings.cautions)
    turn = {0: "turned" not in words and "upside" not in words, 180: "upside down" in words}.get(
        degrees, f"turned by {degrees} degrees" in words
    )
    return bool(findings.grades) and turn and ("inverted" in words) == negative


def steps() -> Iterator[Row]:
    """Blur and noise that were added to one film, and what was measured."""
    film = _phantoms()[0]
    for mm in (0.0, 1.0, 2.0, 3.0, 4.0):
        seen = _value(_of(unsharp(film, mm)), codes.EDGE_BLUR)
        yield f"blurred by {mm:g} mm", f"blur {seen:.1f} mm"
    random = np.random.default_rng(5)
    grain = random.normal(size=film.pixels.shape)
    spread = float(np.subtract(*np.percentile(film.pixels, (95, 5))))
    for sigma in (50.0, 100.0, 200.0, 400.0):
        noisy = np.clip(film.pixels + sigma * grain, 0, 4095).astype(np.uint16)
        seen = _value(_said(noisy, film.spacing_mm), codes.CONTRAST_TO_NOISE)
        yield (
            f"noise of {sigma:g} of 4095 steps",
            f"contrast over noise {seen:.0f} (of the film {spread / sigma:.0f})",
        )


def films() -> Iterator[Row]:
    """Films of patients on whom no weight was fitted, as they are, and then each in one faulty way."""
    for name, group in (("adults", ADULT), ("children", CHILD)):
        kept = [film for film in chosen(every_film(DATA)) if film.group == group and held_out(film)]
        kept = kept[:: max(1, len(kept) // _FILMS)][:_FILMS]
        planes = [_grey(film.path) for film in kept]
        as_sent = [_said(plane, None, BitsStored="8") for plane in planes]
        yield f"{name}, as they are", *_counts(as_sent, lambda _, one: _named(one, 0, negative=False))
        ways = [_WAYS[1 + number % 7] for number in range(len(planes))]
        faulty = [
            _said(_faulty(plane, *way), None, BitsStored="8") for plane, way in zip(planes, ways, strict=True)
        ]
        yield (
            f"{name}, turned or negative or both",
            *_counts(faulty, lambda k, one, ways=ways: _named(one, ways[k][0], negative=ways[k][1])),
        )


def _counts(found: list[Findings], right: Callable[[int, Findings], bool]) -> tuple[str, ...]:
    named = sum(right(number, one) for number, one in enumerate(found))
    refused = sum(not one.grades for one in found)
    frontal = sum(_grade(one, "View, by the picture") == codes.FRONTAL.meaning for one in found)
    cut = sum(_grade(one, "Collimation") == codes.CUT_OFF.meaning for one in found)
    total = len(found)
    return (
        f"{named} of {total}",
        str(total - named - refused),
        str(refused),
        f"{frontal} of {total}",
        str(cut),
    )


def _faulty(plane: NDArray[np.uint8], degrees: int, negative: bool) -> NDArray[np.uint8]:
    faulty = np.ascontiguousarray(np.rot90(plane, -degrees // 90))
    return np.asarray(255 - faulty if negative else faulty, np.uint8)


def _grey(path: Path) -> NDArray[np.uint8]:
    with Picture.open(path) as picture:
        return np.asarray(picture.convert("L"))


def cases() -> Iterator[Row]:
    """Every film of adults that no weight was fitted to, one by one."""
    with (DATA / "cxr_nih11" / "Data_Entry_2017.csv").open() as lines:
        known = {row["ImageIndex"]: row["ViewPosition"] for row in csv.DictReader(lines)}
    for path in sorted((DATA / "cxr_nih11" / "images").glob("*.png")):
        view = known[path.name]
        yield path.stem, view, *_case(_said(_grey(path), None, BitsStored="8", ViewPosition=view))
    for path in sorted((DATA / "cxr_dicom_rsna1").glob("*.dcm")):
        image = load_image(path).image
        twin = "the same pixels called MONOCHROME1" if "MONO" in path.name else "PA, MONOCHROME2"
        yield path.stem[-14:], twin, *_case(_MODEL.run(image, Context(headers=image.headers)))


def _case(findings: Findings) -> tuple[str, ...]:
    labels = ("View, by the picture", "Orientation and greys", "Collimation")
    share = f"{_value(findings, codes.FIELD_SHARE):.0f} %"
    said = "; ".join(findings.cautions[1:]) or "none"
    return *(_grade(findings, label) for label in labels), share, said


TABLES = (
    Measured(
        name="field",
        title="Edges of the field, four phantoms collimated to two fields each, pixels of 0.8 to 1.2 mm",
        columns=("what", *Agreement.COLUMNS),
        rows=edges,
    ),
    Measured(
        name="lungs",
        title="Where the lungs end, four phantoms",
        columns=("what", *Agreement.COLUMNS),
        rows=lungs,
        note=f"In truth a lung begins where rays run through {_DEEP_MM:g} mm of it: thinner is hardly dark.",
    ),
    Measured(
        name="lies",
        title="How four phantoms lie, and what they are called",
        columns=("film", "what was said"),
        rows=lies,
    ),
    Measured(
        name="steps",
        title="Blur and noise, one phantom",
        columns=("film", "measured"),
        rows=steps,
        note="The film has a blur of its own, and a little noise.",
    ),
    Measured(
        name="films",
        title=f"Real films of {_FILMS} adults and {_FILMS} children on whom no weight was fitted",
        columns=(
            "films",
            "said rightly how it lies",
            "wrongly",
            "refused",
            "frontal by the picture",
            "cut off",
        ),
        rows=films,
        needs=(KERMANY, NIH),
        note="Small pictures (384 and 224 pixels) of two sets; thresholds were set with both in view.",
    ),
    Measured(
        name="cases",
        title="Films of adults, case by case",
        columns=(
            "film",
            "its source says",
            "view",
            "orientation and greys",
            "collimation",
            "field",
            "cautions",
        ),
        rows=cases,
        needs=("cxr_nih11", "cxr_dicom_rsna1"),
    ),
)
