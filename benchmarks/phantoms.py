"""
How long a phantom takes: the full thorax, and cubes for training.

    python -m benchmarks.phantoms [--slices 300] [--size 512] [--device cpu] [--threads 2] [--patches 64]
"""

import argparse
import time

import torch

from models.training.lesions import Disease, Nodule
from models.training.nodule_patches import nodule_patches
from models.training.phantoms import chest


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the phantoms.")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--patches", type=int, default=64)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    shape = (asked.slices, asked.size, asked.size)
    nodules = (
        Nodule(centre_mm=(-70, 20, 40), diameter_mm=14),
        Nodule(centre_mm=(75, 30, 20), diameter_mm=20, kind="part-solid"),
    )
    started, worked = time.perf_counter(), time.process_time()
    phantom = chest(
        shape, nodules=nodules, diseases=(Disease(kind="emphysema", extent=0.1),), device=asked.device
    )
    print(
        f"thorax {phantom.hu.shape}: {time.perf_counter() - started:.1f} s, "
        f"{time.process_time() - worked:.1f} s of processor, {asked.threads} threads, {asked.device}"
    )
    started, worked = time.perf_counter(), time.process_time()
    patches = nodule_patches(1, asked.patches, device=asked.device)
    took = time.perf_counter() - started
    print(
        f"{len(patches.hu)} cubes of 32: {took:.1f} s, {len(patches.hu) / took:.0f} a second, "
        f"{time.process_time() - worked:.1f} s of processor"
    )


if __name__ == "__main__":
    main()
