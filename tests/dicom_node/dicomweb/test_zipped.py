"""WADO-RS in a ZIP file, for viewers that open nothing else over the web."""

import io
import zipfile
from pathlib import Path

import pytest

from dicom_node.dicomweb.zipped import zipped
from tests.dicom_node.datasets import ct_slice, data_set_of, write
from tests.dicom_node.dicomweb.conftest import Web

STUDY, SERIES = "1.2.826.0.1.3680043.8.498.77.1", "1.2.826.0.1.3680043.8.498.77.1.1"


def opened(body: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("query", [f"studies/{STUDY}", f"studies/{STUDY}/series/{SERIES}"])
def test_a_study_comes_as_one_zip_file_of_what_was_stored(web: Web, tmp_path: Path, query: str) -> None:
    paths = write(tmp_path / "in", *(ct_slice(n) for n in (1, 2, 3)))
    web.stored(*paths)
    answer = web.get(query, "application/zip")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/zip")
    files = opened(answer.content)
    assert list(files) == ["0001/000001.dcm", "0001/000002.dcm", "0001/000003.dcm"]
    assert [data_set_of(file) for file in files.values()] == [data_set_of(p.read_bytes()) for p in paths]


def test_a_browser_asks_for_it_in_the_url(web: Web, tmp_path: Path) -> None:
    web.stored(*write(tmp_path / "in", ct_slice(1)))
    answer = web.get(f"studies/{STUDY}?accept=application/zip", "*/*")
    assert len(opened(answer.content)) == 1


def test_whoever_takes_anything_gets_no_zip_file(web: Web, tmp_path: Path) -> None:
    web.stored(*write(tmp_path / "in", ct_slice(1)))
    assert web.get(f"studies/{STUDY}", "*/*").headers["Content-Type"].startswith("multipart/related")


def test_a_study_that_is_not_here_is_no_empty_zip_file(web: Web) -> None:
    assert web.get(f"studies/{STUDY}", "application/zip").status_code == 404


def test_what_goes_out_is_never_more_than_what_was_just_read() -> None:
    piece = bytes(1 << 18)
    sizes = [len(part) for part in zipped([("1.dcm", (piece for _ in range(64)))])]
    assert max(sizes) < 2 * len(piece)
    assert sum(sizes) > 64 * len(piece)
