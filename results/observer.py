"""
Who made it, said in the four places where DICOM asks, from one value.

IHE AI Results (AIR Rev 1.3, Vol 3, Table 6.5.3.1-1) wants these to agree: Contributing Equipment (0018,A001),
the report's device observer (TID 1004), its algorithm (TID 4019) and the segments' Algorithm Identification
(PS3.3 §10.16).
"""

import hashlib
import json

import highdicom as hd
from pydicom import Dataset

from results import codes
from results.provenance import MANUFACTURER, Provenance, Run
from results.words import DISCLAIMER, long_string, plain

#: The product, as General Equipment says it: `dicom_node` knows our own results by it.
PRODUCT = "Wetread"


def general_equipment(dataset: Dataset, run: Run) -> None:
    """General and Enhanced General Equipment (PS3.3 §C.7.5.2): the program that wrote the object.

    All four are Type 1 in a segmentation. The algorithm inside the program is described by Contributing
    Equipment; a program has no serial number, so Device Serial Number names the algorithm's build, as Device
    UID does.
    """
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = PRODUCT
    dataset.DeviceSerialNumber = str(run.provenance.device_uid)
    dataset.SoftwareVersions = long_string(run.software_version)


def contributing_equipment(image: Dataset, run: Run) -> list[Dataset]:
    """Contributing Equipment (0018,A001): the scanner if it is known, then the model."""
    items = [_acquisition(image)] if image.get("Manufacturer") else []
    return [*items, _model(run)]


def _acquisition(image: Dataset) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [codes.coded(codes.ACQUISITION_EQUIPMENT)]
    for keyword in (
        "Manufacturer",
        "InstitutionName",
        "StationName",
        "ManufacturerModelName",
        "DeviceSerialNumber",
        "SoftwareVersions",
    ):
        if image.get(keyword):
            item.add(image[keyword])
    return item


def _model(run: Run) -> Dataset:
    provenance = run.provenance
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [codes.coded(codes.PROCESSING_EQUIPMENT)]
    item.Manufacturer = source_name(provenance)
    item.ManufacturerModelName = algorithm_name(provenance)
    item.SoftwareVersions = algorithm_version(provenance)
    item.DeviceUID = str(provenance.device_uid)
    item.ContributionDateTime = run.at.strftime("%Y%m%d%H%M%S.%f%z")
    item.ContributionDescription = plain(
        ". ".join([DISCLAIMER.rstrip("."), inputs(run), *parameters(provenance)]), 1024
    )
    return item


def algorithm_identification(provenance: Provenance) -> hd.AlgorithmIdentificationSequence:
    """Segmentation Algorithm Identification (0062,0007), for every segment."""
    sequence = hd.AlgorithmIdentificationSequence(
        name=algorithm_name(provenance),
        family=codes.coded(codes.ARTIFICIAL_INTELLIGENCE),
        version=algorithm_version(provenance),
        source=source_name(provenance),
    )
    sequence[0].AlgorithmParameters = "; ".join(parameters(provenance))
    return sequence


def observation_context(provenance: Provenance) -> hd.sr.ObservationContext:
    """The device that observed (TID 1004). There is no person observer: nobody has looked yet."""
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=str(provenance.device_uid),
        name=algorithm_name(provenance),
        manufacturer_name=source_name(provenance),
        model_name=algorithm_name(provenance),
    )
    return hd.sr.ObservationContext(
        observer_device_context=hd.sr.ObserverContext(
            observer_type=hd.sr.CodedConcept("121007", "DCM", "Device"),
            observer_identifying_attributes=device,
        )
    )


def algorithm(provenance: Provenance) -> hd.sr.AlgorithmIdentification:
    """The algorithm of a measurement group (TID 4019).

    Its parameters would bury the values; they are in Contributing Equipment.
    """
    return hd.sr.AlgorithmIdentification(
        name=algorithm_name(provenance), version=algorithm_version(provenance)
    )


def algorithm_name(provenance: Provenance) -> str:
    """Manufacturer's Model Name, Algorithm Name."""
    return long_string(provenance.name)


def algorithm_version(provenance: Provenance) -> str:
    """Software Versions, Algorithm Version."""
    return long_string(provenance.version)


def source_name(provenance: Provenance) -> str:
    """Manufacturer, Algorithm Source."""
    return long_string(provenance.source)


def parameters(provenance: Provenance) -> list[str]:
    """What made this result this result and no other, for whoever has to make it again."""
    weights = f"sha256 {provenance.weights_digest}" if provenance.weights_digest else "none"
    settings = json.dumps(dict(provenance.settings), sort_keys=True, default=str)
    texts = []
    if provenance.code_digest is not None:
        texts = [f"weights {weights}", f"code sha256 {provenance.code_digest}"]
    if provenance.trust:
        texts.append(f"trust {provenance.trust}")
    if provenance.card_url:
        texts.append(f"model card {provenance.card_url}")
    # Last, because they may be long: where the room ends, all else has been said.
    return [plain(text) for text in (*texts, f"settings {settings}")]


def inputs(run: Run) -> str:
    """All that the model was given, also of other series: how many instances, and a digest by which a list of
    them can be compared (of their UIDs in the order of the characters, one on a line).
    """
    digest = hashlib.sha256("\n".join(sorted(str(uid) for uid in run.inputs)).encode()).hexdigest()
    return f"{len(run.inputs)} input instances, sha256 of their UIDs {digest}"
