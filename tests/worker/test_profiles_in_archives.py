"""Two real archives with two profiles: each has its own objects, one root, and whatever that refers to."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless

from dicom_node.peers import PeerSettings
from dicom_node.send import AnswerKind, send_many
from ledger.delivery import DeliveryState
from ledger.identifiers import AETitle
from ledger.result import Role
from results.in_place import LABEL_MAP_SEGMENTATION_STORAGE
from results.write import write
from tests.patience import patient
from tests.peers.orthanc import Orthanc, orthanc
from tests.results.everything import everything
from tests.results.series import source, with_pixels
from tests.worker.overtaken import Overtaken, overtaken
from tests.worker.test_instead import because

pytestmark = pytest.mark.peer

#: Evidence of what was done and asked for is kept by a RIS, and is no object of an archive.
_OF_THE_RIS = {"ReferencedPerformedProcedureStepSequence", "ReferencedStudySequence"}
AS_IT_COMES = {"UnknownSopClassAccepted": False}


@contextmanager
def archive(
    folder: Path, profile: object, settings: dict[str, object] | None = None
) -> Iterator[tuple[Orthanc, PeerSettings]]:
    """An Orthanc that has the images already, and how it is called in the settings: by its folder's name."""
    with orthanc(folder, settings=settings) as running:
        there = PeerSettings(
            name=folder.name,
            ae_title=running.ae_title,
            host="127.0.0.1",
            port=running.dicom_port,
            superseded="keep",
            confirm="find",
            profile=profile,
        )
        paths = []
        for number, image in enumerate(source().datasets):
            paths.append(folder / f"image{number}.dcm")
            write(with_pixels(image), paths[-1])
        answers = send_many(paths, there, calling=AETitle("SCANNER"), deadline_s=patient(30))
        assert {one.kind for one in answers} == {AnswerKind.ACCEPTED}
        yield running, there


def results(archive: Orthanc) -> list[pydicom.Dataset]:
    """What it holds beside the images."""
    images = {str(one.SOPInstanceUID) for one in source().datasets}
    return [one for one in archive.datasets() if str(one.SOPInstanceUID) not in images]


def kinds(held: list[pydicom.Dataset]) -> Counter:
    """How many it has of what: "SEG BINARY", "SR Imaging Measurement Report" ..."""
    return Counter(f"{one.Modality} {one.get('SegmentationType', '')}".strip() for one in held)


def the_root(held: list[pydicom.Dataset]) -> pydicom.Dataset:
    """The one report: marks are measurements in a document that refers to no other object of the run."""
    ours = {str(one.SOPInstanceUID) for one in held}
    (root,) = [one for one in held if one.Modality == "SR" and len(referred_to(one) & ours) >= len(held) - 1]
    return root


def referred_to(dataset: pydicom.Dataset) -> set[str]:
    """Every instance that it names, wherever in it."""
    found: set[str] = set()
    for element in dataset:
        if element.VR == "SQ" and element.keyword not in _OF_THE_RIS:
            found = found.union(*(referred_to(item) for item in element.value))
        elif element.keyword == "ReferencedSOPInstanceUID":
            found.add(str(element.value))
    return found


def has_what_it_refers_to(archive: Orthanc) -> None:
    """Every reference of every object that it got from us ends in something that it holds."""
    there = {str(one.SOPInstanceUID) for one in archive.datasets()}
    for one in results(archive):
        assert referred_to(one) <= there, f"{one.SeriesDescription} refers to what is not there"


def states(site: Overtaken, peer: str) -> Counter:
    everywhere = site.ledger.deliveries_of(site.jobs[-1])
    return Counter(one.state for one in everywhere if one.peer == peer)


SPLIT = {"like": "plain-pacs", "segmentation": "binary", "frame_limit": 4}


def test_point_37_an_archive_for_ohif_and_a_plain_one_have_each_its_own_and_one_root(tmp_path: Path) -> None:
    with (
        archive(tmp_path / "viewer", "ohif") as (first, viewer),
        archive(tmp_path / "pacs", SPLIT) as (second, pacs),
        overtaken(tmp_path, viewer, pacs) as site,
    ):
        site.result(everything())
        site.deliver()
        assert set(states(site, "viewer")) == set(states(site, "pacs")) == {DeliveryState.COMMITTED}

        of_viewer, of_pacs = results(first), results(second)
        assert kinds(of_viewer) == {"SEG BINARY": 1, "OT": 2, "SR": 2}  # maps; marks and the root
        parts = kinds(of_pacs)["SEG BINARY"]
        assert parts > 1
        # Two maps, an overlay of each and of the segments, and a summary.
        assert kinds(of_pacs) == {"SEG BINARY": parts, "OT": 6, "DOC": 1, "SR": 1}
        assert the_root(of_viewer).SOPInstanceUID != the_root(of_pacs).SOPInstanceUID
        has_what_it_refers_to(first)
        has_what_it_refers_to(second)
        # The maps are the same for both, and were made once.
        mine, theirs = ({str(one.SOPInstanceUID) for one in held} for held in (of_viewer, of_pacs))
        assert len(mine & theirs) == 2


def test_point_48_orthanc_as_it_comes_gets_binary_beside_one_that_has_the_label_map(tmp_path: Path) -> None:
    label_map = {"like": "air", "segmentation": "labelmap", "transfer_syntax": "rle"}
    with (
        archive(tmp_path / "new", label_map) as (first, new),
        archive(tmp_path / "old", label_map, AS_IT_COMES) as (second, old),
        overtaken(tmp_path, new, old) as site,
    ):
        job_id = site.result(everything())
        site.deliver()
        assert kinds(results(first))["SEG LABELMAP"] == 1
        assert kinds(results(second))["SEG BINARY"] == 1
        assert "SEG LABELMAP" not in kinds(results(second))
        assert the_root(results(first)).SOPInstanceUID != the_root(results(second)).SOPInstanceUID
        has_what_it_refers_to(first)
        has_what_it_refers_to(second)
        assert set(states(site, "new")) == {DeliveryState.COMMITTED}
        assert set(states(site, "old")) == {DeliveryState.COMMITTED, DeliveryState.DECLINED}
        said = because(site, job_id, Role.SEGMENTATION, "old")
        assert "does not accept Label Map Segmentation Storage" in said
        assert said.endswith("sent instead: a binary segmentation")
        declined = [one for one in site.ledger.history(job_id=job_id) if one.event == "declined"]
        assert any(one.because == said for one in declined)
        binary = next(one for one in results(second) if one.Modality == "SEG")
        assert binary.SOPClassUID != str(LABEL_MAP_SEGMENTATION_STORAGE)


def test_an_archive_that_takes_no_rle_gets_the_same_instances_uncompressed(tmp_path: Path) -> None:
    native = {"AcceptedTransferSyntaxes": ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"]}
    compressed = {"like": "plain-pacs", "segmentation": "labelmap", "transfer_syntax": "rle"}
    with (
        archive(tmp_path / "pacs", compressed, native) as (running, there),
        overtaken(tmp_path, there) as site,
    ):
        job_id = site.result(everything())
        site.deliver()
        assert set(states(site, "pacs")) == {DeliveryState.COMMITTED}
        made = site.ledger.results_of(job_id)
        rle = {str(one.sop_instance): one for one in made if str(one.transfer_syntax) == RLELossless}
        assert {one.role for one in rle.values()} == {Role.SEGMENTATION, Role.OVERLAY}
        held = {str(one.SOPInstanceUID): one for one in results(running)}
        assert len(held) == len(made)
        for uid, one in rle.items():
            kept = pydicom.dcmread(site.spool.absolute(one.path))
            assert not held[uid].file_meta.TransferSyntaxUID.is_compressed
            assert np.array_equal(held[uid].pixel_array, kept.pixel_array)
            assert held[uid].SeriesInstanceUID == kept.SeriesInstanceUID
        has_what_it_refers_to(running)
        said = {one.because for one in site.ledger.history(job_id=job_id)}
        for name in (
            "Label Map Segmentation Storage in RLE Lossless",
            # Orthanc 1.10 says that it does not know the class at all.
            "Multi-frame True Color Secondary Capture Image Storage",
        ):
            assert f"it does not accept {name}; sent uncompressed: status 0x0000: stored" in said
        assert list((tmp_path / "work").rglob("*.dcm")) == []
