"""
Nodules in the lungs on a chest CT, and how large they are: no weights, every step explainable.

The lungs come from `models.chest`; `search` finds and outlines, `measure` measures. One segment and one group
of measurements for each nodule; where none is found, that is said with what was looked for.
"""

from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from scipy import ndimage

from ledger.job import Outcome
from models.builtin.nodule_ct import quality
from models.builtin.nodule_ct.measure import MASS, MASS_MM, NODULE, Density, Measured, measure, measurements
from models.builtin.nodule_ct.search import Nodule, search
from models.chest.anatomy import LEFT, RIGHT, Chest, Stages, find_chest
from models.chest.thirds import NAME
from models.contract import Context, Memory
from models.ct import WithoutWeights
from models.prepare.morphology import Box
from results import codes
from results.findings import PRIVATE_SCHEME, Concept, Findings, Grade, Segment

_MOST_MAX = 100
_REACHES = 0.05  # of the shell of a mass, outside the lungs
_SLICES = 2  # what only one slice shows may as well be a vessel that crosses it
_COLOURS_RGB = ((255, 214, 10), (80, 200, 255), (255, 120, 90), (160, 255, 120), (230, 140, 255))
_DENSITY = {
    Density.SOLID: Concept("SOLID", PRIVATE_SCHEME, "Solid"),
    Density.PART_SOLID: Concept("PARTSOLID", PRIVATE_SCHEME, "Part-solid"),
    Density.GROUND_GLASS: Concept("112120", "DCM", "Ground glass opacity"),
    Density.CALCIFIED: Concept("18115005", "SCT", "Pathologic calcification, calcified structure"),
}


class NoduleSettings(BaseModel, frozen=True, extra="forbid"):
    """What a rule may set."""

    least_mm: float = Field(4.0, ge=3.0, le=30.0)  # Smaller ones have no follow-up (Fleischner 2017).
    least_score: float = Field(0.4, ge=0.05, le=0.99)  # Below it there are more vessels than nodules.
    most: int = Field(6, ge=1, le=_MOST_MAX)  # Marks that nobody has the time to look at help nobody.
    sure_score: float = Field(0.9, ge=0.05, le=1.0)  # From here on marks are reported beyond the most, too.


class NoduleCT(WithoutWeights[NoduleSettings]):
    """Lung nodules on chest CT: implements `models.contract.Model`."""

    folder = Path(__file__).parent
    settings = NoduleSettings

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        """The label map, the working grid of the chest, and the lungs on cubes of a millimetre."""
        voxels = int(np.prod(shape))
        cubes = 45_000_000  # 300 × 350 × 430 mm: the lungs of a very large adult
        working = min(voxels, 12_000_000) * 40
        field = cubes * 4 * 6
        on_device = self._device.type != "cpu"
        return Memory(
            host=voxels + working + (cubes * 4 * 2 if on_device else field), device=field if on_device else 0
        )

    def _findings(self, volume: hd.Volume, context: Context, settings: NoduleSettings) -> Findings:
        """A segment for each nodule with its measurements, its density class and its place; or why not."""
        quality.refuse_unsuitable(context.headers, self.manifest.input, volume.array.shape, volume.spacing)
        chest = find_chest(volume, device=self._device)
        quality.refuse_implausible(chest)
        clock = Stages()
        clock.seconds.update(chest.seconds)
        found = search(chest, clock, least_score=settings.least_score)
        cautions = quality.cautions(chest, context.headers)
        least = quality.least_mm(settings.least_mm, quality.thickness_mm(context.headers, volume.spacing))
        label_map = np.zeros(volume.array.shape, np.uint8)
        labels = chest.canonical.view(label_map)
        with clock("measure"):
            depth = _depth_mm(chest)
            listed: list[tuple[Nodule, Measured]] = []
            for one in found:
                box = one.drawn.box
                mask = one.drawn.mask & (labels[box] == 0)  # Segments do not overlap.
                if not mask.any():
                    continue
                if _slices(mask, chest) < _SLICES:
                    continue
                measured = _measured(chest, box, mask, depth)
                if measured.mean_diameter_mm < least:
                    continue
                if len(listed) == _MOST_MAX or (
                    len(listed) >= settings.most and one.score < settings.sure_score
                ):
                    cautions.append(f"There were more than the {len(listed)} marks that are reported.")
                    break
                listed.append((one, measured))
                labels[box][mask] = len(listed)
        if not listed:
            return Findings(
                outcome=Outcome.NOTHING,
                because=f"No nodule of {least:g} mm or more was found in the lungs.",
                cautions=tuple(cautions),
                timings=clock.seconds,
            )
        cautions += [
            f"{_name(number, measured)} reaches the edge of the lung: where it ends in mediastinum, hilum or "
            "chest wall is not seen, and its size is rough."
            for number, (nodule, measured) in enumerate(listed, 1)
            if measured.mean_diameter_mm > MASS_MM and nodule.features.wall > _REACHES
        ]
        thirds = chest.thirds()
        described = [
            _described(number, nodule, measured, chest, thirds)
            for number, (nodule, measured) in enumerate(listed, 1)
        ]
        return Findings(
            outcome=Outcome.FOUND,
            label_map=label_map,
            segments=tuple(segment for segment, _ in described),
            grades=tuple(grade for _, grades in described for grade in grades),
            cautions=tuple(cautions),
            timings=clock.seconds,
        )


def _slices(mask: NDArray[np.bool_], chest: Chest) -> int:
    """How many slices of the images show `mask` (z, y, x)."""
    across = chest.canonical.source_axes.index(0)
    others = tuple(axis for axis in range(3) if axis != across)
    return int(np.count_nonzero(mask.any(axis=others)))


def _name(number: int, measured: Measured) -> str:
    return f"{'Mass' if measured.mean_diameter_mm > MASS_MM else 'Nodule'} {number}"


def _measured(chest: Chest, box: Box, mask: NDArray[np.bool_], depth: NDArray[np.float32]) -> Measured:
    """Measure on the axes of the images, whose slices a reader looks at."""
    hu = np.asarray(chest.source[box], np.float32)
    back = np.argsort(chest.canonical.source_axes)
    z, y, x = np.array(chest.canonical.spacing_mm)[back]
    at = _working_index(box, mask, chest)
    to_pleura = max(0.0, float(depth[at].min()) - min(chest.spacing_mm) / 2)
    return measure(mask.transpose(back), hu.transpose(back), (float(z), float(y), float(x)), to_pleura)


def _depth_mm(chest: Chest) -> NDArray[np.float32]:
    """How deep in its lung a voxel of the working grid lies."""
    lungs = np.pad(chest.lungs, 1)
    depth = ndimage.distance_transform_edt(lungs, sampling=chest.spacing_mm)
    return np.asarray(depth[1:-1, 1:-1, 1:-1], np.float32)


def _working_index(
    box: Box, mask: NDArray[np.bool_], chest: Chest
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """The working voxels that the source voxels `mask` in `box` lie in."""
    z, y, x = (
        ((np.nonzero(mask)[axis] + box[axis].start + 0.5) * few / many).astype(np.intp)
        for axis, (few, many) in enumerate(zip(chest.lungs.shape, chest.source.shape, strict=True))
    )
    return z, y, x


def _described(
    number: int, nodule: Nodule, measured: Measured, chest: Chest, thirds: NDArray[np.uint8]
) -> tuple[Segment, tuple[Grade, ...]]:
    """The segment of a nodule, and what it is called."""
    at = _working_index(nodule.drawn.box, nodule.drawn.mask, chest)
    rights, lefts = int(chest.right[at].sum()), int(chest.left[at].sum())
    if rights + lefts == 0:  # in a recess: the lung whose middle is nearer
        middle = float(np.mean(at[2]))
        apart = [abs(float(np.nonzero(one)[2].mean()) - middle) for one in (chest.right, chest.left)]
        rights, lefts = int(apart[0] <= apart[1]), int(apart[0] > apart[1])
    right = rights >= lefts
    side = "right" if right else "left"
    own = thirds[at][thirds[at] > 0]
    third = int(np.bincount(own).argmax()) if own.size else _nearest_third(at, chest, right=right)
    where = f"{side} lung, {NAME[third]} third"
    name = _name(number, measured)
    label = f"{name}, {where}, {measured.mean_diameter_mm:.1f} mm"
    said = measurements(measured)
    segment = Segment(
        number=number,
        label=label,
        category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
        kind=MASS if measured.mean_diameter_mm > MASS_MM else NODULE,
        laterality=codes.RIGHT if right else codes.LEFT,
        colour_rgb=_COLOURS_RGB[(number - 1) % len(_COLOURS_RGB)],
        measurements=said,
        score=nodule.score,
    )
    by_name = {one.name: one for one in said}
    return segment, (
        Grade(
            label=f"{name}: density",
            scale=codes.NODULE_DENSITY,
            value=_DENSITY[measured.density],
            inputs=(by_name[codes.ATTENUATION], by_name[codes.SOLID_FRACTION]),
            about=(label,),
        ),
    )


def _nearest_third(at: tuple[NDArray[np.intp], ...], chest: Chest, *, right: bool) -> int:
    """The third at the height of voxels that lie beside the lung."""
    middle = np.array([[float(np.mean(axis)) for axis in at]])
    lps = middle @ chest.affine[:3, :3].T + chest.affine[:3, 3]
    return int(chest.reach(RIGHT if right else LEFT).third(lps[:, 2].astype(np.float32))[0])
