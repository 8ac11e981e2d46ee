"""
Every coded concept that our results use, and what each modality's procedure is called.

Rule 1: a standard code before a private one. `99WETREAD` holds only what no table of PS3.16 has.
Rule 2: an object that uses a private code says who is responsible for it (Coding Scheme Identification
Sequence).
"""

from collections.abc import Iterable, Iterator

from highdicom.sr import CodedConcept
from pydicom import Dataset

from ledger.identifiers import Uid
from results.findings import PRIVATE_SCHEME, CodingScheme, Concept

OURS = CodingScheme(
    designator=PRIVATE_SCHEME,
    name="Wetread private concepts",
    organization="Wetread",
    uid=Uid("2.25.303938861247064953302436189453168276487"),
)

# Segmented property category (CID 7150) and types
ANATOMICAL_STRUCTURE = Concept("91723000", "SCT", "Anatomical Structure")
MORPHOLOGICALLY_ABNORMAL_STRUCTURE = Concept("49755003", "SCT", "Morphologically Abnormal Structure")
LUNG = Concept("39607008", "SCT", "Lung")

# Laterality (CID 244)
RIGHT = Concept("24028007", "SCT", "Right")
LEFT = Concept("7771000", "SCT", "Left")

# Quantities
VOLUME = Concept("118565006", "SCT", "Volume")
ATTENUATION = Concept("112031", "DCM", "Attenuation Coefficient")
# Densitometry of emphysema: PS3.16 has no code for either (Shaker 2003; Parr 2006).
LAA_950 = Concept("LAA950", PRIVATE_SCHEME, "Low attenuation area at or below -950 HU")
PERC15 = Concept("PERC15", PRIVATE_SCHEME, "15th percentile of attenuation")

# How sure a model is. Certainty of Finding is 0 … 100 and may only order; a Probability was calibrated.
CERTAINTY = Concept("111012", "DCM", "Certainty of Finding")
PROBABILITY = Concept("122157", "DCM", "Probability")

THRESHOLD = Concept("122411", "DCM", "Threshold Value")
CALIBRATION = Concept("CALIBRATION", PRIVATE_SCHEME, "Calibration of the probability")
CALIBRATED = Concept("CALIBRATED", PRIVATE_SCHEME, "Fitted to observed frequencies")
NOT_CALIBRATED = Concept("NOTCALIBRATED", PRIVATE_SCHEME, "Not calibrated: it only orders")

# The size of a box, along the axes of its image: in millimetres
WIDTH = Concept("103355008", "SCT", "Width")
HEIGHT = Concept("121207", "DCM", "Height")
DEPTH = Concept("131197000", "SCT", "Depth")
BOUNDED_BY = Concept("75958009", "SCT", "Bounded by")  # CID 219

# Where a landmark is
STANDARD_DEVIATION = Concept("113061", "DCM", "Standard Deviation")
OFF_PLANE = Concept("OFFPLANE", PRIVATE_SCHEME, "Distance from the image towards the next slice")

# How a quantity was derived (CID 7464)
MAXIMUM = Concept("56851009", "SCT", "Maximum")
MEAN = Concept("373098007", "SCT", "Mean")

# Units (UCUM)
MILLILITRE = Concept("ml", "UCUM", "milliliter")
CUBIC_MILLIMETRE = Concept("mm3", "UCUM", "cubic millimeter")
HOUNSFIELD_UNIT = Concept("[hnsf'U]", "UCUM", "Hounsfield unit")
PERCENT = Concept("%", "UCUM", "percent")
MILLIMETRE = Concept("mm", "UCUM", "millimeter")

#: One unit of volume in mm³, by its UCUM code: what `results.check` needs to compare a volume with its
#: voxels.
VOLUME_UNITS_MM3 = {"mm3": 1.0, "mL": 1000.0, "ml": 1000.0, "cm3": 1000.0, "L": 1e6, "l": 1e6}

# The structure of a report
TITLE = Concept("126001", "DCM", "Oncology Measurement Report")  # CID 7021; why: `results.report`
DRAWN_TITLE = Concept("126000", "DCM", "Imaging Measurement Report")  # why: `results.marks`
IMAGING_MEASUREMENTS = Concept("126010", "DCM", "Imaging Measurements")
MEASUREMENT_GROUP = Concept("125007", "DCM", "Measurement Group")
QUALITATIVE_EVALUATIONS = Concept("C0034375", "UMLS", "Qualitative Evaluations")
COMMENT = Concept("121106", "DCM", "Comment")
ABSENT = Concept("2667000", "SCT", "Absent")
PRESENT = Concept("52101004", "SCT", "Present")
FINDING = Concept("121071", "DCM", "Finding")
IMAGE_REGION = Concept("111030", "DCM", "Image Region")
SOURCE_OF_MEASUREMENT = Concept("121112", "DCM", "Source of Measurement")
REFERENCED_SEGMENT = Concept("121191", "DCM", "Referenced Segment")
SOURCE_SERIES = Concept("121232", "DCM", "Source series for segmentation")
TRACKING_UID = Concept("112040", "DCM", "Tracking Unique Identifier")
FINDING_SITE = Concept("363698007", "SCT", "Finding Site")
LATERALITY = Concept("272741003", "SCT", "Laterality")
ALGORITHM_NAME = Concept("111001", "DCM", "Algorithm Name")
ALGORITHM_VERSION = Concept("111003", "DCM", "Algorithm Version")
OBSERVER_UID = Concept("121012", "DCM", "Device Observer UID")
OBSERVER_MANUFACTURER = Concept("121014", "DCM", "Device Observer Manufacturer")
OBSERVER_MODEL = Concept("121015", "DCM", "Device Observer Model Name")

# Rejection notes (TID 2010): titles from CID 7031, the part of CID 7010 that archives act upon (IHE IOCM)
REJECTED_FOR_QUALITY = Concept("113001", "DCM", "Rejected for Quality Reasons")
RETENTION_EXPIRED = Concept("113039", "DCM", "Data Retention Policy Expired")
KEY_OBJECT_DESCRIPTION = Concept("113012", "DCM", "Key Object Description")

# How the analysis ended: silence would be indistinguishable from "not processed".
ANALYSIS_OUTCOME = Concept("OUTCOME", PRIVATE_SCHEME, "Outcome of the analysis")
ANALYSED = Concept("ANALYSED", PRIVATE_SCHEME, "Analysed")
NOTHING_FOUND = Concept("NOTHING", PRIVATE_SCHEME, "Analysed, nothing found")
NOT_ANALYSED = Concept("NOTANALYSED", PRIVATE_SCHEME, "Not analysed")

# Provenance
ARTIFICIAL_INTELLIGENCE = Concept("123110", "DCM", "Artificial Intelligence")  # CID 7162
PROCESSING_EQUIPMENT = Concept("109102", "DCM", "Processing Equipment")  # CID 7005
ACQUISITION_EQUIPMENT = Concept("109101", "DCM", "Acquisition Equipment")
DERIVED_BY_SEGMENTATION = Concept("113076", "DCM", "Segmentation")  # CID 7203
DERIVED_BY_INFERENCE = Concept("INFERENCE", PRIVATE_SCHEME, "Inference of a model")  # CID 7203 has none
QUANTITY = Concept("246205007", "SCT", "Quantity")
SOURCE_IMAGE = Concept("121322", "DCM", "Source image for image processing operation")  # CID 7202

_CT = Concept("25045-6", "LN", "CT unspecified body region")
_MR = Concept("25056-3", "LN", "MRI unspecified body region")
_XR = Concept("43468-8", "LN", "XR unspecified body region")
_NM = Concept("49118-3", "LN", "NM unspecified body region")
_PT = Concept("44136-0", "LN", "PET unspecified body region")

#: Procedure reported (121058) must come from CID 100, which knows no body region that we could be sure of.
_PROCEDURES = {"CT": _CT, "MR": _MR, "NM": _NM, "PT": _PT}


def procedure_reported(modality: str) -> Concept:
    """The imaging procedure that was analysed (never the analysis itself), from CID 100."""
    # CID 100 has no general code for ultrasound, photography and the like; the projection X-ray one is the
    # widest.
    return _PROCEDURES.get(modality, _XR)


def coded(concept: Concept) -> CodedConcept:
    """The concept as an item of a code sequence."""
    return CodedConcept(concept.value, concept.scheme, concept.meaning)


def identify_schemes(
    dataset: Dataset, theirs: Iterable[CodingScheme] = (), *, ours_in_frames: bool = False
) -> None:
    """Say in Coding Scheme Identification Sequence (0008,0110) who is responsible for the private codes that
    `dataset` uses: ours, or `theirs`, of the model. Without such codes the sequence is left out.

    The functional groups of the frames are not looked through: `ours_in_frames` says what they hold.
    """
    used = set(schemes_used(dataset)) | ({PRIVATE_SCHEME} if ours_in_frames else set())
    items = [_identification(one) for one in (OURS, *theirs) if one.designator in used]
    if items:
        dataset.CodingSchemeIdentificationSequence = items


def _identification(scheme: CodingScheme) -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator = scheme.designator
    if scheme.uid is not None:
        item.CodingSchemeUID = str(scheme.uid)
    item.CodingSchemeName = scheme.name
    item.CodingSchemeResponsibleOrganization = scheme.organization
    return item


def schemes_used(dataset: Dataset) -> Iterator[str]:
    """Every Coding Scheme Designator in `dataset`, however deep, in document order."""
    for element in dataset:
        if element.keyword == "CodingSchemeDesignator":
            yield str(element.value)
        elif element.VR == "SQ" and element.keyword != "PerFrameFunctionalGroupsSequence":
            # The per-frame groups hold two standard codes each, thousands of times.
            for item in element.value:
                yield from schemes_used(item)
