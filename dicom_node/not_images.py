"""What is never given to a model, whatever the rules say: it is no picture of the patient to be measured."""

from dicom_node.series_facts import SeriesFacts
from ledger.identifiers import Uid

OUR_MANUFACTURER = "Wetread"  # Manufacturer (0008,0070) of every result that we make, here or at another site

# A stack this long is an examination, even where its first image is a scout.
_SCOUTS_AT_MOST = 20

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # of a single frame, as it was before 2000
_FILMS = frozenset({"CR", "DX", "MG", "RG"})

#: SOP Class UID, or the beginning of several, → what it is (PS3.4 §B.5). The longest beginning counts.
NO_IMAGES: dict[str, str] = {
    "1.2.840.10008.1.3.10": "a media directory",
    "1.2.840.10008.5.1.4.1.1.7": "a secondary capture",
    "1.2.840.10008.5.1.4.1.1.9": "a waveform",
    "1.2.840.10008.5.1.4.1.1.11": "a presentation state",
    "1.2.840.10008.5.1.4.1.1.30": "a parametric map",
    "1.2.840.10008.5.1.4.1.1.66": "raw data",
    "1.2.840.10008.5.1.4.1.1.66.1": "a spatial registration",
    "1.2.840.10008.5.1.4.1.1.66.2": "a set of spatial fiducials",
    "1.2.840.10008.5.1.4.1.1.66.3": "a deformable registration",
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.66.5": "a surface segmentation",
    "1.2.840.10008.5.1.4.1.1.66.6": "tractography results",
    "1.2.840.10008.5.1.4.1.1.66.7": "a label map segmentation",
    "1.2.840.10008.5.1.4.1.1.66.8": "a height map segmentation",
    "1.2.840.10008.5.1.4.1.1.67": "a real world value mapping",
    "1.2.840.10008.5.1.4.1.1.88": "a structured report",
    "1.2.840.10008.5.1.4.1.1.88.40": "a procedure log",
    "1.2.840.10008.5.1.4.1.1.88.59": "a key object selection",
    "1.2.840.10008.5.1.4.1.1.88.67": "a radiation dose report",
    "1.2.840.10008.5.1.4.1.1.88.68": "a radiopharmaceutical dose report",
    "1.2.840.10008.5.1.4.1.1.88.76": "a patient radiation dose report",
    "1.2.840.10008.5.1.4.1.1.104": "an encapsulated document",
    "1.2.840.10008.5.1.4.1.1.481.2": "a radiotherapy dose",
    "1.2.840.10008.5.1.4.1.1.481.3": "a radiotherapy structure set",
    "1.2.840.10008.5.1.4.1.1.481.4": "a radiotherapy treatment record",
    "1.2.840.10008.5.1.4.1.1.481.5": "a radiotherapy plan",
    "1.2.840.10008.5.1.4.1.1.481.8": "a radiotherapy plan",
}

#: Value of Image Type (0008,0008) → what it is. Value 3 is modality specific (PS3.3 §C.8.2.1.1.1: LOCALIZER);
#: the others are what vendors write there.
SCOUTS = frozenset({"LOCALIZER", "LOCALISER", "SCOUT", "TOPOGRAM", "SCANOGRAM"})
SCREENSHOTS: dict[str, str] = {
    "SCREEN SAVE": "a screenshot",
    "SCREENSAVE": "a screenshot",
    "SCREENSHOT": "a screenshot",
    "DOSE_INFO": "a dose page",
    "DOSE INFO": "a dose page",
    "DOSE": "a dose page",
    "CSA REPORT": "a vendor's report",
    "CSAREPORT": "a vendor's report",
}


def what_is(sop_class: Uid) -> str | None:
    """What an instance of `sop_class` is, where it is no image."""
    beginning = str(sop_class)
    while beginning:
        if beginning in NO_IMAGES:
            return NO_IMAGES[beginning]
        beginning = beginning.rpartition(".")[0]
    return None


def is_film(series: SeriesFacts) -> bool:
    """Whether its secondary captures are radiographs that were digitised or converted (PS3.3 §A.8): grey, as
    they were taken, and with the part of the body or the view that they show. Pages, screenshots and pictures
    of results are derived, in colour, or say neither.
    """
    headers = series.headers
    value_1 = headers.get("ImageType", "").partition("\\")[0].strip().upper()
    return (
        series.modality in _FILMS
        and {str(one) for one in series.sop_classes} == {_SECONDARY_CAPTURE}
        and not series.multi_frame
        and headers.get("PhotometricInterpretation", "").strip() in ("MONOCHROME1", "MONOCHROME2")
        and value_1 in ("", "ORIGINAL")
        and any(headers.get(keyword, "").strip() for keyword in ("ViewPosition", "BodyPartExamined"))
    )


def why_never(series: SeriesFacts) -> str | None:
    """Why `series` is given to no model at all; None where the rules may decide."""
    if series.ours or series.headers.get("Manufacturer", "").strip() == OUR_MANUFACTURER:
        return "a result of our own is never an input"
    if series.prior_of is not None:
        return f"fetched as a prior of study {series.prior_of}, and not to be analysed by itself"
    kinds = [what_is(sop_class) for sop_class in sorted(series.sop_classes)]
    # One key object in a series of images does not take the images away.
    if kinds and all(kinds) and not is_film(series):
        return f"{kinds[0]} is no image to be analysed"
    image_type = [value.strip().upper() for value in series.headers.get("ImageType", "").split("\\")]
    for value in image_type:
        if value in SCREENSHOTS:
            return f"image type is {value}: {SCREENSHOTS[value]} is no image to be analysed"
        if value in SCOUTS and series.stack <= _SCOUTS_AT_MOST:
            return f"image type is {value}: a scout is for planning, not for analysis"
    return None
