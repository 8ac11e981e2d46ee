"""
Films of two public sets, as `cxr_pneumonia` sees them: `python -m benchmarks.cxr_films DATA -o films.npz`.

Every JPEG is written as a Computed Radiography object, read by `worker.load_image` like any radiograph that a
hospital sends, and standardised by the model. Of a child with pneumonia only the first film is taken: those
who were imaged often are not to count more.
"""

import argparse
import csv
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from models.builtin.cxr_pneumonia.standard import SIDE, standard
from worker.load_image import load_image

KERMANY, NIH = "cxr_kermany_train", "cxr_nih_train"
CHILD, ADULT = 0, 1
_NAME = re.compile(r"person(\d+)_|(NORMAL2-)?IM-(\d+)-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """One file of the sets, with what is known of it."""

    path: Path
    label: int  #: 1: pneumonia
    group: int  #: CHILD or ADULT
    patient: str
    view: str = ""  #: AP or PA where the set says it


def every_film(data: Path) -> Iterator[Film]:
    """All films of children, then of adults, in the order of their names."""
    for folder, label in (("NORMAL", 0), ("PNEUMONIA", 1)):
        for path in sorted((data / KERMANY / folder).glob("*.jpeg")):
            found = _NAME.match(path.name)
            if found is None:
                raise SystemExit(f"{path.name} does not say which patient it is of")
            patient = f"P{found[1]}" if found[1] else f"{found[2] or ''}N{found[3]}"
            yield Film(path=path, label=label, group=CHILD, patient=patient)
    with (data / NIH / "labels.csv").open() as lines:
        for row in csv.DictReader(lines):
            ill = int(row["label"] == "Pneumonia")
            yield Film(
                path=data / NIH / row["image"],
                label=ill,
                group=ADULT,
                patient=f"A{row['patient_id']}",
                view=row["view"],
            )


def chosen(films: Iterator[Film]) -> Iterator[Film]:
    """Without the second and later films of a child with pneumonia."""
    seen: set[str] = set()
    for film in films:
        if film.group == CHILD and film.label == 1 and film.patient in seen:
            continue
        seen.add(film.patient)
        yield film


def as_dicom(grey: NDArray[np.uint8], path: Path, number: int = 1) -> None:
    """Write (row, column) as a Computed Radiography object that says as little as possible."""
    image = Dataset()
    image.SOPClassUID = ComputedRadiographyImageStorage
    image.SOPInstanceUID = f"2.25.6.{number}"
    image.StudyInstanceUID, image.SeriesInstanceUID = "2.25.6", "2.25.6.0"
    image.Modality = "CR"
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    image.Rows, image.Columns = grey.shape
    image.PixelData = grey.tobytes() + b"\0" * (grey.size % 2)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.save_as(path, enforce_file_format=True)


def main() -> None:
    """Write them all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cxr_films", description=__doc__)
    parser.add_argument("data", type=Path, help=f"the folder with {KERMANY} and {NIH}")
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    films = list(chosen(every_film(asked.data)))
    pictures = np.zeros((len(films), SIDE, SIDE), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.dcm"
        for number, film in enumerate(films):
            with Image.open(film.path) as picture:
                as_dicom(np.asarray(picture.convert("L")), path, number + 1)
            pictures[number] = standard(load_image(path).image.array).picture
            if number % 500 == 499:
                print(f"{number + 1} of {len(films)} films", flush=True)
    np.savez_compressed(
        asked.output,
        pictures=pictures,
        label=np.array([film.label for film in films]),
        group=np.array([film.group for film in films]),
        patient=np.array([film.patient for film in films]),
        view=np.array([film.view for film in films]),
        name=np.array([film.path.name for film in films]),
    )


if __name__ == "__main__":
    main()
