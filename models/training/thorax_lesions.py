"""
Nodules and calcifications drawn to the tenth of a millimetre: every voxel that a surface crosses is looked at
in many parts, so that what is measured on the voxels is what the formula says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import highdicom as hd
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.training import thorax_anatomy as anatomy
from models.training.lesions import SOLID_HU, Calcification, CalciumTruth, Nodule, NoduleTruth, Point
from models.training.nodule_shapes import Shape, axes_mm, shape_of, spicules
from models.training.scanners import Scanner
from models.training.thorax_build import Build
from models.training.thorax_points import Points
from models.training.thorax_trees import Trees

_FINEST_MM, _PARTS_ACROSS, _MOST_PARTS, _AT_ONCE = 0.12, 22, 12, 200_000
_BEATS = 5
Box = tuple[slice, slice, slice]
Inside = Callable[[NDArray[np.float64]], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """What is drawn upon: the finished chest in Hounsfield units (slices, rows, columns), and whose it is."""

    hu: NDArray[np.float32]
    geometry: hd.VolumeGeometry
    build: Build
    grown: Trees


def draw_nodule(nodule: Nodule, label: int, sheet: Sheet, labels: NDArray[np.uint8]) -> NoduleTruth:
    """Paint it, number its voxels (half inside at least) in `labels`; what is true of it."""
    hu, geometry, build, grown = sheet.hu, sheet.geometry, sheet.build, sheet.grown
    shape = shape_of(nodule)
    centre = attached_centre(nodule, build, grown)
    cut = nodule.attached == "pleura"
    threads = spicules(nodule)
    reach = max([shape.reach_mm, *(float(np.linalg.norm(end)) + width for _, end, width in threads)])
    core = shape.scaled(nodule.solid_fraction ** (1 / 3)) if nodule.kind == "part-solid" else None
    if (found := box_around(geometry, centre, reach)) is not None:
        box, offsets = found
        lung = (
            in_lung(offsets + np.array(centre), build)
            if cut or threads
            else np.ones(offsets.shape[:-1], bool)
        )

        def part_of(solid: Shape) -> NDArray[np.float64]:
            """How much of every voxel lies in `solid`, and in the lung where the pleura cuts."""

            def within(points: NDArray[np.float64]) -> NDArray[np.bool_]:
                inside = solid.inside(points)
                return inside & in_lung(points + np.array(centre), build) if cut else inside

            depth = _depth(offsets, solid)
            near = np.abs(depth) < 0.8 * float(np.linalg.norm(geometry.spacing))
            if cut:
                near |= depth < 0
            share = np.where(depth < 0, 1.0, 0.0)
            share[near] = shares(offsets[near], geometry, within, nodule.diameter_mm)
            return share

        view = hu[box]
        share = part_of(shape)
        view += share * _over(nodule.body_hu - view, nodule)
        if core is not None:
            view += part_of(core) * np.maximum(SOLID_HU - view, 0)
        for start, end, width in threads:
            reached = (
                _in_thread(offsets, start, end, width + 0.8 * float(np.linalg.norm(geometry.spacing))) & lung
            )
            if reached.any():
                thread = shares(
                    offsets[reached], geometry, partial(_in_thread, start=start, end=end, width=width), 3.0
                )
                view[reached] += thread * np.maximum(SOLID_HU - 120 - view[reached], 0)
        labels[box][share >= 0.5] = label
    return _truth(nodule, label, centre, shape, build if cut else None)


def _over(difference: NDArray[np.float32], nodule: Nodule) -> NDArray[np.float32]:
    """A nodule adds to what is there; only calcified and solid ones replace vessels too."""
    return difference if nodule.body_hu > -100 else np.maximum(difference, 0)


def _depth(offsets: NDArray[np.float64], shape: Shape) -> NDArray[np.float64]:
    """How far outside (positive) the points lie, along their own ray."""
    far = np.linalg.norm(offsets, axis=-1)
    return np.asarray(far - shape.radius(offsets / np.maximum(far, 1e-9)[..., None]))


def _in_thread(
    points: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64], width: float
) -> NDArray[np.bool_]:
    along = end - start
    t = np.clip((points - start) @ along / (along @ along), 0, 1)
    return np.asarray(np.linalg.norm(points - start - t[..., None] * along, axis=-1) < width * (1 - 0.7 * t))


def _truth(nodule: Nodule, label: int, centre: Point, shape: Shape, cut_by: Build | None) -> NoduleTruth:
    """Volume and axes on a lattice of the nodule's own, the same for every grid."""
    step = min(0.25, nodule.diameter_mm / 36)
    half = np.arange(0, shape.reach_mm + step, step)
    along = np.concatenate([-half[:0:-1], half])
    points = np.stack(np.meshgrid(along, along, along, indexing="ij"), -1)[..., ::-1]  # z, y, x → x, y, z
    inside = shape.inside(points)
    if cut_by:
        inside &= in_lung(points + np.array(centre), cut_by)
    long, short = axes_mm(inside, step)
    volume = float(inside.sum() * step**3) if cut_by else shape.volume_mm3
    fraction = {"ground glass": 0.0, "part-solid": nodule.solid_fraction}.get(nodule.kind, 1.0)
    if cut_by and nodule.kind == "part-solid" and volume:
        core = shape.scaled(nodule.solid_fraction ** (1 / 3))
        fraction = float((core.inside(points) & inside).sum() * step**3 / volume)
    return NoduleTruth(
        label=label,
        nodule=nodule,
        centre_mm=centre,
        volume_mm3=volume,
        long_axis_mm=long,
        short_axis_mm=short,
        solid_fraction=fraction,
    )


def attached_centre(nodule: Nodule, build: Build, grown: Trees) -> Point:
    """Where the nodule comes to lie: moved to what it is attached to."""
    centre = np.array(nodule.centre_mm, float)
    radius = nodule.diameter_mm / 2
    if nodule.attached == "vessel":
        ends = build.patient(np.array([one.end for one in grown.vessels if one.start_mm > 0.9]))
        nearest = ends[np.linalg.norm(ends - centre, axis=1).argmin()]
        away = centre - nearest
        away = away / max(float(np.linalg.norm(away)), 1e-6)
        centre = nearest + away * 0.8 * radius
    elif nodule.attached == "pleura":
        centre = onto(centre, lambda at: anatomy.lungs(at, build), -0.45 * radius / build.mm, build)
    elif nodule.attached == "fissure":
        centre = onto(centre, anatomy.oblique_fissure, 0.0, build)
    return float(centre[0]), float(centre[1]), float(centre[2])


def onto(
    centre: NDArray[np.float64], distance: Callable[[Points], Tensor], level: float, build: Build
) -> NDArray[np.float64]:
    """The point where `distance` is `level`, reached along its gradient."""
    for _ in range(40):
        at = torch.tensor(centre, requires_grad=True)
        value = distance(build.canonical(Points(at[0:1], at[1:2], at[2:3])))
        value.sum().backward()  # type: ignore[no-untyped-call]
        assert at.grad is not None  # the distance depends on the point
        slope = at.grad.numpy()
        square = float(slope @ slope)
        miss = float(value.detach()) - level
        if abs(miss) < 0.02 or square < 1e-9:
            break
        step = -miss * slope / square
        centre = centre + step * min(1.0, 10 / max(float(np.linalg.norm(step)), 1e-9))
    return centre


def in_lung(points: NDArray[np.floating], build: Build) -> NDArray[np.bool_]:
    """Which points (…, 3) of the patient lie in a lung."""
    at = Points(*(torch.from_numpy(np.ascontiguousarray(points[..., axis], np.float32)) for axis in range(3)))
    return np.asarray((anatomy.lungs(build.canonical(at), build) < 0).numpy())


def draw_calcification(
    one: Calcification,
    label: int,
    sheet: Sheet,
    labels: NDArray[np.uint8],
    *,
    scanner: Scanner,
    blood_hu: float,
) -> CalciumTruth:
    """Lay it into blood: first the vessel's blood, then what the calcium adds; the heart's beat smears it."""
    hu, geometry = sheet.hu, sheet.geometry
    added = one.density_mg_per_ml * scanner.hu_per_mg_per_ml
    moves = np.linspace(-0.5, 0.5, _BEATS) * scanner.motion_mm if scanner.motion_mm else np.zeros(1)
    way = np.array([0.8, 0.57, 0.2])
    reach = one.radius_mm + 2.0 + 0.5 * scanner.motion_mm
    if (found := box_around(geometry, one.centre_mm, reach)) is not None:
        box, offsets = found
        inside = np.mean([_ball(offsets - move * way, geometry, one.radius_mm) for move in moves], axis=0)
        around = _ball(offsets, geometry, one.radius_mm + 0.8)
        view = hu[box]
        view += np.maximum(around, inside) * (blood_hu - view)
        view += inside * added
        # A speck smaller than half a voxel still has the voxel that holds most of it.
        labels[box][inside >= min(0.5, float(inside.max()) or 1.0)] = label
    return CalciumTruth(label=label, calcification=one, added_hu=added)


def _ball(offsets: NDArray[np.float64], geometry: hd.VolumeGeometry, radius_mm: float) -> NDArray[np.float64]:
    """How much of the voxels at `offsets` (…, 3) lies within `radius_mm`."""
    far = np.linalg.norm(offsets, axis=-1)
    near = np.abs(far - radius_mm) < 0.8 * float(np.linalg.norm(geometry.spacing))
    share = np.where(far < radius_mm, 1.0, 0.0)
    share[near] = shares(
        offsets[near], geometry, lambda p: np.linalg.norm(p, axis=-1) < radius_mm, 2 * radius_mm
    )
    return share


def box_around(
    geometry: hd.VolumeGeometry, centre: Point, reach_mm: float
) -> tuple[Box, NDArray[np.float64]] | None:
    """The voxels within reach of `centre`, and where they are from it: (…, 3) mm; None beside the grid."""
    axes = geometry.affine[:3, :3]
    inverse = np.linalg.inv(axes)
    middle = inverse @ (np.array(centre) - geometry.affine[:3, 3])
    wide = reach_mm * np.linalg.norm(inverse, axis=1) + 1
    low = np.maximum(np.floor(middle - wide).astype(int), 0)
    high = np.minimum(np.ceil(middle + wide).astype(int) + 1, geometry.spatial_shape)
    if (low >= high).any():
        return None
    index = np.stack(
        np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij"), -1
    )
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    return box, (index - middle) @ axes.T


def shares(
    points: NDArray[np.float64], geometry: hd.VolumeGeometry, inside: Inside, size_mm: float
) -> NDArray[np.float64]:
    """How much of the voxels around the points (n, 3) satisfies `inside`: (n,).

    A voxel is cut into parts of 1/22 of what is drawn (`size_mm`), 0.12 mm at the finest.
    """
    part_mm = max(_FINEST_MM, size_mm / _PARTS_ACROSS)
    parts = [int(np.clip(np.ceil(s / part_mm), 3, _MOST_PARTS)) for s in geometry.spacing]
    index = np.stack(np.meshgrid(*((np.arange(n) + 0.5) / n - 0.5 for n in parts), indexing="ij"), -1)
    steps = index.reshape(-1, 3) @ geometry.affine[:3, :3].T
    share = np.empty(len(points))
    some = max(1, _AT_ONCE // len(steps))
    for start in range(0, len(points), some):
        share[start : start + some] = inside(points[start : start + some, None] + steps).mean(1)
    return share
