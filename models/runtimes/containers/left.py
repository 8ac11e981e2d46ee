"""
What a container left in its folder, as findings of ours.

Its files are looked at as anybody's would be: regular files only, not too many and not too large. A label map
in NIfTI or DICOM SEG is brought to the grid that was imaged, and numbers in JSON mean what the manifest says.
Its own DICOM objects go no further: results are made, checked and named in one place, `results`.
"""

import gzip
import json
import os
import stat
import zlib
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO, cast

import highdicom as hd
import numpy as np
import pydicom
import torch
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from torch import Tensor

from models import outputs
from models.contract import BrokenModel
from models.manifest import Manifest
from models.prepare.grid import Grid
from models.prepare.sample import labels_onto
from models.runtimes.containers.given import NIFTI
from models.runtimes.containers.options import ContainerOptions
from models.runtimes.tensors import answers
from models.runtimes.tensors.given import Prepared
from models.runtimes.tensors.options import TensorOptions
from results.findings import Findings

_FILES, _BYTES, _JSON_BYTES = 1000, 4 << 30, 16 << 20
_HEADER_BYTES = 1 << 20  # with its extensions
_FINER, _ALWAYS = 8, 1 << 24  # voxels of a label map for one of the image; so many may be in any
_TYPES = {2: "<u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 256: "<i1", 512: "<u2", 768: "<u4"}


def findings_of(folder: Path, manifest: Manifest, options: ContainerOptions, source: Grid) -> Findings:
    """Every task of the manifest. Raises `BrokenModel` where a file that it needs is not there or no good."""
    files = _files(folder, manifest)
    tasks = set(manifest.tasks)
    at = Prepared(torch.zeros(0), source, source, measured=True)
    drawn = None
    if "segmentation" in tasks:
        path = _one(files, options.segmentation, manifest)
        read = _segmentation if path.suffix == ".dcm" else _nifti
        labels, grid = read(path, manifest, source)
        moved = labels_onto(torch.from_numpy(labels.astype(np.int32)), grid, source).numpy()
        drawn = outputs.with_volumes(
            outputs.draw_labels(manifest, moved.astype(np.uint16)),
            float(abs(np.linalg.det(source.affine[:3, :3]))),
        )
    if tasks & {"heat map"}:
        raise BrokenModel(f"model {manifest.identity}: heat maps of containers are not read")
    named = _numbers(_one(files, options.result, manifest), manifest) if tasks - {"segmentation"} else {}
    said = TensorOptions(
        detection=options.detection, classification=options.classification,
        landmarks=options.landmarks, regression=options.regression,
    )  # fmt: skip
    tiles = [((0, 0, 0), named)]
    return outputs.findings_of(
        manifest,
        drawn=drawn,
        boxes=answers.boxes(manifest, said.detection, tiles, at, 3) if "detection" in tasks else (),
        verdicts=answers.verdicts(manifest, said, named) if "classification" in tasks else (),
        points=answers.landmarks(manifest, said.landmarks, named, _no_maps, at, axes=3)
        if "landmarks" in tasks
        else (),
        measurements=answers.quantities(manifest, said, named) if "regression" in tasks else (),
    )


def _no_maps(which: int | str, reduce: Any) -> Tensor:
    raise BrokenModel("a container gives landmarks as coordinates in its JSON file, not as heat maps")


def _files(folder: Path, manifest: Manifest) -> dict[str, Path]:
    """Path below `folder` → file. Raises `BrokenModel` for links, pipes, and more than can be."""
    found: dict[str, Path] = {}
    total = 0
    for root, _, names in os.walk(folder, followlinks=False):
        for name in names:
            path = Path(root) / name
            seen = path.lstat()
            if not stat.S_ISREG(seen.st_mode) or seen.st_nlink != 1:
                raise BrokenModel(f"model {manifest.identity} left {name}, which is no regular file")
            total += seen.st_size
            found[path.relative_to(folder).as_posix()] = path
            if len(found) > _FILES or total > _BYTES:
                raise BrokenModel(
                    f"model {manifest.identity} left more than {_FILES} files or {_BYTES} bytes"
                )
    return found


def _one(files: Mapping[str, Path], wanted: str, manifest: Manifest) -> Path:
    fitting = [
        path for name, path in sorted(files.items()) if fnmatch(name, wanted) or fnmatch(path.name, wanted)
    ]
    if len(fitting) != 1:
        raise BrokenModel(
            f"model {manifest.identity} left {len(fitting)} files like {wanted!r}, and one was "
            "expected; it left "
            f"{', '.join(sorted(files)[:10]) or 'nothing'}"
        )
    return fitting[0]


def _nifti(path: Path, manifest: Manifest, source: Grid) -> tuple[NDArray[Any], Grid]:
    """Labels (slice, row, column) with their grid. No more is unpacked than the header says, and no more
    than fits `source`.
    """
    opened = _opened(path)
    try:
        with opened as file:
            header = np.frombuffer(file.read(348).ljust(348, b"\0"), NIFTI)[0]
            shape, kind, start = _described(header, path, manifest)
            count = shape[0] * shape[1] * shape[2]
            _look_at_size(count, source, path, manifest)
            file.read(start - 348)
            content = file.read(np.dtype(kind).itemsize * count)
            file.read(1)  # At the end gzip compares its sum.
    except (zlib.error, OSError, EOFError) as error:
        raise BrokenModel(f"model {manifest.identity} left {path.name}, which is damaged: {error}") from error
    if len(content) < np.dtype(kind).itemsize * count:
        raise BrokenModel(f"model {manifest.identity} left {path.name}, which is cut off")
    values = np.frombuffer(content, kind, count).reshape(shape[::-1])
    slope = float(header["scl_slope"]) or 1.0
    if slope != 1.0 or float(header["scl_inter"]) != 0.0:
        values = values * slope + float(header["scl_inter"])
    labels = np.rint(values) if values.dtype.kind == "f" else values
    if not (np.isfinite(labels).all() and labels.min() >= 0 and labels.max() <= 65535):
        raise BrokenModel(f"model {manifest.identity} left {path.name} with values that are no labels")
    ras = np.vstack([header["srow"].astype(np.float64), [0, 0, 0, 1]])
    if header["sform_code"] <= 0 or abs(np.linalg.det(ras)) < 1e-9:
        raise BrokenModel(
            f"model {manifest.identity} left {path.name}, which does not say where it lies (sform)"
        )
    affine = (np.diag([-1.0, -1.0, 1.0, 1.0]) @ ras)[:, [2, 1, 0, 3]]
    return labels, Grid((shape[2], shape[1], shape[0]), affine)


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path)) if packed else path.open("rb")


def _described(header: Any, path: Path, manifest: Manifest) -> tuple[list[int], str, int]:
    """Columns, rows and slices, the type of the voxels, and where they begin. Raises `BrokenModel`."""
    shape = [int(n) for n in header["dim"][1:4]]
    kind = _TYPES.get(int(header["datatype"]))
    start = int(header["vox_offset"]) if np.isfinite(header["vox_offset"]) else -1
    extra = [int(n) for n in header["dim"][4 : 1 + max(0, min(7, int(header["dim"][0])))]]
    is_nifti = header["sizeof_hdr"] == 348 and header["magic"][:3] == b"n+1"
    begins = 348 <= start <= _HEADER_BYTES
    if not is_nifti or kind is None or min(shape) < 1 or not begins or any(n > 1 for n in extra):
        raise BrokenModel(f"model {manifest.identity} left {path.name}, which is no label map in NIfTI-1")
    return shape, kind, start


def _look_at_size(voxels: int, source: Grid, path: Path, manifest: Manifest) -> None:
    """Raise `BrokenModel` where a label map is much finer or larger than the image that it is about."""
    given = source.shape[0] * source.shape[1] * source.shape[2]
    if voxels > max(_FINER * given, _ALWAYS):
        raise BrokenModel(
            f"model {manifest.identity} left {path.name}, which has {voxels} voxels, and the image has "
            f"{given}: a label map has at most {_FINER} times as many"
        )


def _segmentation(path: Path, manifest: Manifest, source: Grid) -> tuple[NDArray[Any], Grid]:
    """The segments of a DICOM SEG by their numbers, with the grid of its frames."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        frames = -(-int(header.NumberOfFrames) // max(1, len(manifest.segments)))
        _look_at_size(frames * int(header.Rows) * int(header.Columns), source, path, manifest)
        segmentation = hd.seg.segread(path)
        volume = segmentation.get_volume(combine_segments=True, skip_overlap_checks=True, relabel=False)
    except (InvalidDicomError, pydicom.errors.BytesLengthException, ValueError, TypeError, AttributeError,
            KeyError, RuntimeError, OSError) as error:  # fmt: skip
        raise BrokenModel(
            f"model {manifest.identity} left {path.name}, which is no usable SEG: {error}"
        ) from error
    return np.asarray(volume.array), Grid.of(volume)


def _numbers(path: Path, manifest: Manifest) -> dict[str, Tensor]:
    """Every number or list of numbers in the JSON file, by its key; "a.b" is b within a."""
    if path.stat().st_size > _JSON_BYTES:
        raise BrokenModel(
            f"model {manifest.identity} left {path.name}, which has more than {_JSON_BYTES} bytes"
        )
    try:
        said = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BrokenModel(
            f"model {manifest.identity} left {path.name}, which is not JSON: {error}"
        ) from error
    named: dict[str, Tensor] = {}
    _flatten(said, "", named)
    return named


def _flatten(said: Any, name: str, named: dict[str, Tensor]) -> None:
    if isinstance(said, dict) and len(name) < 500:
        for key, value in said.items():
            _flatten(value, f"{name}.{key}" if name else str(key), named)
    elif isinstance(said, int | float | list):
        try:
            named[name] = torch.tensor(said, dtype=torch.float64)
        except (ValueError, TypeError, RuntimeError, OverflowError):
            return  # Words, or a list of different lengths: nothing that an answer could be.
