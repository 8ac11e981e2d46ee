"""What is measured of `nodule_ct`: chests drawn by lot, of both generators, and a real scan with a tumour."""

from collections.abc import Iterator
from functools import cache

import numpy as np

from benchmarks import nodules
from benchmarks.measured import DATA, Agreement, Measured, Row
from benchmarks.real_images import drawn_boxes
from models.builtin.nodule_ct.measure import DIAMETER
from models.builtin.nodule_ct.model import NoduleCT
from models.contract import Context
from worker.load import load_series

_TUMOUR = "ct_thorax_lungdx_A0002_b40f"
_SEEDS = range(2)


@cache
def seen() -> tuple[nodules.Case, ...]:
    """Few chests: `python -m benchmarks.nodules` looks at more."""
    return tuple(nodules.cases(_SEEDS))


def tumour() -> Iterator[Row]:
    """Every mark on the real scan, and how many of the boxes around its tumour it reaches into."""
    folder = DATA / _TUMOUR
    loaded = load_series(sorted(folder.rglob("*.dcm")))
    model = NoduleCT()
    model.load("cpu")
    findings = model.run(loaded.volume, Context(headers=dict(loaded.headers)))
    slices = {str(header.SOPInstanceUID): k for k, header in enumerate(loaded.source.datasets)}
    boxes = list(drawn_boxes(folder, slices))
    for segment in findings.segments:
        mask = findings.mask(segment.number)
        hits = sum(bool(mask[(k, *box)].any()) for k, box in boxes)
        score = f"{segment.score:.2f}" if segment.score is not None else ""
        diameter = next(one.value for one in segment.measurements if one.name == DIAMETER)
        ml = float(np.count_nonzero(mask)) * loaded.volume.voxel_volume / 1000
        yield segment.label, score, diameter, ml, f"{hits} of {len(boxes)}"


TABLES = (
    Measured(
        name="found",
        title=f"Phantoms with {nodules.NODULES} nodules each: found, by mean diameter, and marks on none",
        columns=(
            "generator",
            "chests",
            *(f"{low:g} to {high:g} mm" for low, high in nodules.SIZES_MM),
            "false marks a chest",
        ),
        rows=lambda: nodules.found_by_size(seen()),
        note="With disease and mimics. Phantoms have fewer and smoother vessels than patients.",
    ),
    Measured(
        name="sizes",
        title="The same phantoms: what was measured of what was found and is 6 mm or more",
        columns=("quantity", *Agreement.COLUMNS),
        rows=lambda: nodules.agreements(seen()),
    ),
    Measured(
        name="tumour",
        title=f"Every mark on `{_TUMOUR}`, one patient with one mass, on slices of 8 mm",
        columns=("mark", "score", "mean diameter, mm", "volume, ml", "boxes of the tumour reached"),
        rows=tumour,
        needs=(_TUMOUR,),
        note="What reaches no box is a vessel.",
    ),
)
