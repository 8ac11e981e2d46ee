"""What can be wrong with an object of whichever kind: whose it is, what it is, who made it."""

from collections.abc import Callable

from pydicom import Dataset

from tests.results.series import ROOT

Change = Callable[[Dataset], None]


def other_patient(dataset: Dataset) -> None:
    dataset.PatientID = "MRN-0816"


def other_name(dataset: Dataset) -> None:
    dataset.PatientName = "Doe^John"


def other_birth_date(dataset: Dataset) -> None:
    dataset.PatientBirthDate = "19600228"


def other_sex(dataset: Dataset) -> None:
    dataset.PatientSex = "M"


def no_issuer(dataset: Dataset) -> None:
    del dataset.IssuerOfPatientID


def other_study(dataset: Dataset) -> None:
    dataset.StudyInstanceUID = f"{ROOT}.8"


def other_study_date(dataset: Dataset) -> None:
    dataset.StudyDate = "20260103"


def other_accession_number(dataset: Dataset) -> None:
    dataset.AccessionNumber = "ACC-2"


def other_body_part(dataset: Dataset) -> None:
    dataset.BodyPartExamined = "HEAD"


def uid_of_an_image(dataset: Dataset) -> None:
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.3.1"


def uid_of_its_own_making(dataset: Dataset) -> None:
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.17"


def series_of_the_images(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = f"{ROOT}.2"


def series_of_its_own_making(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = "2.25.18"


def another_instance_in_the_meta_information(dataset: Dataset) -> None:
    dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.19"


def another_writer(dataset: Dataset) -> None:
    dataset.file_meta.ImplementationClassUID = "1.2.3"


def other_device(dataset: Dataset) -> None:
    dataset.ContributingEquipmentSequence[-1].DeviceUID = "2.25.7"


def other_model(dataset: Dataset) -> None:
    dataset.ContributingEquipmentSequence[-1].ManufacturerModelName = "liver_ct"


def other_version(dataset: Dataset) -> None:
    dataset.ContributingEquipmentSequence[-1].SoftwareVersions = "0.9"


def no_equipment(dataset: Dataset) -> None:
    del dataset.ContributingEquipmentSequence


def two_models(dataset: Dataset) -> None:
    model = dataset.ContributingEquipmentSequence[-1]
    dataset.ContributingEquipmentSequence.append(model)


def nobody_made_it(dataset: Dataset) -> None:
    dataset.Manufacturer = ""


def no_serial_number(dataset: Dataset) -> None:
    del dataset.DeviceSerialNumber


def other_modality(dataset: Dataset) -> None:
    dataset.Modality = "CT"


#: How an object of any kind is spoilt, and what the check says of it.
OF_ANY_OBJECT: tuple[tuple[Change, str], ...] = (
    (other_patient, "PatientID is not that of the source images"),
    (other_name, "PatientName is not that of the source images"),
    (other_birth_date, "PatientBirthDate is not that of the source images"),
    (other_sex, "PatientSex is not that of the source images"),
    (no_issuer, "IssuerOfPatientID is not that of the source images"),
    (other_study, "StudyInstanceUID is not that of the source images"),
    (other_study_date, "StudyDate is not that of the source images"),
    (other_accession_number, "AccessionNumber is not that of the source images"),
    (other_body_part, "BodyPartExamined is not that of the source images"),
    (uid_of_an_image, "SOPInstanceUID .* is that of a source image"),
    (uid_of_its_own_making, "SOPInstanceUID 2.25.17 does not derive from this run"),
    (series_of_the_images, "SeriesInstanceUID .* is that of a source image"),
    (series_of_its_own_making, "SeriesInstanceUID 2.25.18 does not derive from this run"),
    (another_instance_in_the_meta_information, "file meta information names another instance"),
    (another_writer, "written by another implementation"),
    (other_device, "contributing equipment says .*'2.25.7'.*, the run is"),
    (other_model, "contributing equipment says .*'liver_ct'.*, the run is"),
    (other_version, "contributing equipment says .*'0.9'.*, the run is"),
    (no_equipment, "0 items of processing equipment, expected one"),
    (two_models, "2 items of processing equipment, expected one"),
    (nobody_made_it, "Manufacturer is empty"),
    (no_serial_number, "DeviceSerialNumber is empty"),
    (other_modality, "Modality is CT"),
)
