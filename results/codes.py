"""
Every coded concept that our results use, and what each modality's procedure is called.

Rule 1: a standard code before a private one. `99WETREAD` holds only what no table of PS3.16 has.
Rule 2: an object that uses a private code says who is responsible for it (Coding Scheme Identification
Sequence).
"""

from collections.abc import Iterable, Iterator, Mapping

from highdicom.sr import CodedConcept
from pydicom import Dataset

from ledger.identifiers import Uid
from ledger.result import Role
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
TRACHEA_AND_BRONCHUS = Concept("110726009", "SCT", "Trachea and bronchus")

BACKGROUND = Concept("125040", "DCM", "Background")  # of a label map: value 0

# Laterality (CID 244)
RIGHT = Concept("24028007", "SCT", "Right")
LEFT = Concept("7771000", "SCT", "Left")

# Quantities
VOLUME = Concept("118565006", "SCT", "Volume")
ATTENUATION = Concept("112031", "DCM", "Attenuation Coefficient")
# Densitometry of emphysema: PS3.16 has no code for either (Shaker 2003; Parr 2006).
LAA_950 = Concept("LAA950", PRIVATE_SCHEME, "Low attenuation area at or below -950 HU")
PERC15 = Concept("PERC15", PRIVATE_SCHEME, "15th percentile of attenuation")
# Podolanczuk 2016; the thirds of a lung are parts of its height.
HAA = Concept("HAA600250", PRIVATE_SCHEME, "High attenuation area from -600 to -250 HU")
LAA_950_OF_THIRD = {
    third: Concept(f"LAA950{third.upper()}", PRIVATE_SCHEME, f"LAA-950 of the {third} third")
    for third in ("upper", "middle", "lower")
}
ATTENUATION_OF_THIRD = {
    third: Concept(f"HU{third.upper()}", PRIVATE_SCHEME, f"Attenuation of the {third} third")
    for third in ("upper", "middle", "lower")
}
VOLUME_OF_BOTH_LUNGS = Concept("LUNGSVOLUME", PRIVATE_SCHEME, "Volume of both lungs")
ATTENUATION_OF_BOTH_LUNGS = Concept("LUNGSHU", PRIVATE_SCHEME, "Attenuation of both lungs")
LAA_950_OF_BOTH_LUNGS = Concept("LUNGSLAA950", PRIVATE_SCHEME, "LAA-950 of both lungs")

# Of single images: how good they are (111101 and CID 6135), and what is drawn and measured of them
IMAGE_QUALITY = Concept("111101", "DCM", "Image Quality")
UNDER_EXPOSED = Concept("111211", "DCM", "Under exposed")
OVER_EXPOSED = Concept("111212", "DCM", "Over exposed")
AREA = Concept("42798000", "SCT", "Area")
BREAST = Concept("76752008", "SCT", "Breast")
PECTORAL_MUSCLE = Concept("60005003", "SCT", "Pectoralis major muscle")
PERCENT_DENSITY = Concept("111046", "DCM", "Percent Fibroglandular Tissue")
DENSE_TISSUE = Concept("DENSETISSUE", PRIVATE_SCHEME, "Dense tissue on a mammogram")
TISSUE = Concept("85756007", "SCT", "Tissue")
SPATIAL_CONCEPT = Concept("309825002", "SCT", "Spatial and Relational Concept")  # CID 7150
BY_THRESHOLD = Concept("THRESHOLDAREA", PRIVATE_SCHEME, "Area above a threshold, of the area of the breast")
INCONSPICUOUS = Concept("INCONSPICUOUS", PRIVATE_SCHEME, "Nothing conspicuous")
NOT_JUDGED = Concept("NOTJUDGED", PRIVATE_SCHEME, "Not judged")
UNSHARP = Concept("UNSHARP", PRIVATE_SCHEME, "Unsharp")
UNEVEN = Concept("UNEVEN", PRIVATE_SCHEME, "Unevenly lit")
SIDE_CONTRADICTED = Concept("SIDECONTRADICTED", PRIVATE_SCHEME, "Contradicts the stated side")
EDGE_BLUR_OF_FIELD = Concept(
    "EDGEBLURFIELD", PRIVATE_SCHEME, "Blur of the sharpest edges, of the field's diameter"
)
BLOOD_VESSEL = Concept("59820001", "SCT", "Blood vessel")
VESSEL_DENSITY = Concept("VESSELDENSITY", PRIVATE_SCHEME, "Vessels, of the area of the field of view")
ILLUMINATION = Concept("ILLUMINATION", PRIVATE_SCHEME, "Darkest over brightest tenth of the field of view")
FIELD_OF_VIEW = Concept("FIELDOFVIEW", PRIVATE_SCHEME, "Field of view of a photograph")

# Of radiographs: view (CID 4010), exposure (IEC 62494-1), field, and how they lie
IMAGE_VIEW = Concept("111031", "DCM", "Image View")
POSTERO_ANTERIOR = Concept("272479007", "SCT", "postero-anterior")
ANTERO_POSTERIOR = Concept("399348003", "SCT", "antero-posterior")
FRONTAL = Concept("399033003", "SCT", "frontal")
LATERAL = Concept("399067008", "SCT", "lateral")
NOT_FRONTAL = Concept("NOTFRONTAL", PRIVATE_SCHEME, "Not like a frontal view")
NOT_STATED = Concept("NOTSTATED", PRIVATE_SCHEME, "Not stated")
PHOTOMETRIC = Concept("PHOTOMETRIC", PRIVATE_SCHEME, "Photometric Interpretation")
MONOCHROME = {name: Concept(name, PRIVATE_SCHEME, name) for name in ("MONOCHROME1", "MONOCHROME2")}
EXPOSURE_INDEX = Concept("113845", "DCM", "Exposure Index")
TARGET_EXPOSURE_INDEX = Concept("113846", "DCM", "Target Exposure Index")
DEVIATION_INDEX = Concept("113847", "DCM", "Deviation Index")
TURNED = Concept("TURNED", PRIVATE_SCHEME, "Turned")
GREYS_INVERTED = Concept("GREYSINVERTED", PRIVATE_SCHEME, "Inverted grey values")
VIEW_CONTRADICTED = Concept("VIEWCONTRADICTED", PRIVATE_SCHEME, "Contradicts the stated view")
CUT_OFF = Concept("CUTOFF", PRIVATE_SCHEME, "Lungs cut off")
CLIPPED = Concept("CLIPPED", PRIVATE_SCHEME, "Clipped grey values")
NOISY = Concept("NOISY", PRIVATE_SCHEME, "Noisy")
EXPOSED_FIELD = Concept("EXPOSEDFIELD", PRIVATE_SCHEME, "Field of a radiograph without its flat margins")
FIELD_SHARE = Concept("FIELDSHARE", PRIVATE_SCHEME, "Field, of the area of the image")
MARGIN_OF_IMAGE = {
    side: Concept(f"MARGIN{side.upper()}", PRIVATE_SCHEME, f"Flat margin at the {side} edge of the image")
    for side in ("upper", "lower", "left", "right")
}
LUNGS_TO_EDGE = {
    side: Concept(
        f"LUNGS{side.upper()}", PRIVATE_SCHEME, f"Distance of the lungs from the {side} edge of the field"
    )
    for side in ("upper", "lower", "left", "right")
}
CLIPPED_BLACK = Concept("CLIPPEDBLACK", PRIVATE_SCHEME, "Lungs at the darkest value")
CLIPPED_WHITE = Concept("CLIPPEDWHITE", PRIVATE_SCHEME, "Field at the brightest value")
USED_RANGE = Concept("USEDRANGE", PRIVATE_SCHEME, "Used part of the grey values that can be stored")
CONTRAST_TO_NOISE = Concept("CONTRASTNOISE", PRIVATE_SCHEME, "Contrast of the field over its noise")
EDGE_BLUR = Concept("EDGEBLUR", PRIVATE_SCHEME, "Blur of the sharpest edges")

# Lung nodules: PS3.16 has neither (Fleischner Society: MacMahon 2017).
SOLID_FRACTION = Concept("SOLIDFRACTION", PRIVATE_SCHEME, "Solid part of a nodule")
TO_PLEURA = Concept("TOPLEURA", PRIVATE_SCHEME, "Distance to the pleura")
NODULE_DENSITY = Concept("NODULEDENSITY", PRIVATE_SCHEME, "Density class of a nodule")

# How sure a model is. Certainty of Finding is 0 … 100 and may only order; a Probability was calibrated.
CERTAINTY = Concept("111012", "DCM", "Certainty of Finding")
PROBABILITY = Concept("122157", "DCM", "Probability")

# What a classifier says of a chest radiograph: PS3.16 has no question of its own for it.
PNEUMONIA = Concept("233604007", "SCT", "Pneumonia")
AI_READING = Concept("AIREADING", PRIVATE_SCHEME, "AI reading of a classifier")
EQUIVOCAL = Concept("42425007", "SCT", "Equivocal")  # CID 3120

THRESHOLD = Concept("122411", "DCM", "Threshold Value")
CALIBRATION = Concept("CALIBRATION", PRIVATE_SCHEME, "Calibration of the probability")
CALIBRATED = Concept("CALIBRATED", PRIVATE_SCHEME, "Fitted to observed frequencies")
NOT_CALIBRATED = Concept("NOTCALIBRATED", PRIVATE_SCHEME, "Not calibrated: it only orders")

# The size of a box, along the axes of its image: in millimetres
WIDTH = Concept("103355008", "SCT", "Width")
HEIGHT = Concept("121207", "DCM", "Height")
DEPTH = Concept("131197000", "SCT", "Depth")
BOUNDED_BY = Concept("75958009", "SCT", "Bounded by")  # CID 219

# Of a lesion, on the slice where it is largest
LONG_AXIS = Concept("103339001", "SCT", "Long Axis")
SHORT_AXIS = Concept("103340004", "SCT", "Short Axis")

# What follows from the findings, and what they are compared with
RECOMMENDATION = Concept("121075", "DCM", "Recommendation")
FOLLOW_UP = Concept("111053", "DCM", "Recommended Follow-up")
FOLLOW_UP_DATE = Concept("111054", "DCM", "Recommended Follow-up Date")
FOLLOW_UP_INTERVAL = Concept("111055", "DCM", "Recommended Follow-up Interval")
DERIVED_FROM = Concept("DERIVEDFROM", PRIVATE_SCHEME, "Derived from")
DERIVED_MEASUREMENTS = Concept("126011", "DCM", "Derived Imaging Measurements")
DERIVATION = Concept("121401", "DCM", "Derivation")
CHANGE = Concept("CHANGE", PRIVATE_SCHEME, "Change since the earlier examination")
TIME_POINT = Concept("C2348792", "UMLS", "Time Point")
TEMPORAL_OFFSET = Concept("128740", "DCM", "Longitudinal Temporal Offset from Event")
STUDY_DATE = Concept("111060", "DCM", "Study Date")
STUDY_UID = Concept("110180", "DCM", "Study Instance UID")

# Coronary calcium (CID 6142, CID 6140); PS3.16 has no code for CAC-DRS (Hecht 2018)
CORONARY_ARTERY = Concept("41801008", "SCT", "Coronary artery")
VASCULAR_CALCIFICATION = Concept("237897009", "SCT", "Vascular Calcification")
CALCIUM_SCORE = Concept("450360000", "SCT", "Coronary artery calcium score")
CALCIUM_MASS = Concept("122661", "DCM", "Calcium Mass")
AGATSTON = Concept("112055", "DCM", "Agatston scoring method")
CAC_DRS = Concept("CACDRS", PRIVATE_SCHEME, "CAC-DRS category of the Agatston score")

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
SQUARE_MILLIMETRE = Concept("mm2", "UCUM", "square millimeter")
PER_MILLE = Concept("[ppth]", "UCUM", "parts per thousand")
MILLIGRAM = Concept("mg", "UCUM", "milligram")
NO_UNITS = Concept("1", "UCUM", "no units")
PIXEL = Concept("{pixels}", "UCUM", "pixels")
SQUARE_CENTIMETRE = Concept("cm2", "UCUM", "square centimeter")
DAY = Concept("d", "UCUM", "day")
MONTH = Concept("mo", "UCUM", "month")

#: One unit of volume in mm³, by its UCUM code: what `results.check` needs to compare a volume with its
#: voxels.
VOLUME_UNITS_MM3 = {"mm3": 1.0, "mL": 1000.0, "ml": 1000.0, "cm3": 1000.0, "L": 1e6, "l": 1e6}

# The structure of a report
TITLE = Concept("126001", "DCM", "Oncology Measurement Report")  # CID 7021; why: `results.report`
DRAWN_TITLE = Concept("126000", "DCM", "Imaging Measurement Report")  # why: `results.marks`
IMAGING_MEASUREMENTS = Concept("126010", "DCM", "Imaging Measurements")
MEASUREMENT_GROUP = Concept("125007", "DCM", "Measurement Group")
QUALITATIVE_EVALUATIONS = Concept("C0034375", "UMLS", "Qualitative Evaluations")
LANGUAGE = Concept("121049", "DCM", "Language of Content Item and Descendants")
COMMENT = Concept("121106", "DCM", "Comment")
ABSENT = Concept("2667000", "SCT", "Absent")
PRESENT = Concept("52101004", "SCT", "Present")
FINDING = Concept("121071", "DCM", "Finding")
IMAGE_REGION = Concept("111030", "DCM", "Image Region")
SOURCE_OF_MEASUREMENT = Concept("121112", "DCM", "Source of Measurement")
REFERENCED_SEGMENT = Concept("121191", "DCM", "Referenced Segment")
SOURCE_SERIES = Concept("121232", "DCM", "Source series for segmentation")
TRACKING_IDENTIFIER = Concept("112039", "DCM", "Tracking Identifier")
TRACKING_UID = Concept("112040", "DCM", "Tracking Unique Identifier")
FINDING_SITE = Concept("363698007", "SCT", "Finding Site")
LATERALITY = Concept("272741003", "SCT", "Laterality")
ALGORITHM_NAME = Concept("111001", "DCM", "Algorithm Name")
ALGORITHM_VERSION = Concept("111003", "DCM", "Algorithm Version")
OBSERVER_UID = Concept("121012", "DCM", "Device Observer UID")
OBSERVER_MANUFACTURER = Concept("121014", "DCM", "Device Observer Manufacturer")
OBSERVER_MODEL = Concept("121015", "DCM", "Device Observer Model Name")

# The other objects of a run, as its report names them: PS3.16 has no purposes of reference for most
OTHER_RESULTS = Concept("OTHERRESULTS", PRIVATE_SCHEME, "Other results of this AI run")
RESULT_OF: Mapping[Role, Concept] = {
    role: Concept(role.name.replace("_", ""), PRIVATE_SCHEME, f"AI {role}")
    for role in Role
    if not role.is_root and role is not Role.REJECTION_NOTE
}

# Key images (TID 2010): a title of CID 7010 that archives do not act upon
OF_INTEREST = Concept("113000", "DCM", "Of Interest")

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
_ANY = Concept("363679005", "SCT", "Imaging procedure")

#: Procedure reported (121058) must come from CID 100, which knows no body region that we could be sure of.
_PROCEDURES = {"CT": _CT, "MR": _MR, "NM": _NM, "PT": _PT}
_PROCEDURES |= dict.fromkeys(("CR", "DX", "MG", "XA", "RF", "RG", "IO", "PX"), _XR)


def procedure_reported(modality: str) -> Concept:
    """The imaging procedure that was analysed (never the analysis itself), from CID 100."""
    # CID 100 has no code for ultrasound, photography and the like: they are imaging, and that is all.
    return _PROCEDURES.get(modality, _ANY)


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
