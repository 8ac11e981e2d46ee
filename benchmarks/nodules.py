"""
What `nodule_ct` finds in phantoms, how well it measures it, and how long it takes for a large chest CT.

    python -m benchmarks.nodules [--chests 8] [--seed 900]        found, false marks, bias and limits
    python -m benchmarks.nodules --time [--slices 300] [--size 512] [--device cpu] [--threads 2]

The chests are drawn by lot (`random_chest`) from both generators, with disease and with what looks like a
nodule and is none. Nothing in the model was fitted to these seeds: ten chests from 200 on served for that.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
import torch

from benchmarks.measured import Row, agreement
from models.builtin.nodule_ct.measure import DIAMETER
from models.builtin.nodule_ct.model import NoduleCT
from models.contract import Context
from models.training.lesions import Nodule, NoduleTruth
from models.training.phantoms import chest
from models.training.random_chest import Variant, random_chest
from results import codes
from results.findings import Concept, Findings, Segment

VARIANTS: tuple[Variant, ...] = ("first", "second")
SIZES_MM = ((4.0, 6.0), (6.0, 10.0), (10.0, 20.0), (20.0, 30.0))  #: mean diameter, the second left out
NODULES = 5  #: in each chest
_SHAPE, _SPACING_MM = (120, 224, 224), (2.5, 1.6, 1.6)
_HIT = 0.2  # of the smaller of mark and nodule: what overlaps so far is found


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One nodule of a phantom, and the mark on it."""

    truth: NoduleTruth
    volume_mm3: float  #: of the mark, 0 where there is none
    diameter_mm: float
    solid_share: float  #: 0 … 1

    @property
    def hit(self) -> bool:
        return self.volume_mm3 > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One chest."""

    variant: Variant
    nodules: tuple[Found, ...]
    marks: int
    false: int  #: marks on no nodule


def case(variant: Variant, seed: int) -> Case:
    """Draw a chest and search it."""
    phantom = random_chest(seed, _SHAPE, _SPACING_MM, variant=variant, nodules=NODULES)
    model = NoduleCT()
    model.load("cpu")
    findings = model.run(phantom.volume, Context(headers={"Modality": "CT"}))
    labels = phantom.nodule_labels
    if labels is None:
        raise ValueError("a phantom that was asked for nodules has none")
    hit: dict[int, Segment] = {}
    false = 0
    for segment in findings.segments:
        mask = findings.mask(segment.number)
        inside = np.bincount(labels[mask], minlength=int(labels.max()) + 1)
        inside[0] = 0
        label = int(inside.argmax())
        if inside[label] >= _HIT * min(np.count_nonzero(mask), max(1, np.count_nonzero(labels == label))):
            hit.setdefault(label, segment)
        elif not inside.any():
            false += 1
    return Case(
        variant=variant,
        nodules=tuple(
            _found(truth, findings, hit.get(truth.label), phantom.geometry.voxel_volume)
            for truth in phantom.nodules
            if (labels == truth.label).any()
        ),
        marks=len(findings.segments),
        false=false,
    )


def _found(truth: NoduleTruth, findings: Findings, segment: Segment | None, voxel_mm3: float) -> Found:
    if segment is None:
        return Found(truth=truth, volume_mm3=0.0, diameter_mm=0.0, solid_share=0.0)
    return Found(
        truth=truth,
        volume_mm3=float(np.count_nonzero(findings.mask(segment.number))) * voxel_mm3,
        diameter_mm=_value(segment, DIAMETER),
        solid_share=_value(segment, codes.SOLID_FRACTION) / 100,
    )


def _value(segment: Segment, name: Concept) -> float:
    return next(one.value for one in segment.measurements if one.name == name)


def cases(seeds: Sequence[int]) -> Iterator[Case]:
    """A chest of each generator for every seed."""
    for seed in seeds:
        for variant in VARIANTS:
            yield case(variant, seed)


def found_by_size(seen: Sequence[Case]) -> Iterator[Row]:
    """(generator, then found of those in each range of sizes, false marks a chest)."""
    for variant in VARIANTS:
        own = [one for one in seen if one.variant == variant]
        counts = []
        for low, high in SIZES_MM:
            these = [n for one in own for n in one.nodules if low <= n.truth.mean_diameter_mm < high]
            counts.append(f"{sum(n.hit for n in these)} of {len(these)}")
        false = [one.false for one in own]
        yield variant, len(own), *counts, f"{np.mean(false):.1f} (at most {max(false)})"


def found_by_kind(seen: Sequence[Case]) -> Iterator[Row]:
    """(kind, found) of nodules of 6 mm and more."""
    nodules = [n for one in seen for n in one.nodules if n.truth.mean_diameter_mm >= SIZES_MM[1][0]]
    for kind in sorted({n.truth.nodule.kind for n in nodules}):
        these = [n for n in nodules if n.truth.nodule.kind == kind]
        yield kind, f"{sum(n.hit for n in these)} of {len(these)}"
    for place in ("vessel", "pleura", "fissure"):
        these = [n for n in nodules if n.truth.nodule.attached == place]
        yield f"attached to a {place}", f"{sum(n.hit for n in these)} of {len(these)}"


def agreements(seen: Sequence[Case]) -> Iterator[Row]:
    """Measured against true, of what was found and is 6 mm or more."""
    hits = [n for one in seen for n in one.nodules if n.hit and n.truth.mean_diameter_mm >= SIZES_MM[1][0]]
    solid = [n for n in hits if n.truth.solid_fraction == 1]
    other = [n for n in hits if n.truth.solid_fraction < 1]
    for said, these in (("solid and calcified", solid), ("part-solid and ground glass", other)):
        if len(these) < 2:
            continue
        pairs = [(n.diameter_mm, n.truth.mean_diameter_mm) for n in these]
        yield f"mean diameter, {said}", *agreement(*zip(*pairs, strict=True)).cells("mm")
        pairs = [(100 * (n.volume_mm3 / n.truth.volume_mm3 - 1), 0.0) for n in these]
        yield f"volume, {said}", *agreement(*zip(*pairs, strict=True)).cells("% of the truth", 0)
    pairs = [(100 * n.solid_share, 100 * n.truth.solid_fraction) for n in hits]
    if len(pairs) > 1:
        yield "solid part", *agreement(*zip(*pairs, strict=True)).cells("percentage points", 0)


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chests", type=int, default=8, help="of each generator")
    parser.add_argument("--seed", type=int, default=900, help="the first of the seeds")
    parser.add_argument("--time", action="store_true", help="time one large chest instead")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.make:
        _make(asked.make, (asked.slices, asked.size, asked.size))
    elif asked.time:
        _time(asked)
    else:
        seen = list(cases(range(asked.seed, asked.seed + asked.chests)))
        for rows in (found_by_size(seen), found_by_kind(seen), agreements(seen)):
            print("\n".join("  ".join(map(str, row)) for row in rows), end="\n\n")


def _make(folder: Path, shape: tuple[int, int, int]) -> None:
    nodules = (
        Nodule(centre_mm=(-70, 20, 40), diameter_mm=14),
        Nodule(centre_mm=(75, 30, 20), diameter_mm=20, kind="part-solid"),
    )
    phantom = chest(shape, nodules=nodules)
    np.save(folder / "hu.npy", phantom.hu)
    (folder / "affine.json").write_text(json.dumps(phantom.geometry.affine.tolist()))


def _time(asked: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        sizes = ["--slices", str(asked.slices), "--size", str(asked.size)]
        # In another process, so that the peak of memory is the model's own.
        subprocess.run([sys.executable, "-m", "benchmarks.nodules", "--make", name, *sizes], check=True)
        hu = np.load(Path(name) / "hu.npy")
        affine = np.array(json.loads((Path(name) / "affine.json").read_text()))
    model = NoduleCT()
    model.load(asked.device)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    volume = hd.Volume(hu, affine, "PATIENT")
    for run in range(asked.repeat):
        started, worked = time.perf_counter(), time.process_time()
        findings = model.run(volume, Context(headers={"Modality": "CT"}))
        took, cpu = time.perf_counter() - started, time.process_time() - worked
        stages = "  ".join(f"{stage} {seconds:.2f}" for stage, seconds in findings.timings.items())
        print(f"run {run + 1}: {took:.1f} s, {cpu:.1f} s of processor on {asked.device}  ({stages})")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{hu.shape}, {asked.threads} threads; on top of the volume {(after - before) / 1024:.0f} MiB, "
        f"estimate {model.estimate(hu.shape).host / 2**20:.0f} MiB; {len(findings.segments)} marks"
    )


if __name__ == "__main__":
    main()
