"""
A patient drawn by lot: build, nodules and their mimics, diseases, calcium, contrast and scanner.

Two generators. The first is the full thorax. The second, held out for tests of what was trained on the first,
is differently built: the plain chest's anatomy and trees (`chest_anatomy`, `chest_trees`) and its noise, with
nodules of another family, superellipsoids whose surface a random field pushes in and out.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from models.training import thorax_anatomy as anatomy
from models.training.coronaries import ARTERIES, calcified
from models.training.lesions import (
    Attached,
    Calcification,
    Disease,
    Illness,
    Kind,
    LookAlike,
    Mimic,
    Nodule,
    NoduleTruth,
    Point,
)
from models.training.nodule_shapes import axes_mm
from models.training.phantoms import Phantom, chest
from models.training.scanners import Kernel, Scanner
from models.training.thorax_build import Build
from models.training.thorax_lesions import box_around
from models.training.thorax_points import Points

Variant = Literal["first", "second"]
_KINDS: tuple[Kind, ...] = ("solid", "part-solid", "ground glass", "calcified", "spiculated")
_OFTEN = (0.45, 0.15, 0.15, 0.1, 0.15)
_MIMICS: tuple[Mimic, ...] = (
    "branch point",
    "end-on",
    "bend",
    "rib end",
    "fissure thickening",
    "mucus plug",
    "apical scar",
)
_ATTACHED: tuple[Attached | None, ...] = (None, "vessel", "pleura", "fissure")
_GAP_MM = 8.0


def random_chest(
    seed: int,
    shape: tuple[int, int, int] = (120, 256, 256),
    spacing_mm: tuple[float, float, float] | None = None,
    *,
    nodules: int | None = None,
    healthy: bool = False,
    variant: Variant = "first",
    device: str = "cpu",
) -> Phantom:
    """The patient `seed`; `nodules` of them (None: 0 to 6), no disease besides where `healthy`."""
    random = np.random.default_rng([seed, 71])
    build = _build(random, seed) if variant == "first" else Build()
    count = int(random.integers(0, 7)) if nodules is None else nodules
    places = _places(random, build, count + 4)
    found = tuple(_nodule(random, place, seed * 100 + i) for i, place in enumerate(places[:count]))
    if variant == "second":
        return _second(seed, shape, spacing_mm, found, random, healthy=healthy)
    mimics = tuple(
        LookAlike(
            centre_mm=place,
            kind=_MIMICS[int(random.integers(len(_MIMICS)))],
            size_mm=float(random.uniform(4, 9)),
            seed=seed * 100 + 50 + i,
        )
        for i, place in enumerate(places[count:])
    )
    return chest(
        shape,
        spacing_mm,
        seed,
        nodules=found,
        mimics=mimics,
        diseases=() if healthy else _diseases(random),
        calcifications=() if healthy else _calcium(random, build),
        contrast_hu=float(random.uniform(80, 300)) if random.random() < 0.3 else 0.0,
        scanner=_scanner(random, (spacing_mm or (2.5, 1, 1))[0]),
        build=build,
        full=True,
        device=device,
    )


def _build(random: np.random.Generator, seed: int) -> Build:
    width, depth, height, heart = random.normal(1, (0.05, 0.06, 0.05, 0.05)).clip(0.86, 1.14)
    return Build(
        scale=float(np.clip(random.normal(0.98, 0.05), 0.85, 1.1)),
        width=float(width),
        depth=float(depth),
        height=float(height),
        heart=float(heart),
        fat_mm=float(random.uniform(6, 24)),
        breasts_mm=float(random.uniform(4, 20)) if random.random() < 0.5 else 0.0,
        diaphragm_mm=float(random.uniform(-6, 10)),
        bend_mm=float(random.uniform(0, 3.5)),
        seed=seed,
    )


def _places(random: np.random.Generator, build: Build, count: int) -> list[Point]:
    """Points in the lungs, none within 40 mm of another."""
    kept: list[NDArray[np.float64]] = []
    apart = 40.0
    while len(kept) < count:
        tries = build.patient(random.uniform((-125, -85, -110), (125, 95, 130), (200, 3)))
        at = Points(*(torch.from_numpy(tries[:, axis]) for axis in range(3)))
        deep = (anatomy.lungs(build.canonical(at), build) < -_GAP_MM).numpy()
        for point in tries[deep]:
            if len(kept) < count and all(np.linalg.norm(point - other) > apart for other in kept):
                kept.append(point)
        apart *= 0.9  # crowded lungs: nearer, rather than never
    return [(float(p[0]), float(p[1]), float(p[2])) for p in kept]


def _nodule(random: np.random.Generator, place: Point, seed: int) -> Nodule:
    kind = _KINDS[int(random.choice(len(_KINDS), p=_OFTEN))]
    return Nodule(
        centre_mm=place,
        diameter_mm=float(3 * 10 ** random.uniform(0.0 if kind == "solid" else 0.25, 1)),
        kind=kind,
        attached=_ATTACHED[int(random.choice(4, p=(0.37, 0.3, 0.25, 0.08)))],
        solid_fraction=float(random.uniform(0.1, 0.6)),
        lobulation=float(random.uniform(0, 0.12)),
        elongation=float(random.uniform(1, 1.45)),
        seed=seed,
    )


def _diseases(random: np.random.Generator) -> tuple[Disease, ...]:
    chances: tuple[tuple[Illness, float, float], ...] = (
        ("emphysema", 0.35, 0.3),
        ("consolidation", 0.1, 0.15),
        ("effusion", 0.12, 0.2),
        ("scar", 0.3, 0.008),
        ("ground glass", 0.15, 0.2),
    )
    sides: tuple[Literal["both", "right", "left"], ...] = ("both", "right", "left")
    return tuple(
        Disease(kind=kind, where=sides[int(random.integers(3))], extent=float(random.uniform(0.1, 1) * most))
        for kind, chance, most in chances
        if random.random() < chance
    )


def _calcium(random: np.random.Generator, build: Build) -> tuple[Calcification, ...]:
    if random.random() > 0.4:
        return ()
    return tuple(
        calcified(
            ARTERIES[int(random.integers(4))],
            float(random.uniform(0.1, 0.9)),
            float(2 * 20 ** random.uniform(0, 1)),
            float(random.uniform(250, 500)),
            build,
        )
        for _ in range(int(random.integers(1, 6)))
    )


def _scanner(random: np.random.Generator, spacing_mm: float) -> Scanner:
    kernels: tuple[Kernel, ...] = ("smooth", "standard", "sharp")
    kernel = kernels[int(random.integers(3))]
    return Scanner(
        kvp=float(random.choice((80, 100, 120, 120, 120, 140))),
        kernel=kernel,
        noise_hu=float(random.uniform(6, 18) * (2.2 if kernel == "sharp" else 1)),
        dose=float(random.choice((1.0, 1.0, 0.4))),
        slice_profile_mm=float(spacing_mm * random.uniform(1, 1.5)),
        motion_mm=float(random.choice((0, 0, 0, 2))),
    )


def _second(
    seed: int,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float] | None,
    nodules: tuple[Nodule, ...],
    random: np.random.Generator,
    *,
    healthy: bool,
) -> Phantom:
    """The plain chest with nodules of the other family; theirs is the truth of their voxels."""
    emphysema = 0.0 if healthy else float(random.choice((0, 0.05, 0.15)))
    plain = chest(shape, spacing_mm, seed, emphysema=emphysema, noise_hu=float(random.uniform(8, 25)))
    hu, labels = plain.hu.astype(np.float32), np.zeros(plain.hu.shape, np.uint8)
    truths = []
    for label, nodule in enumerate(nodules, 1):
        free = replace(nodule, attached=None)
        truths.append(_draw_other(free, label, hu, labels, plain))
    return replace(
        plain,
        hu=np.clip(np.rint(hu), -1024, 3071).astype(np.int16),
        nodule_labels=labels,
        nodules=tuple(truths),
    )


def _draw_other(
    nodule: Nodule, label: int, hu: NDArray[np.float32], labels: NDArray[np.uint8], plain: Phantom
) -> NoduleTruth:
    """A superellipsoid of the diameter's volume, its surface pushed by a few random waves of position."""
    random = np.random.default_rng([nodule.seed, 73])
    axes = random.uniform(0.85, 1.2, 3)
    axes /= axes.prod() ** (1 / 3)
    power = float(random.uniform(1.7, 3.2))
    waves, phase = random.normal(0, 1.3, (5, 3)), random.uniform(0, 6.28, 5)
    rough = nodule.lobulation + (0.1 if nodule.kind == "spiculated" else 0.0)
    along = (np.arange(72) + 0.5) / 72 * 3.2 - 1.6
    unit = np.stack(np.meshgrid(along, along, along, indexing="ij"), -1)[..., ::-1]

    def level(points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Below 1 inside, of the nodule of radius about 1."""
        size = (np.abs(points / axes) ** power).sum(-1) ** (1 / power)
        return np.asarray(size + 0.5 * rough * np.sin(3 * points @ waves.T + phase).sum(-1) * 0.6)

    inside = level(unit) < 1
    volume = float(inside.mean() * 3.2**3)
    radius = nodule.diameter_mm / 2 * (4.18879 / volume) ** (1 / 3)
    if (found := box_around(plain.geometry, nodule.centre_mm, 1.6 * radius)) is not None:
        box, offsets = found
        edge = float(np.mean(plain.geometry.spacing))
        share = np.clip(0.5 - (level(offsets / radius) - 1) * radius / edge, 0, 1)
        share = np.where(plain.truth[box] > 0, share, 0)
        hu[box] += share * np.maximum(nodule.body_hu - hu[box], 0)
        if nodule.kind == "part-solid":
            core = nodule.solid_fraction ** (1 / 3)
            deep = np.clip(0.5 - (level(offsets / radius / core) - 1) * radius * core / edge, 0, 1)
            hu[box] += deep * np.maximum(40 - hu[box], 0)
        labels[box][share >= 0.5] = label
    long, short = axes_mm(inside, 3.2 / 72 * radius)
    return NoduleTruth(
        label=label,
        nodule=nodule,
        centre_mm=nodule.centre_mm,
        volume_mm3=float(np.pi * nodule.diameter_mm**3 / 6),
        long_axis_mm=long,
        short_axis_mm=short,
        solid_fraction={"ground glass": 0.0, "part-solid": nodule.solid_fraction}.get(nodule.kind, 1.0),
    )
