"""Models come in whole and safe, or not at all."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from models import archive
from models.archive import Unsafe
from models.contract import BrokenModel
from models.install import AlreadyInstalled, NoModelsFolder, WithoutManifest, install, remove
from models.recognise import draft, recognise
from models.registry import find
from models.seal import sealed, wrong_with
from models.settings import ModelsSettings
from models.shelf import package_in, parse_manifest
from models.trust import LicenceKeyMissing, NotTrusted
from tests.models.manifests import as_toml, facts, write_model

ONNX = {"runtime": "onnx"}


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def site(shelf: Path) -> ModelsSettings:
    return ModelsSettings(folder=shelf)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", {"model.onnx": "weights", "more/labels.txt": "a"}, **ONNX)


def left(shelf: Path) -> list[str]:
    return sorted(path.name for path in shelf.iterdir()) if shelf.exists() else []


def zipped(source: Path, to: Path, below: str = "") -> Path:
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(source.rglob("*")):
            file.write(path, f"{below}{path.relative_to(source)}")
    return to


def test_a_folder_a_zip_and_a_tar_install_the_same(model, tmp_path, site, shelf):
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as file:
        file.add(model, "model-1.0")
    kinds = [model, zipped(model, tmp_path / "model.zip", "model/"), tmp_path / "model.tar.gz"]
    digests = set()
    for source in kinds:
        done = install(source, site, shelf)
        assert done.place.folder == shelf / "ours" / "1"
        digests.add(package_in(done.place.folder).weights_digest)
        assert wrong_with(package_in(done.place.folder)) == []
        remove(done.place)
        assert left(shelf) == []
    assert len(digests) == 1


def test_digests_that_a_manifest_leaves_out_are_taken_when_it_is_installed(tmp_path, site, shelf):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "model.onnx").write_text("weights")
    (tmp_path / "new" / "CARD.md").write_text("prose")
    for suffix, text in ((".toml", as_toml(facts(version="1", **ONNX))), (".yaml", None)):
        manifest = tmp_path / "new" / f"manifest{suffix}"
        manifest.write_text(text or "\n".join(_yaml(facts(version="2", **ONNX))))
        done = install(tmp_path / "new", site, shelf)
        assert [one.path for one in done.manifest.files] == ["model.onnx"]
        assert "files" not in manifest.read_text()
        manifest.unlink()


def _yaml(value):
    import yaml

    return yaml.safe_dump(value).splitlines()


def test_a_version_that_is_there_stays_as_it_is(model, site, shelf):
    install(model, site, shelf)
    with pytest.raises(AlreadyInstalled, match="another version"):
        install(model, site, shelf)
    assert left(shelf) == ["ours"]


def test_nobody_takes_the_name_of_a_built_in_model(tmp_path, site, shelf):
    with pytest.raises(AlreadyInstalled, match="built-in"):
        install(write_model(tmp_path / "m", {}, name="lung_ct", **ONNX), site, shelf)


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        ("model.onnx", "Weights", "not the file that its manifest vouches for"),
        ("model.onnx", "other", "its manifest says 7"),
        ("extra.bin", "x", "extra.bin is not named"),
    ],
)
def test_what_is_not_as_its_manifest_says_is_not_installed(  # noqa: PLR0917
    model, site, shelf, path, content, says
):
    (model / path).write_text(content)
    with pytest.raises(BrokenModel, match=says):
        install(model, site, shelf)
    assert left(shelf) == []


def test_a_file_that_is_missing_is_named(model, site, shelf):
    (model / "model.onnx").unlink()
    with pytest.raises(BrokenModel, match=r"model\.onnx cannot be opened"):
        install(model, site, shelf)


def test_unsigned_code_and_what_needs_a_key_are_refused_before_they_are_there(tmp_path, site, shelf):
    with pytest.raises(NotTrusted):
        install(write_model(tmp_path / "a", {"model.ts": "x"}, runtime="torchscript"), site, shelf)
    with pytest.raises(LicenceKeyMissing):
        install(write_model(tmp_path / "b", {}, licence_key=True, **ONNX), site, shelf)
    assert left(shelf) == []
    allowed = site.model_copy(update={"allow_unsigned": True})
    done = install(tmp_path / "a", allowed, shelf)
    assert str(done.trust) == "unsigned code"


# What no archive may do


def archive_of(tmp_path: Path, kind: str, name: str, content: bytes = b"x", **special: object) -> Path:
    path = tmp_path / f"hostile.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            info = zipfile.ZipInfo(name)
            info.external_attr = int(special.get("mode", 0)) << 16
            file.writestr("manifest.toml", as_toml(facts(**ONNX)))
            file.writestr(info, content)
        return path
    with tarfile.open(path, "w") as file:
        manifest = as_toml(facts(**ONNX)).encode()
        first = tarfile.TarInfo("manifest.toml")
        first.size = len(manifest)
        file.addfile(first, io.BytesIO(manifest))
        info = tarfile.TarInfo(name)
        info.type = special.get("type", tarfile.REGTYPE)
        info.linkname = str(special.get("link", ""))
        info.size = len(content) if info.type == tarfile.REGTYPE else 0
        file.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside", "a b", "a\\b", "C:x", "ü"])
def test_nothing_is_written_outside_whatever_a_member_is_called(tmp_path, site, shelf, kind, name):
    before = set(tmp_path.rglob("*"))
    path = archive_of(tmp_path, kind, name)
    with pytest.raises(Unsafe, match="cannot be the path"):
        install(path, site, shelf)
    assert {one.name for one in set(tmp_path.rglob("*")) - before} <= {path.name, "models"}


@pytest.mark.parametrize(
    ("kind", "special"),
    [
        ("zip", {"mode": stat.S_IFLNK | 0o777}),
        ("zip", {"mode": stat.S_IFIFO | 0o666}),
        ("tar", {"type": tarfile.SYMTYPE, "link": "/etc/passwd"}),
        ("tar", {"type": tarfile.LNKTYPE, "link": "manifest.toml"}),
        ("tar", {"type": tarfile.CHRTYPE}),
        ("tar", {"type": tarfile.FIFOTYPE}),
    ],
)
def test_links_and_devices_are_refused(tmp_path, site, shelf, kind, special):
    with pytest.raises(Unsafe, match="not a regular file"):
        install(archive_of(tmp_path, kind, "model.onnx", **special), site, shelf)
    assert left(shelf) == []


@pytest.mark.parametrize("make", ["link", "pipe", "folder"])
def test_a_folder_with_links_or_pipes_is_refused(model, site, shelf, make):
    {
        "link": lambda: (model / "x").symlink_to("/etc/passwd"),
        "pipe": lambda: os.mkfifo(model / "x"),
        "folder": lambda: (model / "x").symlink_to("/etc", target_is_directory=True),
    }[make]()
    with pytest.raises(Unsafe, match="links and devices"):
        install(model, site, shelf)


def test_a_bomb_ends_early_and_leaves_nothing(tmp_path, site, shelf, monkeypatch):
    monkeypatch.setattr(archive, "_SMALL_BYTES", 1 << 16)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("manifest.toml", as_toml(facts(**ONNX)))
        file.writestr("model.onnx", bytes(8 << 20))
    with pytest.raises(Unsafe, match="bomb"):
        install(path, site, shelf)
    assert left(shelf) == []
    small = tmp_path / "bomb.tar.gz"
    with gzip.open(small, "wb") as zipper, tarfile.open(fileobj=zipper, mode="w") as tar:
        info = tarfile.TarInfo("model.onnx")
        info.size = 8 << 20
        tar.addfile(info, io.BytesIO(bytes(8 << 20)))
    with pytest.raises(Unsafe, match="bomb"):
        install(small, site, shelf)


def test_a_header_that_asks_for_gigabytes_gets_none(tmp_path, site, shelf):
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 32
    (tmp_path / "pax.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(Unsafe, match="header"):
        install(tmp_path / "pax.tar", site, shelf)


def test_too_many_files_and_the_same_twice_are_refused(tmp_path, site, shelf, monkeypatch):
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model.onnx", "a")
        file.writestr("MODEL.onnx", "b")
    with pytest.raises(Unsafe, match="twice"):
        install(path, site, shelf)
    monkeypatch.setattr(archive, "_FILES_MAX", 1)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", "a")
        file.writestr("b", "b")
    with pytest.raises(Unsafe, match="more than 1 files"):
        install(path, site, shelf)


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tar.xz"])
def test_half_an_archive_is_said_to_be_one(tmp_path, site, shelf, model, name):
    if name == "x.zip":
        zipped(model, tmp_path / name)
    else:
        with tarfile.open(tmp_path / name, f"w:{name.removeprefix('x.tar').removeprefix('.')}") as file:
            file.add(model, "model")
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BrokenModel):
        install(tmp_path / name, site, shelf)
    assert left(shelf) == []


def test_litter_of_tools_is_left_behind(model, tmp_path, site, shelf):
    (model / ".git").mkdir()
    (model / ".git" / "config").write_text("x")
    path = zipped(model, tmp_path / "m.zip")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("__MACOSX/._model.onnx", "x")
    folder = install(path, site, shelf).place.folder
    assert {one.name for one in folder.rglob("*")} == {"manifest.toml", "model.onnx", "more", "labels.txt"}


def test_a_models_folder_that_cannot_be_written_is_the_sites_matter(model, tmp_path, site):
    (tmp_path / "file").write_text("")
    with pytest.raises(NoModelsFolder, match="cannot be written"):
        install(model, site, tmp_path / "file")


# Models without a manifest


def test_what_has_no_manifest_is_recognised_by_its_files(tmp_path):
    import torch

    def kind(name: str, *files: str) -> str | None:
        folder = tmp_path / name
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            if not (folder / file).exists():
                (folder / file).write_text("{}")
        found = recognise(folder)
        return found.runtime if found else None

    assert kind("bundle", "configs/metadata.json", "configs/inference.json") == "monai_bundle"
    assert kind("nnunet", "a__b__c/dataset.json", "a__b__c/plans.json", "a__b__c/fold_0/c.pth") == "nnunet"
    assert kind("onnx", "model.onnx") == "onnx"
    assert kind("exported", "model.pt2") == "torch_export"
    assert kind("safe", "w.safetensors") == "state_dict"
    assert kind("nothing", "letter.doc") is None
    assert kind("both", "a.onnx", "b.ts") is None
    (tmp_path / "pt").mkdir()
    torch.save({"w": torch.zeros(1)}, tmp_path / "pt" / "w.pt")
    assert kind("pt", "w.pt") == "state_dict"


def test_the_draft_of_a_manifest_names_what_is_missing_and_is_one_once_that_is_there(tmp_path):
    (tmp_path / "model.onnx").write_text("x")
    text = draft(recognise(tmp_path), "mine")
    with pytest.raises(BrokenModel, match=r"'licence' is missing.*'intended_use' is missing"):
        parse_manifest(text.encode(), "manifest.toml", of="mine")
    completed = text.replace("#! licence", "licence").replace("#! intended_use", "intended_use")
    completed = completed.replace("#! limits", "limits")
    found = parse_manifest(completed.encode(), "manifest.toml", of="mine")
    assert (found.name, found.runtime) == ("mine", "onnx")


def test_without_a_manifest_nothing_is_installed(tmp_path, site, shelf):
    (tmp_path / "model.onnx").write_text("x")
    with pytest.raises(WithoutManifest, match="for the runtime onnx"):
        install(tmp_path / "model.onnx", site, shelf)
    (tmp_path / "letter.doc").write_text("x")
    with pytest.raises(WithoutManifest, match="nothing that Wetread knows"):
        install(tmp_path / "letter.doc", site, shelf)
    assert left(shelf) == []


def test_a_model_in_the_making_is_sealed_in_memory_only(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "manifest.toml").write_text(as_toml(facts(**ONNX)))
    (tmp_path / "m" / "model.onnx").write_text("x")
    with sealed(tmp_path / "m").open("model.onnx") as file:
        assert file.read() == b"x"
    assert "files" not in (tmp_path / "m" / "manifest.toml").read_text()


def test_a_file_that_changes_after_it_was_installed_is_found(model, site, shelf):
    place = install(model, site, shelf).place
    (place.folder / "model.onnx").chmod(0o644)
    (place.folder / "model.onnx").write_text("changed")
    (said,) = wrong_with(find("ours", site).package)
    assert "model.onnx" in said
