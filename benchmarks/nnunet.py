"""
nnU-Net v2 folders: our runtime beside nnU-Net's own package, the same folder and image, in one run.

    python -m benchmarks.nnunet [--rounds N]

Each side runs in a child of its own, by turns, on one thread of the CPU; the least time of the rounds counts,
for the second of two images, so that nothing is being warmed up; loading the weights is in it. Peak memory is
what the child grew by while it ran. Networks have weights of chance and are smaller than real ones: what is
compared is everything around them.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from tests.models.nnunet.cases import Case
from tests.models.nnunet.folders import dataset_of, plans_of
from tests.models.nnunet.reference import ROOT, libraries

ORGANS = (("background", 0), *((f"organ {n}", n) for n in range(1, 25)))
CASES = {
    "2d, 24 slices of 192 × 192": Case(
        shape=(24, 192, 192), target_mm=(1.0, 1.0), patch=(96, 96), strides=((1, 1), (2, 2), (2, 2))
    ),
    "3d, its own grid": Case(shape=(32, 64, 64), patch=(32, 48, 48)),
    "3d, resampled, 25 classes": Case(
        shape=(40, 112, 112), spacing_mm=(2.0, 0.9, 0.9), target_mm=(1.5, 1.5, 1.5), patch=(32, 48, 48),
        labels=ORGANS, mirror=False, logits=(1, 0),
    ),
}  # fmt: skip


def lean(folder: Path, image: np.ndarray, case: Case) -> np.ndarray:
    from models.package import Package  # noqa: PLC0415  # One side only.
    from models.runtimes.nnunet import NnUNet  # noqa: PLC0415
    from tests.models.making import manifest_of  # noqa: PLC0415
    from tests.models.nnunet.test_equality import findings_of, segments  # noqa: PLC0415

    values = segments(tuple(range(1, len(case.labels))))
    model = NnUNet(Package(folder, manifest_of(folder, runtime="nnunet", segments=values)))
    model.load("cpu")
    findings = findings_of(model, image, case.spacing_mm)
    return np.zeros(case.shape) if findings.label_map is None else findings.label_map


def nnunetv2(folder: Path, image: np.ndarray, case: Case) -> np.ndarray:
    from tests.models.nnunet.make_reference import ask  # noqa: PLC0415

    return ask(folder, image.copy(), case)


def child(side: str, name: str, folder: Path) -> None:
    case = CASES[name]
    run = {"lean": lean, "nnunetv2": nnunetv2}[side]
    small = replace(case, shape=(16, 48, 48))
    image = case.image()
    run(folder, small.image(), small)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    answer = run(folder, image, case)
    took = time.perf_counter() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    np.save(folder / f"{side}.npy", np.asarray(answer, np.uint16))
    sys.stderr.write("\n" + json.dumps({"s": took, "mib": grown / 1024}))


def make(name: str, folder: Path) -> None:
    """The folder, by nnU-Net's own classes: its checkpoints name a parameter several times."""
    from tests.models.nnunet.make_reference import checkpoint, write  # noqa: PLC0415

    case = CASES[name]
    plans, dataset = plans_of(case), dataset_of(case)
    axes = list(range(len(case.patch))) if case.mirror else []
    configuration = next(iter(plans["configurations"]))
    write(folder, plans, dataset, [checkpoint(plans, dataset, configuration, mirror=axes, seed=1)])


def measured(side: str, name: str, folder: Path) -> dict[str, float]:
    return json.loads(in_child(side, name, folder).strip().splitlines()[-1])


def in_child(side: str, name: str, folder: Path) -> str:
    path = os.pathsep.join([str(ROOT), str(libraries())])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.nnunet", "--child", side, name, str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--child", nargs=3, metavar=("SIDE", "CASE", "FOLDER"))
    given = parser.parse_args()
    if given.child:
        side, name, folder = given.child
        (make if side == "make" else partial(child, side))(name, Path(folder))
        return
    print(
        "| case | nnunetv2 2.8.1 | lean | time | peak memory | identical voxels |\n|---|---|---|---|---|---|"
    )
    for name in (name for name in CASES if given.only in name):
        with tempfile.TemporaryDirectory() as there:
            folder = Path(there) / "model"
            in_child("make", name, folder)
            rounds = [
                {side: measured(side, name, folder) for side in ("nnunetv2", "lean")}
                for _ in range(given.rounds)
            ]
            same = float((np.load(folder / "lean.npy") == np.load(folder / "nnunetv2.npy")).mean())
        theirs, ours = (min(one[side]["s"] for one in rounds) for side in ("nnunetv2", "lean"))
        their_mib, our_mib = (min(one[side]["mib"] for one in rounds) for side in ("nnunetv2", "lean"))
        print(
            f"| {name} | {theirs:.2f} s, {their_mib:.0f} MiB | {ours:.2f} s, {our_mib:.0f} MiB "
            f"| {ours / theirs:.2f} | {our_mib / max(their_mib, 1):.2f} | {100 * same:.4f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
