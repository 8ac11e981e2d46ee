"""Small source series with every header under the test's control, and findings drawn on them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from ledger.identifiers import Digest, Uid
from ledger.job import Outcome
from results import codes
from results.findings import Concept, Findings, Measurement, Segment, refused
from results.provenance import Predecessor, Provenance, Run
from results.source import Source

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_CT, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.4.1"
ROOT = "1.2.826.0.1.3680043.8.498.77"
SHAPE = (10, 24, 30)  # (slice, row, column): 720 pixels a frame
SPACING = (2.5, 0.75, 0.625)

_TILT = np.deg2rad(12.0)
_OBLIQUE = np.array(
    [
        [np.cos(_TILT), 0.0, -np.sin(_TILT)],  # along a row
        [np.sin(_TILT) * np.sin(_TILT), np.cos(_TILT), np.cos(_TILT) * np.sin(_TILT)],  # along a column
    ]
)


@dataclass(frozen=True)
class Kind:
    """A way of being a source series."""

    name: str
    sop_class: str = CT
    row: tuple[float, ...] = (1.0, 0.0, 0.0)
    column: tuple[float, ...] = (0.0, 1.0, 0.0)
    position: str = "HFS"
    descending: bool = False  # instance numbers run against the slices
    per_frame_orientation: bool = False
    shape: tuple[int, int, int] = SHAPE

    @property
    def enhanced(self) -> bool:
        return self.sop_class in {ENHANCED_CT, ENHANCED_MR}


KINDS = {
    kind.name: kind
    for kind in (
        Kind("axial CT"),
        Kind("oblique CT", row=tuple(_OBLIQUE[0]), column=tuple(_OBLIQUE[1])),
        Kind("feet-first CT", row=(-1.0, 0.0, 0.0), column=(0.0, 1.0, 0.0), position="FFS"),
        Kind("reversed CT", descending=True),
        Kind("odd-sized CT", shape=(7, 13, 11)),
        Kind("coronal MR", sop_class=MR, row=(1.0, 0.0, 0.0), column=(0.0, 0.0, -1.0)),
        Kind("enhanced CT", sop_class=ENHANCED_CT),
        Kind(
            "enhanced MR",
            sop_class=ENHANCED_MR,
            per_frame_orientation=True,
            row=tuple(_OBLIQUE[0]),
            column=tuple(_OBLIQUE[1]),
        ),
    )
}


def geometry(kind: Kind) -> hd.VolumeGeometry:
    """(slice, row, column) right-handed, as a loader sorts a series, around the patient's origin."""
    row, column = np.asarray(kind.row), np.asarray(kind.column)
    # Going down the rows and then along them, slices advance so that the three axes are right-handed.
    normal = np.cross(column, row)
    affine = np.eye(4)
    affine[:3, 0] = normal * SPACING[0]
    affine[:3, 1] = column * SPACING[1]
    affine[:3, 2] = row * SPACING[2]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(kind.shape) - 1) / 2)
    return hd.VolumeGeometry(
        affine=affine,
        spatial_shape=kind.shape,
        coordinate_system="PATIENT",
        frame_of_reference_uid=f"{ROOT}.9",
    )


def source(
    kind: Kind | None = None,
    *,
    charset: str | list[str] = "ISO_IR 100",
    name: str = "Doe^Jane",
    **headers: object,
) -> Source:
    """A source of `kind`; `headers` replace or (None) remove attributes of every instance."""
    kind = kind or KINDS["axial CT"]
    space = geometry(kind)
    base = _patient_and_study(kind, charset, name)
    for keyword, value in headers.items():
        if value is None:
            if keyword in base:
                delattr(base, keyword)
        else:
            setattr(base, keyword, value)
    if kind.enhanced:
        return Source(
            datasets=(_enhanced(base, kind, space),),
            geometry=space,
            # Frames are stored the other way round than the volume's slices.
            frames=tuple(range(kind.shape[0], 0, -1)),
        )
    return Source(
        datasets=tuple(_classic(base, kind, space, k) for k in range(kind.shape[0])), geometry=space
    )


def with_pixels(image: Dataset) -> Dataset:
    """The header as a whole instance, for programs that read the source as well."""
    whole = Dataset()
    whole.update(image)
    frames = int(image.get("NumberOfFrames", 1))
    samples = frames * image.Rows * image.Columns * int(image.get("SamplesPerPixel", 1))
    stored = (np.arange(samples) % 1000).astype(f"u{image.BitsAllocated // 8}")
    whole.add_new(0x7FE00010, "OW", stored.tobytes())
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = whole.SOPClassUID
    meta.MediaStorageSOPInstanceUID = whole.SOPInstanceUID
    meta.ImplementationClassUID = f"{ROOT}.99"
    whole.file_meta = meta
    return whole


def _patient_and_study(kind: Kind, charset: str | list[str], name: str) -> Dataset:
    d = Dataset()
    d.SpecificCharacterSet = charset
    d.PatientName, d.PatientID, d.IssuerOfPatientID = name, "MRN-0815", "Hospital A"
    d.PatientBirthDate, d.PatientSex, d.PatientAge = "19600229", "F", "064Y"
    d.StudyInstanceUID, d.StudyID = f"{ROOT}.1", "S-1"
    d.StudyDate, d.StudyTime, d.AccessionNumber = "20260102", "101112", "ACC-1"
    d.ReferringPhysicianName, d.StudyDescription = "Refers^Ruth", "Thorax"
    d.Manufacturer, d.ManufacturerModelName, d.SoftwareVersions = "Scanners Inc", "Scan 9", ["1.0", "rev B"]
    d.DeviceSerialNumber, d.InstitutionName = "12345", "Hospital A"
    d.SOPClassUID = kind.sop_class
    d.Modality = "CT" if kind.sop_class in {CT, ENHANCED_CT} else "MR"
    d.SeriesInstanceUID, d.SeriesNumber, d.SeriesDescription = f"{ROOT}.2", 3, "Thorax 2.5"
    d.SeriesDate = d.AcquisitionDate = d.ContentDate = "20260102"
    d.SeriesTime = d.AcquisitionTime = d.ContentTime = "101200"
    d.BodyPartExamined, d.PatientPosition = "CHEST", kind.position
    d.FrameOfReferenceUID, d.PositionReferenceIndicator = f"{ROOT}.9", None
    d.Rows, d.Columns = kind.shape[1:]
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 12, 11, 0
    return d


def _ds(values: object) -> list[str]:
    return [f"{float(v):.6f}".rstrip("0").rstrip(".") or "0" for v in values]


def _classic(base: Dataset, kind: Kind, space: hd.VolumeGeometry, k: int) -> Dataset:
    d = Dataset()
    d.update(base)
    d.SOPInstanceUID = f"{ROOT}.3.{k + 1}"
    d.InstanceNumber = kind.shape[0] - k if kind.descending else k + 1
    d.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    d.AcquisitionNumber = 1
    d.ImagePositionPatient = _ds((space.affine @ [k, 0, 0, 1])[:3])
    d.ImageOrientationPatient = _ds([*kind.row, *kind.column])
    d.PixelSpacing, d.SliceThickness = _ds(SPACING[1:]), "2.5"
    if d.Modality == "CT":
        d.KVP, d.RescaleIntercept, d.RescaleSlope, d.RescaleType = "120", "-1024", "1", "HU"
    else:
        d.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        d.ScanningSequence, d.SequenceVariant, d.ScanOptions, d.MRAcquisitionType = "SE", "NONE", "", "2D"
        d.EchoTime, d.EchoTrainLength, d.RepetitionTime = "10", "1", "500"
    return d


def _enhanced(base: Dataset, kind: Kind, space: hd.VolumeGeometry) -> Dataset:
    d = Dataset()
    d.update(base)
    slices = kind.shape[0]
    d.SOPInstanceUID, d.InstanceNumber, d.NumberOfFrames = f"{ROOT}.3.1", 1, slices
    d.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = _ds(SPACING[1:]), "2.5"
    orientation.ImageOrientationPatient = _ds([*kind.row, *kind.column])
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    if not kind.per_frame_orientation:
        shared.PlaneOrientationSequence = [orientation]
    d.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for frame in range(1, slices + 1):
        position, item = Dataset(), Dataset()
        position.ImagePositionPatient = _ds((space.affine @ [slices - frame, 0, 0, 1])[:3])
        item.PlanePositionSequence = [position]
        if kind.per_frame_orientation:
            item.PlaneOrientationSequence = [orientation]
        groups.append(item)
    d.PerFrameFunctionalGroupsSequence = groups
    return d


PREDECESSOR = Predecessor(
    study=Uid(f"{ROOT}.1"),
    series=Uid("2.25.77"),
    sop_class=Uid("1.2.840.10008.5.1.4.1.1.88.34"),
    sop_instance=Uid("2.25.78"),
)


def a_run(
    of: Source,
    *,
    version: str = "1.0.0",
    settings: dict[str, object] | None = None,
    at: datetime | None = None,
) -> Run:
    provenance = Provenance(
        name="lung_ct",
        version=version,
        device_uid=Uid("2.25.1234567890123456789"),
        code_digest=Digest("ab" * 32),
        weights_digest=None,
        settings=settings or {"erode": 2},
        card_url="https://example.org/lung_ct",
    )
    return Run(
        provenance=provenance,
        series=Uid(str(of.first.SeriesInstanceUID)),
        inputs=tuple(Uid(str(d.SOPInstanceUID)) for d in of.datasets),
        at=at or datetime(2026, 1, 2, 12, 30, 15, 250000, tzinfo=UTC),
        software_version="0.1.0",
    )


@cache
def label_map(kind: Kind) -> NDArray[np.uint8]:
    """1 on the patient's right, 2 on the left, whatever the grid; no flip maps it on itself."""
    space = geometry(kind)
    index = np.indices(kind.shape).reshape(3, -1)
    x, y, z = (space.affine[:3, :3] @ index + space.affine[:3, 3:]).reshape(3, *kind.shape)
    labels = np.zeros(kind.shape, dtype=np.uint8)
    labels[((x + 3.1) / 2.4) ** 2 + ((y - 0.9) / 3.6) ** 2 + ((z - 1.4) / 7.2) ** 2 < 1] = 1
    labels[((x - 3.4) / 2.0) ** 2 + ((y - 1.3) / 3.1) ** 2 + ((z - 0.6) / 5.9) ** 2 < 1] = 2
    assert (labels == 1).any()
    assert (labels == 2).any()
    return labels


def findings(kind: Kind | None = None, **changes: object) -> Findings:
    """Two lungs, each with its volume and densities."""
    kind = kind or KINDS["axial CT"]
    labels = label_map(kind)
    voxel_ml = float(np.prod(SPACING)) / 1000
    segments = tuple(
        Segment(
            number=number,
            label=label,
            category=codes.ANATOMICAL_STRUCTURE,
            kind=codes.LUNG,
            laterality=side,
            colour_rgb=colour,
            measurements=(
                Measurement(
                    name=codes.VOLUME, value=int((labels == number).sum()) * voxel_ml, unit=codes.MILLILITRE
                ),
                Measurement(name=codes.LAA_950, value=12.5 + number, unit=codes.PERCENT),
                Measurement(name=codes.PERC15, value=-930.25 + number, unit=codes.HOUNSFIELD_UNIT),
                Measurement(
                    name=codes.ATTENUATION,
                    value=-851.0 - number,
                    unit=codes.HOUNSFIELD_UNIT,
                    derivation=codes.MEAN,
                ),
            ),
        )
        for number, label, side, colour in (
            (1, "Right lung", codes.RIGHT, (80, 160, 220)),
            (2, "Left lung", codes.LEFT, (230, 150, 60)),
        )
    )
    values: dict[str, object] = {"outcome": Outcome.FOUND, "label_map": labels, "segments": segments}
    return Findings(**(values | changes))


def nothing_found() -> Findings:
    return Findings(outcome=Outcome.NOTHING, because="No lung was found in the images.")


def not_analysed() -> Findings:
    return refused("Slices are 7.5 mm apart; the model takes at most 3 mm.", "The table is in the image.")


NODULE = Concept("27925004", "SCT", "Nodule")
