"""
A phantom as an enhanced scanner would send it: one Enhanced CT Image Storage instance (PS3.3 §A.38).

What all frames share stands once in the Shared Functional Groups; each frame adds where it lies. The frames
are stored from the feet upwards, against the order of the slices: the positions say where they belong.
"""

from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage

from models.training.phantom_series import RESCALE_INTERCEPT, decimal, series_header, uid_of, write
from models.training.phantoms import Phantom

_MOMENT = "20240105101500"
_FRAME_TYPE = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]


def write_enhanced(
    phantom: Phantom,
    folder: Path,
    *,
    patient_name: str = "Phantom^Chest",
    patient_id: str = "PHANTOM-1",
    accession: str = "",
    series_number: int = 2,
    **attributes: object,
) -> list[Path]:
    """Write the phantom as one multi-frame instance into `folder`; the only path."""
    folder.mkdir(parents=True, exist_ok=True)
    instance = series_header(phantom, patient_name, patient_id, accession, series_number)
    for moved in ("ImageOrientationPatient", "PixelSpacing", "SliceThickness", "ConvolutionKernel", "KVP"):
        delattr(instance, moved)
    for moved in ("RescaleIntercept", "RescaleSlope", "RescaleType", "WindowCenter", "WindowWidth"):
        delattr(instance, moved)
    if "ContrastBolusAgent" in instance:  # Enhanced CT describes it by codes, which a phantom has none of
        del instance.ContrastBolusAgent
    del instance.AcquisitionDate, instance.AcquisitionTime
    instance.SOPClassUID = EnhancedCTImageStorage
    instance.SOPInstanceUID = str(uid_of(str(instance.SeriesInstanceUID), "enhanced"))
    instance.InstanceNumber = 1
    _describe_image(instance, phantom)
    instance.SharedFunctionalGroupsSequence = Sequence([_shared(phantom)])
    positions = phantom.geometry.get_plane_positions()
    order = range(len(positions) - 1, -1, -1)
    instance.PerFrameFunctionalGroupsSequence = Sequence(
        [
            _frame(number, [decimal(value) for value in positions[k][0].ImagePositionPatient])
            for number, k in enumerate(order, 1)
        ]
    )
    stored = phantom.hu[::-1].astype(np.int32) - RESCALE_INTERCEPT
    instance.PixelData = stored.astype("<u2").tobytes()
    for keyword, value in attributes.items():
        setattr(instance, keyword, value)
    path = folder / "ENHANCED.dcm"
    write(instance, path)
    return [path]


def _describe_image(instance: Dataset, phantom: Phantom) -> None:
    """Image-level attributes of the Enhanced CT Image and Multi-frame Dimension modules."""
    instance.ImageType = _FRAME_TYPE
    instance.NumberOfFrames = phantom.hu.shape[0]
    instance.AcquisitionDateTime = instance.ContentDate + instance.ContentTime
    instance.AcquisitionDuration = 1.0
    instance.PixelPresentation = "MONOCHROME"
    instance.VolumetricProperties = "VOLUME"
    instance.VolumeBasedCalculationTechnique = "NONE"
    instance.ContentQualification = "RESEARCH"
    instance.BurnedInAnnotation = "NO"
    instance.LossyImageCompression = "00"
    instance.PresentationLUTShape = "IDENTITY"
    instance.AcquisitionContextSequence = Sequence()
    organization = Dataset()
    organization.DimensionOrganizationUID = str(uid_of(str(instance.SeriesInstanceUID), "dimensions"))
    instance.DimensionOrganizationSequence = Sequence([organization])
    index = Dataset()
    index.DimensionOrganizationUID = organization.DimensionOrganizationUID
    index.DimensionIndexPointer = 0x00200032  # Image Position (Patient)
    index.FunctionalGroupPointer = 0x00209113  # Plane Position Sequence
    instance.DimensionIndexSequence = Sequence([index])


def _shared(phantom: Phantom) -> Dataset:
    """The functional groups that are the same for every frame."""
    geometry = phantom.geometry
    measures = Dataset()
    measures.SliceThickness = decimal(geometry.spacing_between_slices)
    measures.PixelSpacing = [decimal(value) for value in geometry.pixel_spacing]
    orientation = Dataset()
    cosines = geometry.get_plane_orientation()[0].ImageOrientationPatient
    orientation.ImageOrientationPatient = [decimal(value) for value in cosines]
    frame_type = Dataset()
    frame_type.FrameType = _FRAME_TYPE
    frame_type.PixelPresentation = "MONOCHROME"
    frame_type.VolumetricProperties = "VOLUME"
    frame_type.VolumeBasedCalculationTechnique = "NONE"
    hounsfield = Dataset()
    hounsfield.RescaleIntercept, hounsfield.RescaleSlope = RESCALE_INTERCEPT, 1
    hounsfield.RescaleType = "HU"
    window = Dataset()
    window.WindowCenter, window.WindowWidth = -500, 1500
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "51185008", "SCT", "Chest"
    event = Dataset()
    event.IrradiationEventUID = str(uid_of(str(geometry.frame_of_reference_uid), "irradiation event"))
    anatomy = Dataset()
    anatomy.FrameLaterality = "U"
    anatomy.AnatomicRegionSequence = Sequence([region])

    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.CTImageFrameTypeSequence = Sequence([frame_type])
    shared.PixelValueTransformationSequence = Sequence([hounsfield])
    shared.FrameVOILUTSequence = Sequence([window])
    shared.IrradiationEventIdentificationSequence = Sequence([event])
    shared.FrameAnatomySequence = Sequence([anatomy])
    return shared


def _frame(number: int, position: list[object]) -> Dataset:
    """Where frame `number` (from 1) lies."""
    content = Dataset()
    content.FrameAcquisitionNumber = 1
    content.FrameReferenceDateTime = content.FrameAcquisitionDateTime = _MOMENT
    content.FrameAcquisitionDuration = 1.0
    content.StackID = "1"
    content.InStackPositionNumber = number
    content.DimensionIndexValues = [number]
    plane = Dataset()
    plane.ImagePositionPatient = position
    frame = Dataset()
    frame.FrameContentSequence = Sequence([content])
    frame.PlanePositionSequence = Sequence([plane])
    return frame
