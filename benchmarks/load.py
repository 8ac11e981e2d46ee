"""
From files to a volume: ours against SimpleITK, highdicom and a plain pydicom loop, in one run.

`python -m benchmarks.load [--slices 300] [--rounds 3]` writes a synthetic series to a temporary folder, lets
every reader have it in turn, and prints medians and ratios. Quote the ratios; the seconds are this machine's.
On a busy machine look at the processor seconds, which count every thread and child.
"""

import argparse
import gc
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813 - as everybody calls it
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from worker.files import digest_of, read_image_file
from worker.load import load_series

GIVE_UP_S = 80.0  # The whole benchmark ends here, with what it has.


def write(folder: Path, slices: int, side: int = 512) -> list[Path]:
    """A CT-like series: smooth anatomy, noise of 20 HU, a header of about a hundred elements."""
    random = np.random.default_rng(0)
    smooth = np.add.outer(np.sin(np.arange(side) / 30), np.cos(np.arange(side) / 40)) * 500 + 1000
    folder.mkdir()
    paths = []
    for k in range(slices):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID(f"2.25.1{k}")
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = (
            "2.25.7",
            "2.25.8",
            "2.25.9",
        )
        dataset.Modality, dataset.ImageType, dataset.InstanceNumber = (
            "CT",
            ["ORIGINAL", "PRIMARY", "AXIAL"],
            k + 1,
        )
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = (
            [-160, -160, float(k)],
            [1, 0, 0, 0, 1, 0],
        )
        dataset.PixelSpacing, dataset.RescaleSlope, dataset.RescaleIntercept = [0.625, 0.625], 1, -1024
        block = dataset.private_block(0x0029, "BENCHMARK", create=True)
        for n in range(75):
            block.add_new(n, "LO", f"value {n} of slice {k}")
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Rows = dataset.Columns = side
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = (
            16,
            16,
            15,
            1,
        )
        dataset.PixelData = (smooth + random.normal(0, 20, (side, side))).astype("<i2").tobytes()
        dataset["PixelData"].VR = "OW"
        paths.append(folder / f"{k:04}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def by_simpleitk(paths: list[Path]) -> sitk.Image:
    """Sorted by GDCM along the normal, as its documentation shows it; float32, as a model wants it."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(paths[0].parent)))
    reader.SetOutputPixelType(sitk.sitkFloat32)
    return reader.Execute()


def by_highdicom(paths: list[Path]) -> np.ndarray:
    return hd.get_volume_from_series([pydicom.dcmread(path) for path in paths], dtype=np.float32).array


def by_pydicom(paths: list[Path]) -> np.ndarray:
    datasets = sorted(
        (pydicom.dcmread(path) for path in paths), key=lambda d: float(d.ImagePositionPatient[2])
    )
    volume = np.empty((len(datasets), datasets[0].Rows, datasets[0].Columns), np.float32)
    for k, dataset in enumerate(datasets):
        volume[k] = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    return volume


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(seconds by the clock, processor seconds of this process and its children)."""
    gc.collect()
    began, spent = time.perf_counter(), sum(os.times()[:4])
    result = work()
    took = time.perf_counter() - began, sum(os.times()[:4]) - spent
    del result
    return took


def table(title: str, rows: dict[str, list[tuple[float, float]]], against: str) -> None:
    print(f"\n{title}\n{'':44}{'median s':>9}{'best s':>9}{'ratio':>7}{'CPU s':>8}{'ratio':>7}")
    unit_s, unit_cpu_s = (statistics.median(column) for column in zip(*rows[against], strict=True))
    for name, took in rows.items():
        clock, spent = zip(*took, strict=True)
        median, cpu_s = statistics.median(clock), statistics.median(spent)
        clocks = f"{median:9.3f}{min(clock):9.3f}{median / unit_s:7.2f}"
        print(f"{name:44}{clocks}{cpu_s:8.2f}{cpu_s / unit_cpu_s:7.2f}")


def uncompressed(paths: list[Path], rounds: int, until: float) -> None:
    reference = "SimpleITK ImageSeriesReader (float32)"
    contenders: dict[str, Callable[[], object]] = {
        "headers only (ours)": lambda: [read_image_file(path) for path in paths],
        "worker.load.load_series, 1 thread": lambda: load_series(paths, cores=1).volume,
        "worker.load.load_series, 2 threads": lambda: load_series(paths, cores=2).volume,
        "SHA-256 of every data set": lambda: [digest_of(path) for path in paths],
        reference: lambda: by_simpleitk(paths),
        "pydicom loop (float32)": lambda: by_pydicom(paths),
        "highdicom get_volume_from_series (float32)": lambda: by_highdicom(paths),
    }
    ours, theirs = load_series(paths).volume.array, sitk.GetArrayFromImage(by_simpleitk(paths))
    assert np.array_equal(ours, theirs[::-1]), "the volumes differ"
    del ours, theirs
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for turn in range(rounds):
        if turn and time.monotonic() > until:
            break
        for name, work in contenders.items():
            rows[name].append(timed(work))
    table(f"{len(paths)} × 512 × 512, uncompressed", rows, reference)


def compressed(paths: list[Path], folder: Path, until: float) -> None:
    for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        if time.monotonic() > until:
            print(f"\n{syntax.name}: left out, the time is up")
            continue
        packed = []
        (folder / syntax).mkdir()
        for path in paths:
            dataset = pydicom.dcmread(path)
            dataset.compress(syntax, generate_instance_uid=False)
            packed.append(folder / syntax / path.name)
            dataset.save_as(packed[-1])
        rows = {
            "load_series, 1 process": [timed(partial(load_series, packed, cores=1))],
            "load_series, 2 processes": [timed(partial(load_series, packed, cores=2))],
        }
        table(f"{len(paths)} × 512 × 512, {syntax.name}", rows, "load_series, 1 process")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--slices", type=int, default=300)
    arguments.add_argument("--rounds", type=int, default=3)
    chosen = arguments.parse_args()
    until = time.monotonic() + GIVE_UP_S
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        paths = write(Path(temporary) / "plain", chosen.slices)
        uncompressed(paths, chosen.rounds, until - 40)
        compressed(paths[: max(3, chosen.slices // 2)], Path(temporary), until - 10)


if __name__ == "__main__":
    main()
