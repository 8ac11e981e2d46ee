"""
A chest CT whose right answer is known: made from formulas, cut on any grid.

The chest is fixed in patient coordinates (`chest_anatomy`); a grid may look at it from any side. So left and
right, volumes and densities stay what they are whatever the orientation of the images, and a test that flips,
tilts or reverses a series still knows the truth. The same arguments make the same voxels, on any machine.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from models.training import chest_anatomy as anatomy
from models.training import chest_trees as trees
from models.training.lesions import (
    Calcification,
    CalciumTruth,
    Disease,
    LookAlike,
    Nodule,
    NoduleTruth,
)
from models.training.scanners import Scanner

if TYPE_CHECKING:
    from models.training.thorax_build import Build

Position = Literal["HFS", "FFS", "HFP", "FFP"]  # Patient Position (0018,5100)
Plane = Literal["axial", "coronal", "sagittal"]

RIGHT_LUNG, LEFT_LUNG = 1, 2
CHEST_MM = (300.0, 384.0, 384.0)  #: z, y, x: what a grid covers where no spacing is asked for
PARENCHYMA_HU, EMPHYSEMA_HU = -862.0, -985.0
_GRAVITY_HU_PER_MM = 0.18  # blood sinks: the dependent lung is denser
_TEXTURE_HU = 10.0
_LATTICE_MM, _LATTICE_HALF_MM = 4.0, 200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LungTruth:
    """What a perfect reader would measure of one lung, on the voxels and Hounsfield units of the phantom."""

    volume_ml: float
    mean_hu: float
    laa950_percent: float  #: voxels of at most -950 HU, of all voxels of the lung
    perc15_hu: float  #: 15th percentile


@dataclass(frozen=True, slots=True, kw_only=True)
class Phantom:
    """A synthetic chest CT and its truth; all arrays are (slice, row, column)."""

    hu: NDArray[np.int16]
    geometry: hd.VolumeGeometry
    truth: NDArray[np.uint8]  #: 1 the patient's right lung, 2 the left; vessels belong to it, airways do not
    airways: NDArray[np.bool_]  #: lumen of trachea, main and lobar bronchi
    right: LungTruth | None  #: None where the grid does not meet the lung
    left: LungTruth | None
    seed: int
    position: Position
    # Of the full thorax only; None, empty or 120 kV of a plain chest.
    tissue: NDArray[np.uint8] | None = None  #: `thorax_layers.Tissue` of every voxel
    lobes: NDArray[np.uint8] | None = None  #: 1 … 3 right upper, middle, lower, 4 and 5 left upper, lower
    vessels: NDArray[np.bool_] | None = None  #: within the lungs
    fissures: NDArray[np.bool_] | None = None
    disease: NDArray[np.uint8] | None = (
        None  #: 1 emphysema, 2 consolidation, 3 effusion, 4 scar, 5 ground glass
    )
    nodule_labels: NDArray[np.uint8] | None = None  #: 1, 2, … in the order of `nodules`
    calcium_labels: NDArray[np.uint8] | None = None
    nodules: tuple[NoduleTruth, ...] = ()
    calcium: tuple[CalciumTruth, ...] = ()
    mimics: tuple[LookAlike, ...] = ()
    scanner: Scanner | None = None
    contrast_hu: float = 0.0

    @property
    def volume(self) -> hd.Volume:
        """The voxels with their geometry, as a model gets them."""
        return self.geometry.with_array(self.hu)


def grid(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float] | None = None,
    *,
    position: Position = "HFS",
    plane: Plane = "axial",
    tilt_deg: float = 0.0,
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    frame_of_reference: str | None = None,
) -> hd.VolumeGeometry:
    """A grid of `shape` (slices, rows, columns) around `centre_mm` (x, y, z), spaced as its axes are.

    Prone images have their rows and columns turned by 180° as scanners write them. `tilt_deg` turns the whole
    grid about an oblique axis. The axes (slice, row, column) are right-handed, as highdicom sorts a series:
    axial slices run from head to feet.
    """
    spacing = spacing_mm or tuple(extent / n for extent, n in zip(CHEST_MM, shape, strict=True))
    planes = {
        "axial": ([1, 0, 0], [0, 1, 0]),
        "coronal": ([1, 0, 0], [0, 0, -1]),
        "sagittal": ([0, 1, 0], [0, 0, -1]),
    }
    along_row, along_column = (np.array(axis, float) for axis in planes[plane])
    if position.endswith("P") and plane == "axial":
        along_row, along_column = -along_row, -along_column
    if tilt_deg:
        turn = Rotation.from_rotvec(np.deg2rad(tilt_deg) * np.array([0.8, 0.48, 0.36]))
        along_row, along_column = turn.apply(along_row), turn.apply(along_column)
    along_slices = np.cross(along_column, along_row)
    axes = np.stack([along_slices * spacing[0], along_column * spacing[1], along_row * spacing[2]], axis=1)
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = np.array(centre_mm) - axes @ ((np.array(shape) - 1) / 2)
    return hd.VolumeGeometry(affine, shape, "PATIENT", frame_of_reference)


def chest(
    shape: tuple[int, int, int] = (60, 256, 256),
    spacing_mm: tuple[float, float, float] | None = None,
    seed: int = 0,
    *,
    position: Position = "HFS",
    plane: Plane = "axial",
    tilt_deg: float = 0.0,
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    emphysema: float = 0.0,
    noise_hu: float = 14.0,
    threads: int = 2,
    nodules: tuple[Nodule, ...] = (),
    mimics: tuple[LookAlike, ...] = (),
    diseases: tuple[Disease, ...] = (),
    calcifications: tuple[Calcification, ...] = (),
    contrast_hu: float = 0.0,
    scanner: Scanner | None = None,
    build: "Build | None" = None,
    full: bool = False,
    device: str = "cpu",
) -> Phantom:
    """The chest on a grid of `shape` (slices, rows, columns); without a spacing the grid covers all of it.

    `emphysema` is the part of the lungs (0 … 1) that is destroyed; `noise_hu` is the noise's deviation.

    With nothing else asked for this is the plain chest. Whoever asks for a nodule, a look-alike, a disease, a
    calcification, contrast (`contrast_hu`: what blood gains at 120 kV), a scanner, a build or the `full` one
    gets the full thorax (`thorax`): another anatomy, in the same frame, with all its truth. There a scanner's
    noise is its own; `noise_hu` counts where none is given. `device` may be a GPU's name.
    """
    if full or nodules or mimics or diseases or calcifications or contrast_hu or scanner or build:
        illness = (Disease(kind="emphysema", extent=emphysema),) if emphysema > 0 else ()
        return _full(
            grid(
                shape,
                spacing_mm,
                position=position,
                plane=plane,
                tilt_deg=tilt_deg,
                centre_mm=centre_mm,
                frame_of_reference=f"2.25.{(1 << 101) + seed}",
            ),
            seed,
            position,
            scanner or Scanner(noise_hu=noise_hu),
            device,
            build=build,
            nodules=nodules,
            mimics=mimics,
            diseases=diseases + illness,
            calcifications=calcifications,
            contrast_hu=contrast_hu,
        )
    uid = f"2.25.{(1 << 100) + seed}"
    geometry = grid(
        shape,
        spacing_mm,
        position=position,
        plane=plane,
        tilt_deg=tilt_deg,
        centre_mm=centre_mm,
        frame_of_reference=uid,
    )
    edge_mm = float(np.mean(geometry.spacing[1:]))
    hu = np.empty(shape, np.float32)
    truth = np.zeros(shape, np.uint8)
    airways = np.zeros(shape, np.bool_)
    texture, lost_above = _lattice(seed, emphysema)

    def draw(k: int) -> None:
        x, y, z = _positions(geometry, (slice(k, k + 1), slice(0, shape[1]), slice(0, shape[2])))[:, 0]
        hu[k] = anatomy.tissue(x, y, z, edge_mm=edge_mm, prone=position.endswith("P"))
        inside = anatomy.lungs(x, y, z)
        near = inside < edge_mm
        at = [axis[near] for axis in (x, y, z)]
        gravity = _GRAVITY_HU_PER_MM * (-1 if position.endswith("P") else 1)
        index = [(axis + _LATTICE_HALF_MM) / _LATTICE_MM for axis in at]
        local = ndimage.map_coordinates(texture, index, order=1, mode="nearest")
        density = PARENCHYMA_HU + gravity * (at[1] - 5) + _TEXTURE_HU * np.clip(local, -2.5, 2.5)
        density = np.where(local > lost_above, np.float32(EMPHYSEMA_HU), density)
        alpha = np.clip(0.5 - inside[near] / edge_mm, 0, 1)
        hu[k][near] += alpha * (density - hu[k][near])
        truth[k] = np.where(inside < 0, np.where(x < anatomy.MIDLINE_X, RIGHT_LUNG, LEFT_LUNG), 0)

    def disturb(k: int) -> None:
        grain = np.random.default_rng([seed, 2, k]).standard_normal(shape[1:], np.float32)
        # Neighbours share their noise, as reconstruction makes them; half the sum of four keeps the variance.
        rows = grain + np.roll(grain, 1, 0)
        hu[k] += 0.5 * noise_hu * (rows + np.roll(rows, 1, 1))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(draw, range(shape[0])))
        # Trees cross slices: one after the other, so that the order of painting never varies.
        for vessel in trees.vessels(seed):
            _paint_vessel(vessel, geometry, hu, truth, edge_mm)
        for airway in trees.airways():
            _paint_wall(airway, geometry, hu, edge_mm)
        for airway in trees.airways():
            _paint_lumen(airway, geometry, hu, airways, edge_mm)
        if noise_hu:
            list(pool.map(disturb, range(shape[0])))
    truth[airways] = 0
    voxels = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    measured = partial(_measure, voxels, truth, voxel_ml=geometry.voxel_volume / 1000)
    return Phantom(
        hu=voxels,
        geometry=geometry,
        truth=truth,
        airways=airways,
        right=measured(RIGHT_LUNG),
        left=measured(LEFT_LUNG),
        seed=seed,
        position=position,
    )


#: By the number of a lobe: none, three on the right, two on the left.
_SIDE_OF_LOBE = np.array([0, *[RIGHT_LUNG] * 3, *[LEFT_LUNG] * 2], np.uint8)


def _full(
    geometry: hd.VolumeGeometry,
    seed: int,
    position: Position,
    scanner: Scanner,
    device: str,
    *,
    build: "Build | None",
    nodules: tuple[Nodule, ...],
    mimics: tuple[LookAlike, ...],
    diseases: tuple[Disease, ...],
    calcifications: tuple[Calcification, ...],
    contrast_hu: float,
) -> Phantom:
    """The full thorax on the grid `geometry`."""
    # torch, which a plain chest does not need
    from models.training.thorax import Patient, draw  # noqa: PLC0415
    from models.training.thorax_build import ADULT  # noqa: PLC0415

    patient = Patient(
        seed=seed,
        build=build or ADULT,
        nodules=nodules,
        mimics=mimics,
        diseases=diseases,
        calcifications=calcifications,
        contrast_hu=contrast_hu,
        prone=position.endswith("P"),
    )
    drawn = draw(patient, geometry, scanner, device=device)
    truth = _SIDE_OF_LOBE[drawn.lobes]
    measured = partial(_measure, drawn.hu, truth, voxel_ml=geometry.voxel_volume / 1000)
    return Phantom(
        hu=drawn.hu,
        geometry=geometry,
        truth=truth,
        airways=drawn.airways,
        right=measured(RIGHT_LUNG),
        left=measured(LEFT_LUNG),
        seed=seed,
        position=position,
        tissue=drawn.tissue,
        lobes=drawn.lobes,
        vessels=drawn.vessels,
        fissures=drawn.fissures,
        disease=drawn.disease,
        nodule_labels=drawn.nodule_labels,
        calcium_labels=drawn.calcium_labels,
        nodules=drawn.nodules,
        calcium=drawn.calcium,
        mimics=mimics,
        scanner=scanner,
        contrast_hu=contrast_hu,
    )


def _positions(geometry: hd.VolumeGeometry, box: tuple[slice, slice, slice]) -> NDArray[np.float32]:
    """The centres of the voxels of `box`: (3, slices, rows, columns), LPS millimetres."""
    affine = geometry.affine
    index = np.ogrid[box]
    return np.stack(
        [sum(affine[axis, i] * index[i] for i in range(3)) + affine[axis, 3] for axis in range(3)]
    ).astype(np.float32)


def _box(
    capsule: trees.Capsule, geometry: hd.VolumeGeometry, margin_mm: float
) -> tuple[slice, slice, slice] | None:
    """The voxels that a capsule can reach; None where it lies outside the grid."""
    ends = np.array([capsule.start, capsule.end])
    reach = (max(capsule.start_mm, capsule.end_mm) + margin_mm) / np.array(geometry.spacing)
    index = geometry.map_reference_to_indices(ends)
    low = np.maximum(np.floor(index.min(0) - reach), 0).astype(int)
    high = np.minimum(np.ceil(index.max(0) + reach) + 1, geometry.spatial_shape).astype(int)
    if (low >= high).any():
        return None
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def _paint_vessel(
    capsule: trees.Capsule,
    geometry: hd.VolumeGeometry,
    hu: NDArray[np.float32],
    truth: NDArray[np.uint8],
    edge_mm: float,
) -> None:
    if (box := _box(capsule, geometry, edge_mm)) is None:
        return
    alpha = np.clip(0.5 - trees.distance(capsule, _positions(geometry, box)) / edge_mm, 0, 1)
    hu[box] += np.where(truth[box] > 0, alpha * np.maximum(anatomy.BLOOD_HU - hu[box], 0), 0)


def _paint_wall(
    capsule: trees.Capsule, geometry: hd.VolumeGeometry, hu: NDArray[np.float32], edge_mm: float
) -> None:
    if (box := _box(capsule, geometry, edge_mm + 1.5)) is None:
        return
    xyz = _positions(geometry, box)
    outside_body = anatomy.body(xyz[0], xyz[1], xyz[2]) > 0
    alpha = np.clip(0.5 - (trees.distance(capsule, xyz) - 1.4) / edge_mm, 0, 1)
    hu[box] += np.where(outside_body, 0, alpha * (anatomy.MEDIASTINUM_HU - hu[box]))


def _paint_lumen(
    capsule: trees.Capsule,
    geometry: hd.VolumeGeometry,
    hu: NDArray[np.float32],
    airways: NDArray[np.bool_],
    edge_mm: float,
) -> None:
    if (box := _box(capsule, geometry, edge_mm)) is None:
        return
    distance = trees.distance(capsule, _positions(geometry, box))
    hu[box] += np.clip(0.5 - distance / edge_mm, 0, 1) * (anatomy.OUTSIDE_HU - hu[box])
    airways[box] |= distance < 0


def _lattice(seed: int, emphysema: float) -> tuple[NDArray[np.float32], float]:
    """A smooth random field every 4 mm of the chest, index (x, y, z), and what destroyed lung exceeds.

    That value is a quantile over the lung itself, so that the destroyed part is what was asked for.
    """
    n = int(2 * _LATTICE_HALF_MM / _LATTICE_MM) + 1
    field = np.random.default_rng([seed, 3]).standard_normal((n, n, n), np.float32)
    field = ndimage.gaussian_filter(field, 1.6)
    field /= field.std()
    if emphysema <= 0:
        return field, float("inf")
    along = np.linspace(-_LATTICE_HALF_MM, _LATTICE_HALF_MM, n, dtype=np.float32)
    inside = anatomy.lungs(*np.meshgrid(along, along, along, indexing="ij")) < 0
    return field, float(np.quantile(field[inside], 1 - emphysema))


def _measure(
    hu: NDArray[np.int16], truth: NDArray[np.uint8], label: int, *, voxel_ml: float
) -> LungTruth | None:
    inside = hu[truth == label]
    if inside.size == 0:
        return None
    return LungTruth(
        volume_ml=inside.size * voxel_ml,
        mean_hu=float(inside.mean()),
        laa950_percent=100 * float((inside <= -950).mean()),
        perc15_hu=float(np.percentile(inside, 15)),
    )
