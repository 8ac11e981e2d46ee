"""Delivery (points 48 and 55): what an archive refuses, and what is made of a study that was edited."""

from pathlib import Path

import pydicom
import pytest
from pydicom import DataElement

from dicom_node.peers import PeerSettings
from dicom_node.send import AnswerKind, Objection, send_many
from ledger.identifiers import AETitle
from tests.patience import patient
from tests.peers.orthanc import orthanc
from tests.results.checklist.exhibits import Exhibit, in_a_study_of_its_own, make_again
from tests.results.images import image_source
from tests.results.series import KINDS, ROOT, a_run, source

pytestmark = pytest.mark.peer

LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"


@pytest.mark.parametrize("name", ["axial CT", "enhanced MR", "DX"])
def test_point_55_a_study_under_new_uids_has_results_without_a_trace_of_the_old_ones(
    name: str, exhibits: dict[str, Exhibit], tmp_path: Path
) -> None:
    """Somebody anonymised the study: other UIDs, another patient, the same pixels."""
    exhibit = exhibits[name]
    number = 400
    again = in_a_study_of_its_own(image_source(name) if name == "DX" else source(KINDS[name]), number)
    old = {str(image.SOPInstanceUID) for image in exhibit.source.datasets}
    old |= {str(exhibit.source.first.StudyInstanceUID), str(exhibit.source.first.SeriesInstanceUID)}
    old |= {str(dataset[keyword].value) for dataset in exhibit.datasets
            for keyword in ("SOPInstanceUID", "SeriesInstanceUID")}  # fmt: skip
    old |= {"MRN-0001", str(exhibit.image.PatientID), str(exhibit.image.AccessionNumber)}

    made = make_again(exhibit, tmp_path, of=again, run=a_run(again))

    assert len(made.files) == len(exhibit.held)
    for path in made.files:
        dataset = pydicom.dcmread(path)
        said = {str(one) for element in dataset.iterall() for one in _values(element)}
        assert not said & old
        assert f"MRN-{number:04}" in said
        assert dataset.StudyInstanceUID == f"{ROOT}.{number}.1"


def _values(element: DataElement) -> list:
    if element.VR in {"SQ", "OW", "OB", "OF", "OD"}:
        return []
    return list(element.value) if element.VM > 1 else [element.value]


def test_point_48_orthanc_as_it_comes_refuses_a_label_map_by_its_kind_and_takes_everything_else(
    exhibits: dict[str, Exhibit], tmp_path: Path
) -> None:
    """What goes in its place is named by the profile (`tests/worker/test_instead.py`)."""
    made = [*exhibits["label map"].made.written, *exhibits["axial CT"].made.written]
    with orthanc(tmp_path / "orthanc", settings={"UnknownSopClassAccepted": False}) as archive:
        peer = PeerSettings(
            name="archive", ae_title=archive.ae_title, host="127.0.0.1", port=archive.dicom_port
        )
        answers = send_many(
            [path for _, path in made], peer, calling=AETitle("WETREAD"), deadline_s=patient(60)
        )  # fmt: skip
        held = {str(one.SOPInstanceUID) for one in archive.datasets()}
    refused = [path for (_, path), answer in zip(made, answers, strict=True)
               if answer.kind is not AnswerKind.ACCEPTED]  # fmt: skip
    assert [str(pydicom.dcmread(path).SOPClassUID) for path in refused] == [LABEL_MAP_STORAGE]
    (answer,) = [one for one in answers if one.kind is not AnswerKind.ACCEPTED]
    assert (answer.kind, answer.objects_to) == (AnswerKind.REFUSED, Objection.SOP_CLASS)
    assert "Label Map Segmentation Storage" in answer.because
    assert len(held) == len(made) - 1
