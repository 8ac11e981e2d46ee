"""Of a model's folder only what its manifest vouches for can be read."""

import hashlib
import os
from pathlib import Path

import pytest

from models.contract import BrokenModel
from models.manifest import FileFact, Input, Manifest
from models.package import Package

WEIGHTS = b"weights" * 1000


@pytest.fixture
def package(tmp_path: Path) -> Package:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/model.pt").write_bytes(WEIGHTS)
    fact = FileFact(path="weights/model.pt", sha256=hashlib.sha256(WEIGHTS).hexdigest(), size=len(WEIGHTS))
    manifest = Manifest(
        name="something",
        version="1",
        title="Something",
        licence="Apache-2.0",
        intended_use="tests",
        limits=(),
        inputs=(Input(modality=("CT",)),),
        files=(fact,),
        time_limit_s=1,
        memory_mib=1,
    )
    return Package(tmp_path, manifest)


def test_a_file_of_the_manifest_opens_at_its_beginning(package):
    with package.open("weights/model.pt") as file:
        assert file.read() == WEIGHTS
    assert package.read("weights/model.pt") == WEIGHTS
    assert package.paths("weights/") == ("weights/model.pt",)


def test_a_file_that_was_changed_is_refused(package):
    (package.folder / "weights/model.pt").write_bytes(b"Weights" * 1000)
    with pytest.raises(BrokenModel, match="not the file that its manifest vouches for"):
        package.open("weights/model.pt")


def test_a_file_of_another_size_is_refused_without_reading_it(package):
    (package.folder / "weights/model.pt").write_bytes(WEIGHTS + b"!")
    with pytest.raises(BrokenModel, match="7001 bytes, its manifest says 7000"):
        package.open("weights/model.pt")


def test_links_are_not_followed(package, tmp_path):
    weights = package.folder / "weights"
    weights.rename(package.folder / "elsewhere")
    weights.symlink_to(package.folder / "elsewhere")
    with pytest.raises(BrokenModel, match="cannot be opened"):
        package.open("weights/model.pt")
    weights.unlink()
    weights.mkdir()
    (weights / "model.pt").symlink_to(package.folder / "elsewhere/model.pt")
    with pytest.raises(BrokenModel, match="cannot be opened"):
        package.open("weights/model.pt")


def test_a_file_with_two_names_is_refused(package):
    os.link(package.folder / "weights/model.pt", package.folder / "other")
    with pytest.raises(BrokenModel, match="one name"):
        package.open("weights/model.pt")


def test_a_pipe_in_place_of_a_file_does_not_hold_up_the_worker(package):
    (package.folder / "weights/model.pt").unlink()
    os.mkfifo(package.folder / "weights/model.pt")
    with pytest.raises(BrokenModel, match="regular file"):
        package.open("weights/model.pt")


def test_a_file_that_the_manifest_does_not_name_cannot_be_read(package):
    (package.folder / "more.py").write_text("")
    with pytest.raises(BrokenModel, match="not among the files"):
        package.open("more.py")
    with pytest.raises(BrokenModel, match="too long for its kind"):
        package.read("weights/model.pt", at_most=10)
