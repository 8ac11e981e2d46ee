"""Models of a site's own: found by name and version, opened only where the site trusts them."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import models
from ledger.errors import ModelError, SiteError
from models.code import builtin_files, code_digest, runtime_files
from models.contract import BrokenModel, UnknownModel
from models.plain_yaml import read_yaml
from models.registry import RUNTIMES, broken, every_found, find, installed, open_model, provenance_of
from models.runtimes.architectures import OURS
from models.settings import ModelsSettings
from models.shelf import package_in, parse_manifest, version_order
from models.signature import is_public_key, new_key, sign
from models.trust import Level, LicenceKeyMissing, NotTrusted, check, trust_of
from tests.models.manifests import facts, segment, shelve, write_model

ONNX = {"runtime": "onnx"}


@pytest.fixture
def site(tmp_path: Path) -> ModelsSettings:
    return ModelsSettings(folder=tmp_path / "models")


def test_a_name_means_the_newest_version_and_old_ones_stay_there(site):
    for version in ("1.2", "1.10", "1.10-rc1"):
        shelve(site.folder, {"model.onnx": version}, version=version, **ONNX)
    assert find("ours", site).manifest.version == "1.10"
    assert find("ours@1.2", site).manifest.version == "1.2"
    assert [one.identity for one in installed(site) if one.name == "ours"] == [
        "ours@1.2",
        "ours@1.10-rc1",
        "ours@1.10",
    ]


@given(st.lists(st.tuples(*[st.integers(0, 30)] * 3), min_size=2, max_size=6))
def test_versions_are_ordered_as_numbers_and_before_their_candidates(numbers):
    texts = [".".join(map(str, one)) for one in numbers]
    assert sorted(texts, key=version_order) == [".".join(map(str, one)) for one in sorted(numbers)]
    assert version_order(f"{texts[0]}-beta.2") < version_order(f"{texts[0]}-rc.1") < version_order(texts[0])


def test_what_is_no_model_is_named_and_hides_no_other(site):
    shelve(site.folder, {"model.onnx": "good"}, **ONNX)
    (site.folder / "half" / "1").mkdir(parents=True)
    (site.folder / "half" / "1" / "manifest.toml").write_text('name = "half"\nversion = "1"\ncolor = 1\n')
    shelve(site.folder, {}, name="moved").rename(site.folder / "half" / "2")
    (site.folder / ".new-1").mkdir()
    assert [one.manifest.identity for one in every_found(site)][-1] == "ours@1"
    said = {place.identity: str(wrong) for place, wrong in broken(site)}
    assert "unknown key 'color'" in said["half@1"]
    assert "'title' is missing" in said["half@1"]
    assert "holds moved@1" in said["half@2"]
    with pytest.raises(UnknownModel, match=r"installed: .*ours@1"):
        find("nothing", site)
    with pytest.raises(BrokenModel):
        find("half@2", site)


def test_a_link_in_the_models_folder_is_no_model(site, tmp_path):
    write_model(tmp_path / "elsewhere", {}, **ONNX)
    (site.folder / "ours").mkdir(parents=True)
    (site.folder / "ours" / "1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnknownModel):
        find("ours", site)


@pytest.mark.parametrize("reference", ["../ours", "ours@../1", "ours/1", "", "@", ".", "ours@1\0"])
def test_no_reference_leads_out_of_the_models_folder(site, reference):
    shelve(site.folder, {}, **ONNX)
    with pytest.raises(UnknownModel):
        find(reference, site)


def test_yaml_says_the_same_as_toml(tmp_path):
    write_model(tmp_path / "toml", {"model.onnx": "x"}, segments=[segment(1)], **ONNX)
    found = package_in(tmp_path / "toml").manifest
    (tmp_path / "yaml").mkdir()
    told = found.model_dump(mode="json")
    (tmp_path / "yaml" / "manifest.yaml").write_text(yaml.safe_dump(told))
    assert package_in(tmp_path / "yaml").manifest == found


def test_yaml_that_makes_objects_makes_none(tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "manifest.yaml").write_text(f"name: !!python/object/apply:os.mkdir ['{canary}']\n")
    with pytest.raises(BrokenModel, match="not valid YAML"):
        package_in(tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &a {k: 1}\nb: {<<: *a}", r"line 2 merges mappings \(<<\)"),
        ("a: &a {k: 1}\nb: {<<: [*a, *a]}", "line 2 merges"),
        ("a: &a [1]\nb: &b [*a]", r"line 2 repeats \*a within a part that has a name"),
        ("a: &a [*a]", "repeats"),
        (f"a: &a 1\nb: [{'*a, ' * 65}]", "line 2 is the 65th to repeat"),
        ("[" + "[], " * 100_000 + "]", "more than 100000 parts"),
        ("a: 1" + ":1" * 100_000, "a number of 200001 characters"),
    ],
)
def test_yaml_that_asks_for_more_than_it_says_is_refused_at_once(text, says):
    with pytest.raises(BrokenModel, match=says):
        parse_manifest(text.encode(), "manifest.yaml", of="theirs")


def test_yaml_may_repeat_a_part_that_it_names():
    assert read_yaml("a: &a [1, 2]\nb: *a\nc: [*a]") == {"a": [1, 2], "b": [1, 2], "c": [[1, 2]]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("manifest.yaml", "released: 2024-02-30"),
        ("manifest.yaml", f"a: {'1' * 5000}"),
        ("manifest.yaml", "a: !!int ''"),
        ("manifest.yaml", "a: !!bool x"),
        ("manifest.yaml", "a: !!timestamp x"),
        ("manifest.yaml", "[" * 20_000),
        ("manifest.toml", "a = 2024-02-30"),
        ("manifest.toml", f"a = {'1' * 5000}"),
        ("manifest.toml", f"name = 0x{'f' * 5000}"),
        ("manifest.toml", "a = " + "[" * 20_000),
    ],
)
def test_a_value_that_is_none_breaks_its_manifest_and_hides_no_other_model(site, name, text):
    shelve(site.folder, {"model.onnx": "good"}, **ONNX)
    theirs = site.folder / "theirs" / "1"
    theirs.mkdir(parents=True)
    (theirs / name).write_text(text)
    assert every_found(site)[-1].manifest.identity == "ours@1"
    ((place, wrong),) = broken(site)
    assert place.identity == "theirs@1"
    assert f"{name} of model 1" in str(wrong)
    with pytest.raises(BrokenModel):
        find("theirs", site)
    with pytest.raises(UnknownModel, match="ours@1"):
        find("nothing", site)


def test_whatever_goes_wrong_with_one_folder_hides_no_other_and_keeps_its_reason(site, monkeypatch):
    shelve(site.folder, {"model.onnx": "good"}, **ONNX)
    shelve(site.folder, {"model.onnx": "bad"}, name="theirs", **ONNX)

    def trust(package, settings):
        if package.manifest.name == "theirs":
            raise RecursionError("too deep")
        return trust_of(package, settings)

    monkeypatch.setattr("models.registry.trust_of", trust)
    assert every_found(site)[-1].manifest.identity == "ours@1"
    ((_, wrong),) = broken(site)
    assert "theirs@1 in the models folder cannot be read (RecursionError: too deep)" in str(wrong)
    with pytest.raises(BrokenModel, match="too deep"):
        find("theirs", site)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"tasks": ["telepathy"]}, r"'tasks\[1\]': input should be 'segmentation'"),
        ({"name": "Our Model"}, "'name': has to match"),
        ({"inputs": []}, "'inputs'"),
        ({"segments": [segment(2)]}, "numbered 1, 2"),
        ({"segments": [segment(1, colour="red")]}, r"'segments\[1\].colour': did you mean 'colour_rgb'"),
        ({"files": [{"path": "../x", "sha256": "0" * 64, "size": 1}]}, r"files\[1\].path"),
        ({"inputs": [{"modality": ["CT"]}] * 2, "given": "series"}, "same name"),
    ],
)
def test_a_mistake_in_a_manifest_is_named_with_what_is_allowed(tmp_path, changed, says):
    write_model(tmp_path, {}, **changed) if "files" not in changed else (
        tmp_path / "manifest.yaml"
    ).write_text(yaml.safe_dump(facts(**changed)))
    with pytest.raises(BrokenModel, match=says):
        package_in(tmp_path)


# Trust


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_what_is_code_is_not_opened_without_a_signature_or_the_sites_word(site, runtime):
    shelve(site.folder, {"model.bin": "x"}, runtime=runtime)
    found = find("ours", site)
    if found.trust.level is Level.DATA_ONLY:
        assert runtime in ("onnx", "state_dict", "nnunet")
        check(found.manifest, found.trust, site)
        return
    assert str(found.trust) == "unsigned code"
    with pytest.raises(NotTrusted, match="allow_unsigned = true"):
        open_model("ours", settings=site)
    check(found.manifest, found.trust, site.model_copy(update={"allow_unsigned": True}))


def test_a_trusted_key_vouches_for_a_manifest_and_nobody_else_does(site):
    folder = shelve(site.folder, {"model.ts": "x"}, runtime="torchscript")
    (mine, public), (_, other) = new_key(), new_key()
    assert is_public_key(public)
    assert not is_public_key(public[:-4])
    assert sign(folder, mine) == public

    def trust(**keys: str) -> str:
        return str(find("ours", site.model_copy(update={"trusted_keys": keys})).trust)

    assert trust(hospital=public) == "signed by hospital"
    assert trust(hospital=other) == "unsigned code"
    assert trust() == "unsigned code"
    manifest = folder / "manifest.toml"
    manifest.write_text(manifest.read_text().replace('title = "Ours"', 'title = "Yours"'))
    assert trust(hospital=public) == "unsigned code"


def test_signing_again_replaces_ones_own_signature_and_keeps_others(site):
    folder = shelve(site.folder, {}, runtime="torchscript")
    (mine, public), (theirs, other) = new_key(), new_key()
    for key in (mine, theirs, mine):
        sign(folder, key)
    assert len((folder / "manifest.sig").read_text().splitlines()) == 2
    for key in (public, other):
        assert trust_of(package_in(folder), ModelsSettings(trusted_keys={"k": key})).key == "k"


def test_a_garbled_signature_counts_for_nothing(site):
    folder = shelve(site.folder, {}, runtime="torchscript")
    key = new_key()[1]
    for garbled in (b"\xff\xfe", b"ed25519", f"ed25519 {key} AAAA\n".encode(), b"x" * 100_000):
        (folder / "manifest.sig").write_bytes(garbled)
        trusted = site.model_copy(update={"trusted_keys": {"k": key}})
        assert find("ours", trusted).trust.level is Level.UNSIGNED_CODE


def test_a_model_that_needs_a_licence_key_is_refused_until_the_site_has_one(site):
    shelve(site.folder, {}, licence="non-commercial", licence_key=True, **ONNX)
    with pytest.raises(LicenceKeyMissing, match=r"\[models.licence_keys\]") as caught:
        open_model("ours", settings=site)
    assert isinstance(caught.value, SiteError)
    found = find("ours", site)
    check(found.manifest, found.trust, site.model_copy(update={"licensed": ("ours",)}))


def test_a_model_of_a_site_cannot_call_itself_built_in(site):
    shelve(site.folder, {}, runtime="built-in")
    allowed = site.model_copy(update={"allow_unsigned": True})
    with pytest.raises(BrokenModel, match="the runtimes are"):
        open_model("ours", settings=allowed)


# What a result names


class Opened:
    """What provenance asks of an opened model."""

    def __init__(self, folder: Path) -> None:
        package = package_in(folder)
        self.manifest, self.folder = package.manifest, package.folder
        self.weights_digest = package.weights_digest


def test_a_changed_byte_option_or_version_is_another_device(tmp_path):
    def device(name: str, **more: object) -> str:
        files = {"model.onnx": "weights", **more.pop("files", {})}
        return str(provenance_of(Opened(write_model(tmp_path / name, files, **ONNX, **more)), {}).device_uid)

    first = device("first")
    assert device("elsewhere") == first
    others = [
        device("byte", files={"model.onnx": "Weights"}),
        device("more", files={"more.onnx": ""}),
        device("option", options={"window": [64, 64, 64]}),
        device("version", version="2"),
        device("code", files={"model.py": "x = 1"}),
    ]
    assert len({first, *others}) == 6


def test_a_runtimes_code_is_its_module_and_what_that_imports_of_models():
    names = {path.name for path in runtime_files("onnx")}
    if not names:
        pytest.skip("this installation has no ONNX runtime")
    assert {"onnx.py", "outputs.py", "manifest.py"} <= names


def test_what_a_runtime_imports_by_name_and_reads_beside_its_modules_is_its_code():
    names = {
        path.relative_to(Path(models.__file__).parent).as_posix() for path in runtime_files("state_dict")
    }
    assert {f"{module.removeprefix('models.').replace('.', '/')}.py" for module in OURS.values()} <= names
    assert {"structures.py", "structures.toml"} <= names
    assert "centre_detector.py" not in {path.name for path in runtime_files("onnx")}


def test_a_built_in_models_code_is_its_own_and_what_that_imports_of_models():
    builtin = Path(models.__file__).parent / "builtin"
    names = {path.relative_to(builtin.parent).as_posix() for path in builtin_files(builtin / "lung_ct")}
    assert {"chest/anatomy.py", "chest/lungs.py", "chest/thirds.py"} <= names
    assert not any(name.startswith("builtin/lung_ct/") for name in names)
    assert not names & {"registry.py", "contract.py", "manifest.py", "shelf.py"}


def test_another_line_in_what_a_built_in_model_imports_is_another_device(tmp_path, monkeypatch):
    house = tmp_path / "models"
    for path, line in (
        ("builtin/one/model.py", "from models.chest import lungs"),
        ("chest/lungs.py", "import models.chest.body"),
        ("chest/body.py", "x = 1"),
        ("builtin/two/model.py", "y = 1"),
    ):
        (house / path).parent.mkdir(parents=True, exist_ok=True)
        (house / path).write_text(f"{line}\n")
    monkeypatch.setattr("models.code._MODELS", house)
    before = {one: code_digest(house / "builtin" / one) for one in ("one", "two")}

    (house / "chest" / "body.py").write_text("x = 2\n")

    assert code_digest(house / "builtin" / "one") != before["one"]
    assert code_digest(house / "builtin" / "two") == before["two"]


@pytest.mark.parametrize(
    ("runtime", "library"), [("state_dict", "monai"), ("monai_bundle", "monai"), ("onnx", "onnxruntime")]
)
def test_another_version_of_the_library_that_computes_is_another_device(
    tmp_path, monkeypatch, runtime, library
):
    before = {one: code_digest(tmp_path, one) for one in (runtime, "torch_export")}
    monkeypatch.setattr(
        "models.code.version", lambda name: "0.0" if name == library else metadata.version(name)
    )
    assert code_digest(tmp_path, runtime) != before[runtime]
    assert code_digest(tmp_path, "torch_export") == before["torch_export"]


def test_nothing_is_read_of_a_folder_that_is_not_there(tmp_path):
    assert broken(ModelsSettings(folder=tmp_path / "none")) == ()


def test_the_registry_with_models_of_the_site_needs_no_torch(site):
    shelve(site.folder, {"model.onnx": "x"}, **ONNX)
    code = (
        "import sys; from pathlib import Path; from models.registry import installed; "
        "from models.settings import ModelsSettings; "
        f"assert len(installed(ModelsSettings(folder=Path({str(site.folder)!r})))) > 1; "
        "print('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert said.stdout.strip() == "False"


def test_our_errors_are_sorted_by_whose_fault_they_are():
    assert issubclass(NotTrusted, SiteError)
    assert issubclass(BrokenModel, ModelError)
