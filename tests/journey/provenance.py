"""What every result must still say when it comes back from an archive (points 11 to 16 of the checklist)."""

from pathlib import Path

import pydicom

from results.content import walk
from results.expect import code_of


def assert_provenance(segmentation: Path | None, report: Path) -> None:
    """The files name their algorithm completely and everywhere alike; nothing but the files is needed."""
    sr = pydicom.dcmread(report)
    seg = None if segmentation is None else pydicom.dcmread(segmentation)
    said = set()
    for dataset in (d for d in (seg, sr) if d is not None):
        for keyword in ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"):
            assert dataset.get(keyword), f"15: {keyword} of a {dataset.Modality} is empty"
        models = [
            item
            for item in dataset.ContributingEquipmentSequence
            if code_of(item, "PurposeOfReferenceCodeSequence") == ("109102", "DCM")
        ]
        assert len(models) == 1, "11: one item of processing equipment for the one model"
        (model,) = models
        for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceUID"):
            assert model.get(keyword), f"11: {keyword} of the model is empty"
        said.add(
            (
                str(model.Manufacturer),
                str(model.ManufacturerModelName),
                str(model.SoftwareVersions),
                str(model.DeviceUID),
            )
        )
    assert len(said) == 1, f"12: segmentation and report name different models: {said}"
    ((source, name, version, device),) = said

    def texts(value: str) -> set[str]:
        items = [item for item in walk(sr) if code_of(item, "ConceptNameCodeSequence") == (value, "DCM")]
        return {str(item.get("TextValue") or item.get("UID")) for item in items}

    assert texts("121012") == {device}, "12: Device Observer UID"
    assert texts("121014") == {source}, "12: Device Observer Manufacturer"
    assert texts("121015") == {name}, "12: Device Observer Model Name"
    assert texts("111001") == {name}, "12: Algorithm Name"
    assert texts("111003") == {version}, "12: Algorithm Version"
    for segment in seg.SegmentSequence if seg is not None else ():
        assert segment.SegmentAlgorithmName == name, "14: Segment Algorithm Name"
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert code_of(algorithm, "AlgorithmFamilyCodeSequence") == ("123110", "DCM"), "14: family"
        said_here = (
            str(algorithm.AlgorithmSource),
            str(algorithm.AlgorithmName),
            str(algorithm.AlgorithmVersion),
        )
        assert said_here == (source, name, version), "12: Algorithm Identification"
