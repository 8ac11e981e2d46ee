"""What is measured of `calcium_ct`: calcium painted on the heart of phantoms, and the real chests."""

from collections.abc import Iterator

import numpy as np

from benchmarks.measured import DATA, Agreement, Measured, Row, agreement
from models.builtin.calcium_ct.model import CalciumCT
from models.builtin.calcium_ct.scoring import LIMITS_HU, weight
from models.contract import Context
from models.training.phantoms import chest
from results import codes
from worker.load import load_series

_GATED = {
    "Modality": "CT",
    "KVP": "120",
    "SliceThickness": "3",
    "CardiacSynchronizationTechnique": "PROSPECTIVE",
}
_CASES = 6
_PIXEL_MM = 1.45
_HEART_MM, _HALF_AXES_MM = np.array([22.0, -18.0, -42.0]), np.array([60.0, 46.0, 52.0])


def _scores() -> Iterator[tuple[float, float]]:
    """(measured, true) Agatston scores: 0 to 4 blocks on the front of the heart, noise of 8 HU around."""
    model = CalciumCT()
    spacing = (3.0, _PIXEL_MM, _PIXEL_MM)
    phantom = chest((40, 128, 128), spacing, seed=3, noise_hu=8, centre_mm=(15.0, 0.0, -35.0))
    for seed in range(_CASES):
        random = np.random.default_rng(seed)
        hu, truth = phantom.hu.copy(), 0.0
        for turn in random.choice(np.arange(-1.2, 2.3, 0.5), seed % 5, replace=False):
            way = np.array([np.sin(turn), -np.cos(turn), random.uniform(-0.4, 0.5)])
            place = _HEART_MM + 0.88 * _HALF_AXES_MM * way / np.linalg.norm(way)
            k, i, j = np.round(phantom.geometry.map_reference_to_indices(place[None])[0]).astype(int)
            slices, rows, columns = (int(n) for n in random.integers(2, 5, 3))
            value = int(random.integers(150, 900))
            hu[k : k + slices, i : i + rows, j : j + columns] = value
            truth += slices * rows * columns * _PIXEL_MM**2 * weight(value, LIMITS_HU[120])
        found = model.run(phantom.geometry.with_array(hu), Context(headers=_GATED))
        said = [*found.measurements, *(one for part in found.segments for one in part.measurements)]
        yield next(one.value for one in said if one.name == codes.CALCIUM_SCORE), truth


def agreements() -> Iterator[Row]:
    """The score against what was painted."""
    measured, truth = zip(*_scores(), strict=True)
    least, most = min(truth), max(truth)
    yield f"Agatston score, {least:.0f} to {most:.0f}", *agreement(measured, truth).cells()


def real_chests() -> Iterator[Row]:
    """What it says of each real chest."""
    for folder in ("ct_thorax_cip64", "ct_thorax_lungdx_A0002_b40f"):
        loaded = load_series(sorted((DATA / folder).rglob("*.dcm")))
        found = CalciumCT().run(loaded.volume, Context(headers=dict(loaded.headers)))
        grades = ", ".join(one.value.meaning for one in found.grades)
        yield folder, str(found.outcome), grades, " ".join(found.cautions) or found.because


TABLES = (
    Measured(
        name="phantoms",
        title="Phantoms as narrow as a gated scan, with blocks of calcium on the heart",
        columns=("quantity", *Agreement.COLUMNS),
        rows=agreements,
        note="Blocks are painted without blur: this measures region and formulas, not a scanner.",
    ),
    Measured(
        name="real",
        title="Real chests",
        columns=("scan", "outcome", "category", "why, or cautions"),
        rows=real_chests,
        needs=("ct_thorax_cip64", "ct_thorax_lungdx_A0002_b40f"),
        note="Neither is thin or fine enough to be scored.",
    ),
)
