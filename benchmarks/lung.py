"""
How long `lung_ct` takes for a chest CT, stage by stage, and how much memory on top of the volume.

    python -m benchmarks.lung [--slices 300] [--size 512] [--device cpu] [--threads 2] [--repeat 3]

The phantom is made in another process, so that the peak of memory is the model's own.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import highdicom as hd
import numpy as np
import torch

from models.contract import Context
from models.registry import open_model
from models.training.phantoms import chest


def main() -> None:
    parser = argparse.ArgumentParser(description="Time lung_ct on a phantom.")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.make:
        make(asked.make, (asked.slices, asked.size, asked.size))
    else:
        measure(asked)


def make(folder: Path, shape: tuple[int, int, int]) -> None:
    started = time.perf_counter()
    phantom = chest(shape, emphysema=0.05)
    took = time.perf_counter() - started
    np.save(folder / "hu.npy", phantom.hu)
    np.save(folder / "truth.npy", phantom.truth)
    (folder / "facts.json").write_text(json.dumps({"affine": phantom.geometry.affine.tolist(), "took": took}))


def measure(asked: argparse.Namespace) -> None:
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = ["--slices", str(asked.slices), "--size", str(asked.size)]
        subprocess.run([sys.executable, "-m", "benchmarks.lung", "--make", name, *sizes], check=True)
        hu, truth = np.load(folder / "hu.npy"), np.load(folder / "truth.npy")
        facts = json.loads((folder / "facts.json").read_text())
    print(f"phantom {hu.shape} made in {facts['took']:.1f} s")
    volume = hd.Volume(hu, np.array(facts["affine"]), "PATIENT")
    model = open_model("lung_ct")
    model.load(asked.device)
    before = peak_mib()
    for run in range(asked.repeat):
        started = time.perf_counter()
        findings = model.run(volume, Context(headers={"Modality": "CT"}))
        took = time.perf_counter() - started
        stages = "  ".join(f"{stage} {seconds:.2f}" for stage, seconds in findings.timings.items())
        print(f"run {run + 1}: {took:.2f} s  ({stages})  on {asked.device}, {asked.threads} threads")
    print(
        f"memory on top of the volume: {peak_mib() - before:.0f} MiB, estimate "
        f"{model.estimate(hu.shape).host / 2**20:.0f} MiB"
    )
    if findings.label_map is None:
        sys.exit(f"refused: {findings.because}")
    found, true = np.isin(findings.label_map, (1, 2)), truth > 0  # airways are no lung
    print(f"Dice of both lungs {2 * (found & true).sum() / (found.sum() + true.sum()):.4f}")


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
