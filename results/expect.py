"""What the check says when it stops a result: one sentence with both values in it, and no patient."""

from collections.abc import Callable, Iterable

import numpy as np
from pydicom import Dataset

from ledger.errors import ModelError
from ledger.implementation import IMPLEMENTATION_CLASS_UID
from results import codes, observer
from results.asked import Asked
from results.findings import Concept
from results.identity import DESCRIBING, IDENTIFYING, is_valid
from results.provenance import Run
from results.source import Source


class CheckFailed(ModelError):
    """A written result does not say what the model said, or is about other images: it stays here."""


def expect(true: bool, otherwise: str | Callable[[], str]) -> None:
    """Raise `CheckFailed` with the sentence `otherwise` unless `true`."""
    if not true:
        raise CheckFailed(otherwise if isinstance(otherwise, str) else otherwise())


def near(ours: Iterable[float], theirs: Iterable[float], tolerance: float) -> bool:
    """Whether two rows of numbers are the same within `tolerance`."""
    a, b = np.asarray(list(ours), dtype=float), np.asarray(list(theirs), dtype=float)
    return a.shape == b.shape and bool((np.abs(a - b) <= tolerance).all())


def expect_identity(what: str, dataset: Dataset, source: Source) -> None:
    """Patient, study and body part are the source's. Values of patients never appear in the sentence."""
    for keyword in (*IDENTIFYING, *DESCRIBING, "BodyPartExamined"):
        ours, theirs = dataset.get(keyword), source.first.get(keyword)
        left_out = keyword in DESCRIBING and keyword not in dataset and _invalid(source.first, keyword)
        same = (ours or None) == (theirs or None)
        expect(same or left_out, f"{what}: {keyword} is not that of the source images")


def _invalid(image: Dataset, keyword: str) -> bool:
    return keyword in image and not is_valid(image[keyword])


def expect_uids(what: str, dataset: Dataset, asked: Asked, role: str, variant: str = "") -> None:
    """New UIDs where an object is new, and the ones that derive from the run and the profile."""
    source, run = asked.source, asked.run
    taken = {str(image.SOPInstanceUID) for image in source.datasets} | {str(uid) for uid in run.inputs}
    taken |= {str(image.SeriesInstanceUID) for image in source.datasets} | {
        str(source.first.StudyInstanceUID)
    }
    for keyword, level in (("SOPInstanceUID", "instance"), ("SeriesInstanceUID", "series")):
        uid = str(dataset.get(keyword, ""))
        expect(uid not in taken, f"{what}: {keyword} {uid} is that of a source image")
        expect(
            uid == str(asked.uid(role, level, variant)),
            f"{what}: {keyword} {uid} does not derive from this run",
        )
    meta = dataset.file_meta
    expect(
        meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        and meta.MediaStorageSOPClassUID == dataset.SOPClassUID,
        f"{what}: file meta information names another instance",
    )
    expect(
        meta.ImplementationClassUID == str(IMPLEMENTATION_CLASS_UID),
        f"{what}: written by another implementation",
    )


def expect_provenance(what: str, dataset: Dataset, run: Run) -> None:
    """Contributing Equipment names the model of this run (IHE AIR Rev 1.3, Vol 3 §6.5.3.1)."""
    items = [
        item
        for item in dataset.get("ContributingEquipmentSequence", [])
        if item.PurposeOfReferenceCodeSequence[0].CodeValue == codes.PROCESSING_EQUIPMENT.value
    ]
    expect(len(items) == 1, f"{what}: {len(items)} items of processing equipment, expected one")
    said = [
        str(items[0].get(keyword, ""))
        for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceUID")
    ]
    provenance = run.provenance
    meant = [
        observer.source_name(provenance),
        observer.algorithm_name(provenance),
        observer.algorithm_version(provenance),
        str(provenance.device_uid),
    ]
    expect(said == meant and all(said), f"{what}: contributing equipment says {said}, the run is {meant}")


def expect_equipment(what: str, dataset: Dataset) -> None:
    """General Equipment is complete: Type 1 in a segmentation, and how our own results are known again."""
    for keyword in ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"):
        expect(bool(dataset.get(keyword)), f"{what}: {keyword} is empty")


def code_of(item: Dataset, sequence: str) -> tuple[str, str]:
    """(value, scheme) of the first item of a code sequence; empty where there is none."""
    found = item.get(sequence)
    if not found:
        return "", ""
    code = found[0]
    return str(code.get("CodeValue") or code.get("LongCodeValue") or ""), str(code.CodingSchemeDesignator)


def as_code(concept: Concept | None) -> tuple[str, str]:
    """The same of a concept."""
    return ("", "") if concept is None else (concept.value, concept.scheme)
