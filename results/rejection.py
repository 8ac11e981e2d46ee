"""
Results that are out of date → a rejection note: a Key Object Selection (PS3.3 §A.35.4, PS3.16 TID 2010) whose
title says why an archive should put them away (IHE RAD TF-3 §4.66, Imaging Object Change Management).

The title is the whole meaning, and there are two:

- (113001, DCM, Rejected for Quality Reasons): the archive hides the objects from everyday use and keeps them
  for whoever asks for them. A result of too few images is just that.
- (113039, DCM, Data Retention Policy Expired): the archive removes them for good, as if their time were over.
  It is the nearest that DICOM has to "replaced"; a site has to want it.

A modifier of the title (CID 7011: motion blur, over exposed …) is left out: all of them are about images.

Whose the note is, and which model superseded what, is copied from the newer report: the archive has that
one, so nothing about the patient can be said in two ways.
"""

import copy
from collections.abc import Sequence

from pydicom import Dataset

from ledger.identifiers import Uid
from ledger.result import NewResult, Role
from results import codes
from results.findings import Concept
from results.identity import copy_identity
from results.references import hierarchy
from results.uids import rejection_uid
from results.words import DISCLAIMER, long_string

KEY_OBJECT_SELECTION_DOCUMENT_STORAGE = Uid("1.2.840.10008.5.1.4.1.1.88.59")
SERIES_NUMBER = 9103

#: What the note has from the report that supersedes: made by the same equipment, of the same images.
FROM_THE_REPORT = (
    "InstanceCreationDate",
    "InstanceCreationTime",
    "SeriesDate",
    "SeriesTime",
    "ContentDate",
    "ContentTime",
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "ContributingEquipmentSequence",
)


def build_rejection(
    report: Dataset, superseded: Sequence[NewResult], *, title: Concept, software_version: str
) -> Dataset:
    """The note that rejects `superseded` in favour of `report`, without file meta information.

    `superseded` are results of the same study, one at least; neither `report` nor its segmentation is among
    them.
    """
    dataset = Dataset()
    copy_identity(report, dataset)
    for keyword in FROM_THE_REPORT:
        if keyword in report:
            dataset.add(copy.deepcopy(report[keyword]))
    # Another version of Wetread may write other bytes, so it is said here as well as in the UIDs.
    dataset.SoftwareVersions = long_string(software_version)

    def uid(level: str) -> str:
        return str(
            rejection_uid(
                level,
                title=title.value,
                report=Uid.parse(str(report.SOPInstanceUID)),
                rejected=[one.sop_instance for one in superseded],
                software_version=software_version,
            )
        )

    dataset.SOPClassUID = str(KEY_OBJECT_SELECTION_DOCUMENT_STORAGE)
    dataset.SOPInstanceUID = uid("instance")
    # Key Object Document Series and Key Object Document (PS3.3 §C.17.6.1, §C.17.6.2)
    dataset.Modality = "KO"
    dataset.SeriesInstanceUID = uid("series")
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.SeriesDescription = "AI rejection note: older results are replaced"
    dataset.ReferencedPerformedProcedureStepSequence = []  # Type 2
    dataset.InstanceNumber = 1
    used = sorted((str(one.series), str(one.sop_instance), str(one.sop_class)) for one in superseded)
    dataset.CurrentRequestedProcedureEvidenceSequence = [hierarchy(str(dataset.StudyInstanceUID), used)]

    # SR Document Content: TID 2010, Key Object Selection
    dataset.ValueType = "CONTAINER"
    dataset.ConceptNameCodeSequence = [codes.coded(title)]
    dataset.ContinuityOfContent = "SEPARATE"
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "2010"
    dataset.ContentTemplateSequence = [template]
    dataset.ContentSequence = [*observers(report), _description(report), *map(_reference, superseded)]
    return dataset


def description(report: Dataset) -> str:
    """What a reader is told who opens the note."""
    return (
        # Whether more images had come, or the analysis was run again: that is for the report itself to say.
        f"Replaced by a newer result of the same analysis, report {report.SOPInstanceUID}. {DISCLAIMER}"
    )


def observers(report: Dataset) -> list[Dataset]:
    """The observation context of the report (TID 1002): the device that made the newer result."""
    context = [item for item in report.ContentSequence if item.RelationshipType == "HAS OBS CONTEXT"]
    return [copy.deepcopy(item) for item in context]


def _description(report: Dataset) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = [codes.coded(codes.KEY_OBJECT_DESCRIPTION)]
    item.TextValue = description(report)
    return item


def _reference(one: NewResult) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = str(one.sop_class)
    reference.ReferencedSOPInstanceUID = str(one.sop_instance)
    item = Dataset()
    # Rows 7 and 9 of TID 2010: an image or a composite object, and neither has a name of its own.
    item.RelationshipType = "CONTAINS"
    item.ValueType = "IMAGE" if one.role is Role.SEGMENTATION else "COMPOSITE"
    item.ReferencedSOPSequence = [reference]
    return item
