"""Pictures of results: drawn from the files as they lie in the spool, by a process of their own."""

from pathlib import Path

import pytest

from console.web.overlays import Overlays
from dicom_node.settings import SpoolSettings
from dicom_node.spool import Spool
from ledger.identifiers import Digest, JobId, ResultId, Uid
from ledger.job import JobInput
from ledger.result import ResultRecord, Role
from tests.results.made import make
from tests.results.series import KINDS, findings, with_pixels

DIGEST = Digest("0" * 64)


def inputs(folder: Path, datasets: list) -> list[JobInput]:
    found = []
    for number, dataset in enumerate(datasets):
        with_pixels(dataset).save_as(folder / f"image{number}.dcm", enforce_file_format=True)
        uid = Uid(str(dataset.SOPInstanceUID))
        found.append(JobInput(sop_instance=uid, path=f"image{number}.dcm", digest=DIGEST))
    return found


def record(path: str) -> ResultRecord:
    uid = Uid("1.2.3")
    return ResultRecord(
        id=ResultId(1),
        job_id=JobId(1),
        role=Role.SEGMENTATION,
        sop_class=uid,
        sop_instance=uid,
        study=uid,
        series=uid,
        transfer_syntax=uid,
        digest=DIGEST,
        size=1,
        path=path,
        created_at=0.0,
    )


@pytest.fixture
def overlays(tmp_path: Path):
    drawing = Overlays(Spool(SpoolSettings(path=tmp_path)))
    yield drawing
    drawing.close()


def test_a_segmentation_is_drawn_on_the_images_that_it_was_made_from(
    overlays: Overlays, tmp_path: Path
) -> None:
    made = make(tmp_path, "axial CT", said=findings(KINDS["axial CT"]))
    assert made.segmentation is not None
    images = inputs(tmp_path, list(made.source.datasets))

    drawn = overlays.picture(record(made.segmentation.name), images)

    assert drawn is not None
    assert drawn.startswith(b"\x89PNG")
    made.segmentation.unlink()
    assert overlays.picture(record(made.segmentation.name), images) is None, "it does not outlive its study"


def test_what_cannot_be_drawn_has_no_picture(overlays: Overlays, tmp_path: Path) -> None:
    (tmp_path / "damaged.dcm").write_bytes(b"DICM" * 100)
    image = JobInput(sop_instance=Uid("1.2"), path="damaged.dcm", digest=DIGEST)

    assert overlays.picture(record("damaged.dcm"), [image]) is None
    assert overlays.picture(record("damaged.dcm"), []) is None
    assert overlays.picture(record("gone.dcm"), [image]) is None
