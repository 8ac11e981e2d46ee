"""
Heat maps → DICOM Parametric Map (PS3.3 §A.75): one number for every voxel of the source.

In floating point, because viewers draw integer maps saturated; the real world value is the stored value, and
what it is the value of is said in code. One object in one series for each map. An explanation of a finding
says in its Series Description that it is not diagnostic: it shows what a decision hung on, not what is there.

A parametric map needs a frame of reference and a place in it (Table A.75-1). A radiograph has neither, and to
invent them would put the map beside every other object of the patient: such a map is not kept, and the report
says so.
"""

import numpy as np
from pydicom import Dataset
from pydicom.tag import Tag

from ledger.identifiers import Uid
from ledger.result import Role
from results import codes
from results.asked import Asked
from results.findings import Findings, HeatMap
from results.frames import Frame, add_functional_groups
from results.grid import Grid, NotEncodable, grid_of
from results.headers import result_headers
from results.segmentation import frame_of_reference, reference_source, shared_groups
from results.source import Source
from results.words import long_string, map_description, plain

PARAMETRIC_MAP_STORAGE = Uid("1.2.840.10008.5.1.4.1.1.30")


def build(asked: Asked) -> list[Dataset]:
    """The parametric maps of `kept_maps`, in that order, without file meta information.

    Raises `NotEncodable` where a map does not fit the source.
    """
    kept = kept_maps(asked.findings, asked.source)
    if not kept:
        return []
    grid = grid_of(asked.source)
    return [_build(asked, one, grid, index) for index, one in enumerate(kept)]


def kept_maps(findings: Findings, source: Source) -> tuple[HeatMap, ...]:
    """The maps that become objects: all of a volume, none of an image without a place."""
    return () if source.geometry is None else findings.maps


def role_of(one: HeatMap) -> str:
    """The name of the map in the UIDs that derive from the run: there may be several."""
    return f"{Role.PARAMETRIC_MAP} {one.label}"


def _build(asked: Asked, one: HeatMap, grid: Grid, index: int) -> Dataset:
    source, run = asked.source, asked.run
    if one.values.shape != grid.shape:
        raise NotEncodable(f"the map {one.label!r} is {one.values.shape}, the source {grid.shape}")
    dataset = result_headers(
        asked,
        Role.PARAMETRIC_MAP,
        sop_class=PARAMETRIC_MAP_STORAGE,
        series_description=map_description(asked, one),
        index=index,
        name=role_of(one),
    )
    frame_of_reference(dataset, source, grid)
    _image(dataset, one, grid)
    reference_source(dataset, source, grid)
    _dimensions(dataset, asked, one)
    dataset.SharedFunctionalGroupsSequence = [_shared(one, grid, dataset.ImageType)]
    # From the last slice of the volume to the first, so upwards along rows x columns. OHIF 3.13 reads a map's
    # frames one after the other into a volume that runs this way, whatever they say of their places: in the
    # other order it draws each frame as far from the wrong end.
    dataset.add_new(0x7FE00008, "OF", np.ascontiguousarray(one.values[::-1], "<f4").tobytes())
    frames = [Frame(None, plane) for plane in reversed(range(len(grid.planes)))]
    # How the frames were derived is said by a code of our own.
    codes.identify_schemes(dataset, run.provenance.schemes, ours_in_frames=True)
    add_functional_groups(dataset, grid, frames, codes.DERIVED_BY_INFERENCE)
    return dataset


def _image(dataset: Dataset, one: HeatMap, grid: Grid) -> None:
    """Parametric Map Image and Floating Point Image Pixel (PS3.3 §C.8.32.2, §C.7.6.24)."""
    dataset.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "QUANTITY"]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.Rows, dataset.Columns = grid.rows, grid.columns
    dataset.BitsAllocated = 32
    dataset.LossyImageCompression = "00"  # `reference_source` says otherwise where the source lost something
    dataset.BurnedInAnnotation = "NO"
    dataset.RecognizableVisualFeatures = "NO"
    dataset.ContentQualification = "RESEARCH"
    dataset.PixelPresentation = "MONOCHROME"
    dataset.ContentLabel = "EXPLANATION" if one.explains else "MAP"
    said = f"{one.label}, which explains {one.explains}" if one.explains else one.label
    # First what must not be cut off: there is room for 64 characters.
    dataset.ContentDescription = long_string(f"AI, not verified: {said}")
    dataset.ContentCreatorName = None  # Type 2: no person made it
    dataset.AcquisitionContextSequence = []  # Type 2


def _dimensions(dataset: Dataset, asked: Asked, one: HeatMap) -> None:
    """Frames are found by their place (PS3.3 §C.7.6.17)."""
    organization = Dataset()
    organization.DimensionOrganizationUID = str(asked.uid(role_of(one), "dimension organization"))
    dataset.DimensionOrganizationSequence = [organization]
    pointer = Dataset()
    pointer.DimensionIndexPointer, pointer.FunctionalGroupPointer = Tag(0x00200032), Tag(0x00209113)
    pointer.DimensionOrganizationUID = organization.DimensionOrganizationUID
    pointer.DimensionDescriptionLabel = "Image Position (Patient)"
    dataset.DimensionIndexSequence = [pointer]


def _shared(one: HeatMap, grid: Grid, image_type: list[str]) -> Dataset:
    item = shared_groups(grid)
    low, high = float(one.values.min()), float(one.values.max())
    quantity = Dataset()
    quantity.ValueType = "CODE"
    quantity.ConceptNameCodeSequence = [codes.coded(codes.QUANTITY)]
    quantity.ConceptCodeSequence = [codes.coded(one.quantity)]
    mapping = Dataset()
    mapping.LUTLabel = plain(one.label, 16)
    mapping.LUTExplanation = long_string(one.label)
    mapping.MeasurementUnitsCodeSequence = [codes.coded(one.unit)]
    mapping.DoubleFloatRealWorldValueFirstValueMapped = low
    mapping.DoubleFloatRealWorldValueLastValueMapped = high
    mapping.RealWorldValueIntercept, mapping.RealWorldValueSlope = 0.0, 1.0
    mapping.QuantityDefinitionSequence = [quantity]
    item.RealWorldValueMappingSequence = [mapping]
    window = Dataset()
    window.WindowCenter = f"{(low + high) / 2:.8g}"
    window.WindowWidth = f"{(high - low) or 1.0:.8g}"
    # LINEAR, the default, is made for whole numbers and knows no width below 1 (PS3.3 §C.11.2.1.2).
    window.VOILUTFunction = "LINEAR_EXACT"
    item.FrameVOILUTSequence = [window]
    identity = Dataset()
    identity.RescaleIntercept, identity.RescaleSlope, identity.RescaleType = "0", "1", "US"
    item.PixelValueTransformationSequence = [identity]
    frame_type = Dataset()
    frame_type.FrameType = list(image_type)
    item.ParametricMapFrameTypeSequence = [frame_type]
    return item
