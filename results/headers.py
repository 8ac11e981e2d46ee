"""
What every result says before it says anything: whose it is, which study, which series, which equipment.

Patient and study are the source's, element by element and in its character set, so that an archive files the
result where the images are. Nothing is corrected on the way: a birth date that is wrong in the images is
wrong here.
"""

import copy
from datetime import datetime, timedelta, timezone

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from ledger.identifiers import Uid
from results.observer import contributing_equipment, general_equipment
from results.provenance import Run
from results.source import Source
from results.uids import derived_uid

#: Type 2 in the Patient and General Study modules (PS3.3 §C.7.1.1, §C.7.2.1): present, empty where the source
#: has none.
PRESENT_EVEN_IF_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)

#: Copied where the source has them.
COPIED = (
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",  # it qualifies the study's own date and time
    # Patient
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "PatientBirthTime",
    "OtherPatientNames",
    "QualityControlSubject",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    # Clinical trial: without these a trial's archive refuses the result
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    # Study and patient study
    "StudyInstanceUID",
    "StudyDescription",
    "IssuerOfAccessionNumberSequence",
    "ProcedureCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientSexNeutered",
    "AdmissionID",
)


def result_headers(
    source: Source,
    run: Run,
    *,
    role: str,
    sop_class: Uid,
    modality: str,
    series_number: int,
    series_description: str,
) -> Dataset:
    """The modules that a SEG and an SR share. `role` names the result in its UIDs."""
    dataset = Dataset()
    copy_identity(source.first, dataset)
    at = local_time(run, dataset)
    date, time = at.strftime("%Y%m%d"), at.strftime("%H%M%S.%f")

    # SOP Common
    dataset.SOPClassUID = str(sop_class)
    dataset.SOPInstanceUID = str(derived_uid(run, role, "instance"))
    dataset.InstanceCreationDate = date
    dataset.InstanceCreationTime = time
    dataset.InstanceNumber = 1  # each result is alone in its series: viewers show only the last of several

    # General Series
    dataset.Modality = modality
    dataset.SeriesInstanceUID = str(derived_uid(run, role, "series"))
    dataset.SeriesNumber = series_number
    dataset.SeriesDescription = series_description
    dataset.SeriesDate, dataset.SeriesTime = date, time
    dataset.ContentDate, dataset.ContentTime = date, time
    body_part = source.first.get("BodyPartExamined")
    if body_part:
        dataset.BodyPartExamined = body_part
        # Laterality is Type 2C: only for a paired body part, and only what the source says of it.
        if source.first.get("Laterality") in {"L", "R"}:
            dataset.Laterality = source.first.Laterality

    general_equipment(dataset, run)
    dataset.ContributingEquipmentSequence = contributing_equipment(source.first, run)
    return dataset


def copy_identity(image: Dataset, dataset: Dataset) -> None:
    """Patient and study attributes of `image`, as they are."""
    for keyword in (*COPIED, *PRESENT_EVEN_IF_EMPTY):
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        if tag in image:
            dataset.add(copy.deepcopy(image[tag]))
        elif keyword in PRESENT_EVEN_IF_EMPTY:
            setattr(dataset, keyword, None)


def local_time(run: Run, dataset: Dataset) -> datetime:
    """The run's time on the clock that the study's own times are told by.

    Where the source states its offset from UTC (0008,0201), that; else the zone that the run's time came
    with.
    """
    offset = str(dataset.get("TimezoneOffsetFromUTC") or "")
    try:
        sign, hours, minutes = offset[0], int(offset[1:3]), int(offset[3:5])
        apart = timedelta(hours=hours, minutes=minutes)
        return run.at.astimezone(timezone(-apart if sign == "-" else apart))
    except (IndexError, ValueError):
        return run.at
