"""
Whose a result is: patient and study are the source's, element by element and in its character set.

So an archive files the result where the images are. What identifies is repeated even where it is wrong: a
birth date of 00000000 in the images is 00000000 here, or the archive would see another patient. Anything else
of the patient and the study is repeated where it is valid, so that all objects of a study say the same.
"""

import copy

from pydicom import Dataset
from pydicom.config import RAISE
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.multival import MultiValue
from pydicom.valuerep import STR_VR, validate_value

#: Type 2 in Patient and General Study (PS3.3 §C.7.1.1, §C.7.2.1): present, empty where the source has none.
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

#: Copied as they are, valid or not: they say who, and how to read it.
IDENTIFYING = (
    *PRESENT_EVEN_IF_EMPTY,
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",  # it qualifies the study's own date and time
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "StudyInstanceUID",
)

#: The rest of the modules of patient and study (PS3.3 §C.7.1, §C.7.2), copied where it is valid.
#: Not their references (Referenced Study Sequence …): what those point to is gone; no archive can resolve it.
DESCRIBING = (
    # Patient
    "TypeOfPatientID",
    "SourcePatientGroupIdentificationSequence",
    "GroupOfPatientsIdentificationSequence",
    "PatientBirthTime",
    "PatientBirthDateInAlternativeCalendar",
    "PatientDeathDateInAlternativeCalendar",
    "PatientAlternativeCalendar",
    "QualityControlSubject",
    "StrainDescription",
    "StrainNomenclature",
    "StrainStockSequence",
    "StrainAdditionalInformation",
    "StrainCodeSequence",
    "GeneticModificationsSequence",
    "OtherPatientNames",
    "OtherPatientIDsSequence",
    "EthnicGroupCodeSequence",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "EthnicGroup",
    # Clinical Trial Subject: without these a trial's archive refuses the result
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "IssuerOfClinicalTrialProtocolID",
    "OtherClinicalTrialProtocolIDsSequence",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "IssuerOfClinicalTrialSiteID",
    "ClinicalTrialSubjectID",
    "IssuerOfClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "IssuerOfClinicalTrialSubjectReadingID",
    "ClinicalTrialProtocolEthicsCommitteeName",
    "ClinicalTrialProtocolEthicsCommitteeApprovalNumber",
    # General Study
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianIdentificationSequence",
    "ConsultingPhysicianName",
    "ConsultingPhysicianIdentificationSequence",
    "StudyDescription",
    "ProcedureCodeSequence",
    "PhysiciansOfRecord",
    "PhysiciansOfRecordIdentificationSequence",
    "NameOfPhysiciansReadingStudy",
    "PhysiciansReadingStudyIdentificationSequence",
    "RequestingService",
    "RequestingServiceCodeSequence",
    "ReasonForPerformedProcedureCodeSequence",
    # Patient Study
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientSizeCodeSequence",
    "PatientBodyMassIndex",
    "MeasuredAPDimension",
    "MeasuredLateralDimension",
    "PatientWeight",
    "MedicalAlerts",
    "Allergies",
    "Occupation",
    "SmokingStatus",
    "AdditionalPatientHistory",
    "PregnancyStatus",
    "LastMenstrualDate",
    "PatientSexNeutered",
    "ReasonForVisit",
    "ReasonForVisitCodeSequence",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "ServiceEpisodeID",
    "ServiceEpisodeDescription",
    "IssuerOfServiceEpisodeIDSequence",
    "PatientState",
    # Clinical Trial Study
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "LongitudinalTemporalOffsetFromEvent",
    "LongitudinalTemporalEventType",
    "ClinicalTrialTimePointTypeCodeSequence",
    "IssuerOfClinicalTrialTimePointID",
    "ConsentForClinicalTrialUseSequence",
)


def copy_identity(image: Dataset, dataset: Dataset) -> None:
    """Patient and study attributes of `image`."""
    for keyword in (*IDENTIFYING, *DESCRIBING):
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise KeyError(f"{keyword} is no keyword of PS3.6")
        if tag in image:
            if keyword in IDENTIFYING or is_valid(image[tag]):
                dataset.add(copy.deepcopy(image[tag]))
        elif keyword in PRESENT_EVEN_IF_EMPTY:
            setattr(dataset, keyword, None)


def is_valid(element: DataElement) -> bool:
    """Whether the value is one of its value representation (PS3.5 §6.2): an age of "62" is none."""
    values = element.value if isinstance(element.value, MultiValue | list) else [element.value]
    try:
        for value in values if element.VR in STR_VR else ():
            if value is not None:
                validate_value(element.VR, str(value), RAISE)
    except ValueError:
        return False
    return True
