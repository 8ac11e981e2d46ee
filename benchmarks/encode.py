"""
How long results take: ours, highdicom alone and dcmqi, on the same mask, in the same run.

    python benchmarks/encode.py [--segments 1,20,100] [--slices 300] [--size 512] [--repeat 3]

`ours_s` is everything that a job does: a BINARY segmentation and the report, built, saved, read back and
checked. To compare with the others, who only build and save the segmentation, take `build_and_save_s`. The
same mask as a label map, uncompressed and as RLE, stands beside that of highdicom. Absolute figures belong to
the machine; compare within one run. Needs about 2 GB of memory.
"""

import argparse
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ledger.job import Outcome
from ledger.result import Role
from results import codes, report
from results.check import check_results
from results.findings import Findings, Measurement, Segment
from results.making import Asked
from results.profile import DEFAULT, Profile
from results.provenance import Run
from results.segmentation import build
from results.source import Source
from results.write import write
from tests.results.series import SPACING, Kind, a_run, source, with_pixels

LIMIT_S = 120.0

#: What a label map is asked for by, of us and of highdicom.
_LABEL_MAP = replace(DEFAULT, name="label map", segmentation="labelmap")
FORMS = (
    ("labelmap", _LABEL_MAP, ExplicitVRLittleEndian),
    ("labelmap_rle", replace(_LABEL_MAP, name="label map, RLE", transfer_syntax="rle"), RLELossless),
)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    options.add_argument("--segments", default="1,20,100")
    options.add_argument("--slices", type=int, default=300)
    options.add_argument("--size", type=int, default=512)
    options.add_argument("--repeat", type=int, default=3)
    given = options.parse_args()
    logging.disable(logging.WARNING)
    began = time.monotonic()
    kind = Kind("benchmark", shape=(given.slices, given.size, given.size))
    of = source(kind)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder)
        _write_images(of, images)
        _compare(given, kind, of, images)
    print(f"all in {time.monotonic() - began:.0f} s", file=sys.stderr)


def _compare(given: argparse.Namespace, kind: Kind, of: Source, images: Path) -> None:
    run = a_run(of)
    began = time.monotonic()
    for count in (int(n) for n in given.segments.split(",")):
        findings = _findings(kind, count)
        row: dict[str, object] = {"segments": count}
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder)
            # A hundred segments take highdicom and dcmqi longer than everything else together.
            repeat = given.repeat if count <= 20 else 1
            row |= _ours(findings, of, run, out, repeat)
            row["highdicom_s"] = _median(partial(_highdicom, findings, of, out), repeat)
            row["dcmqi_s"] = _dcmqi(findings, of, images, out)
            for name, profile, syntax in FORMS:
                row[f"{name}_s"] = _median(partial(_form, findings, of, run, profile, out), repeat)
                row[f"{name}_MB"] = round((out / "form.dcm").stat().st_size / 1e6, 1)
                theirs = partial(_highdicom, findings, of, out, kind="LABELMAP", syntax=syntax)
                row[f"{name}_highdicom_s"] = _median(theirs, repeat)
        print(json.dumps(row), flush=True)
        if time.monotonic() - began > LIMIT_S * 0.6:
            print(f"stopped after {time.monotonic() - began:.0f} s", file=sys.stderr)
            break


def _findings(kind: Kind, count: int) -> Findings:
    """`count` ellipsoids on a lattice: one or two as tall as lungs, more of them compact as organs are."""
    slices, size, _ = kind.shape
    labels = np.zeros(kind.shape, np.uint8)
    z, y, x = np.ogrid[:slices, :size, :size]
    across = max(1, int(np.ceil(np.sqrt(count))))
    segments = []
    for number in range(1, count + 1):
        row, column = divmod(number - 1, across)
        cy, cx = (row + 0.5) * size / across, (column + 0.5) * size / across
        radius = 0.42 * size / across
        tall = 0.46 if count <= 2 else 0.14 if count <= 20 else 0.08
        cz = slices * (0.5 if count <= 2 else 0.15 + 0.7 * (number - 1) / (count - 1))
        inside = ((z - cz) / (tall * slices)) ** 2 + ((y - cy) ** 2 + (x - cx) ** 2) / radius**2 < 1
        labels[inside] = number
        volume = int(np.count_nonzero(inside)) * float(np.prod(SPACING)) / 1000
        segments.append(
            Segment(
                number=number,
                label=f"Region {number}",
                category=codes.ANATOMICAL_STRUCTURE,
                kind=codes.LUNG,
                colour_rgb=(10 * number % 256, 250 - 7 * number % 250, 128),
                measurements=(Measurement(name=codes.VOLUME, value=volume, unit=codes.MILLILITRE),),
            )
        )
    return Findings(outcome=Outcome.FOUND, label_map=labels, segments=tuple(segments))


def _ours(findings: Findings, of: Source, run: Run, out: Path, repeat: int) -> dict[str, object]:
    stages: dict[str, list[float]] = {
        "build_s": [],
        "save_s": [],
        "build_and_save_s": [],
        "report_s": [],
        "check_s": [],
        "ours_s": [],
    }
    for _ in range(repeat):
        times = [time.perf_counter()]
        asked = Asked(findings=findings, source=of, run=run)
        (segmentation,) = build(asked)
        times.append(time.perf_counter())
        write(segmentation, out / "seg.dcm")
        times.append(time.perf_counter())
        write(report.build(replace(asked, made={Role.SEGMENTATION: (segmentation,)}))[0], out / "sr.dcm")
        times.append(time.perf_counter())
        check_results(asked, [(Role.SEGMENTATION, out / "seg.dcm"), (Role.REPORT, out / "sr.dcm")])
        times.append(time.perf_counter())
        passed = np.diff(times)
        parts = (*passed[:2], passed[:2].sum(), *passed[2:], passed.sum())
        for name, seconds in zip(stages, parts, strict=True):
            stages[name].append(float(seconds))
    figures: dict[str, object] = {
        name: round(statistics.median(values), 2) for name, values in stages.items()
    }
    figures["frames"] = int(segmentation.NumberOfFrames)
    figures["MB"] = round((out / "seg.dcm").stat().st_size / 1e6, 1)
    return figures


def _form(findings: Findings, of: Source, run: Run, profile: Profile, out: Path) -> None:
    (segmentation,) = build(Asked(findings=findings, source=of, run=run, profile=profile))
    write(segmentation, out / "form.dcm")


def _highdicom(
    findings: Findings, of: Source, out: Path, kind: str = "BINARY", syntax: UID = ExplicitVRLittleEndian
) -> None:
    assert of.geometry is not None
    assert findings.label_map is not None
    algorithm = hd.AlgorithmIdentificationSequence("x", codes.coded(codes.ARTIFICIAL_INTELLIGENCE), "1")
    segmentation = hd.seg.Segmentation(
        source_images=of.datasets,
        pixel_array=of.geometry.with_array(findings.label_map),
        segmentation_type=kind,
        segment_descriptions=[
            hd.seg.SegmentDescription(
                s.number, s.label, codes.coded(s.category), codes.coded(s.kind), "AUTOMATIC", algorithm
            )
            for s in findings.segments
        ],
        series_instance_uid=hd.UID(),
        series_number=1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
        transfer_syntax_uid=syntax,
    )
    segmentation.save_as(out / "highdicom.dcm")


def _write_images(of: Source, folder: Path) -> None:
    for index, image in enumerate(of.datasets):
        with_pixels(image).save_as(folder / f"{index:04d}.dcm", enforce_file_format=True)


def _dcmqi(findings: Findings, of: Source, images: Path, out: Path) -> float | None:
    """Seconds of `itkimage2segimage`, the whole process; None where it is not installed."""
    program = Path(sys.executable).with_name("itkimage2segimage")
    if not program.exists():
        return None
    try:
        import SimpleITK  # noqa: PLC0415  (only this rival needs it)
    except ImportError:
        return None
    assert findings.label_map is not None
    SimpleITK.WriteImage(_itk_image(findings.label_map, of), str(out / "labels.nrrd"))
    lung = {"CodeValue": "39607008", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Lung"}
    anatomy = {
        "CodeValue": "91723000",
        "CodingSchemeDesignator": "SCT",
        "CodeMeaning": "Anatomical Structure",
    }
    described = [
        {
            "labelID": s.number,
            "SegmentDescription": s.label,
            "SegmentAlgorithmType": "AUTOMATIC",
            "SegmentAlgorithmName": "x",
            "SegmentedPropertyCategoryCodeSequence": anatomy,
            "SegmentedPropertyTypeCodeSequence": lung,
            "recommendedDisplayRGBValue": list(s.colour_rgb),
        }
        for s in findings.segments
    ]
    meta = {"ContentCreatorName": "x", "SeriesDescription": "x", "segmentAttributes": [described]}
    (out / "meta.json").write_text(json.dumps(meta))
    command = [
        str(program),
        "--inputImageList",
        str(out / "labels.nrrd"),
        "--inputDICOMDirectory",
        str(images),
    ]
    command += ["--outputDICOM", str(out / "dcmqi.dcm"), "--inputMetadata", str(out / "meta.json"), "--skip"]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S / 2, check=False)
    if done.returncode:
        print(f"itkimage2segimage: {(done.stdout + done.stderr)[-300:]}", file=sys.stderr)
        return None
    return round(time.perf_counter() - began, 2)


def _itk_image(label_map: NDArray[np.uint8], of: Source):
    import SimpleITK  # noqa: PLC0415

    assert of.geometry is not None
    affine = of.geometry.affine[:3]
    image = SimpleITK.GetImageFromArray(label_map)
    spacing = np.linalg.norm(affine[:, :3], axis=0)
    axes = affine[:, :3] / spacing
    image.SetSpacing([float(v) for v in spacing[::-1]])
    image.SetDirection([float(v) for v in axes[:, ::-1].reshape(-1)])
    image.SetOrigin([float(v) for v in affine[:, 3]])
    return image


def _median(work: Callable[[], None], repeat: int) -> float:
    seconds = []
    for _ in range(repeat):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return round(statistics.median(seconds), 2)


if __name__ == "__main__":
    main()
