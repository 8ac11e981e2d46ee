import subprocess
import sys

import pytest

from ledger.errors import ModelError, SiteError
from ledger.identifiers import Digest, Uid
from models.builtin.lung_ct.model import LungCT
from models.contract import BrokenModel, Context, SettingsNotUnderstood, UnknownModel
from models.manifest import Input, Manifest
from models.registry import code_digest, installed, open_model, provenance_of, read_manifest
from models.trust import NotTrusted
from results.findings import Findings, refused

MANIFEST = Manifest(
    name="ours",
    version="3",
    title="Ours",
    licence="none",
    intended_use="tests",
    limits=(),
    inputs=(Input(modality=("CT",), spacing_max_mm=5, minimum_slices=1),),
    time_limit_s=5,
    memory_mib=10,
)


class SiteModel:
    """A site's own model, whole."""

    manifest = MANIFEST
    weights_digest = None

    def __init__(self) -> None:
        from pathlib import Path

        self.folder = Path(__file__).parent

    def load(self, device: str) -> None: ...

    def run(self, volume: object, context: Context) -> Findings:
        return refused("Only a test.")

    def estimate(self, shape: tuple[int, int, int]) -> None: ...

    def unload(self) -> None: ...


class WithoutManifest(SiteModel):
    manifest = None


class WithoutUnload(SiteModel):
    unload = None


OURS = f"{__name__}:"


def test_lung_ct_is_installed_and_opened_by_name_or_version() -> None:
    (manifest,) = [manifest for manifest in installed() if manifest.name == "lung_ct"]

    assert isinstance(open_model("lung_ct"), LungCT)
    assert open_model(f"lung_ct@{manifest.version}").manifest == manifest


@pytest.mark.parametrize("reference", ["lung", "lung_ct@0.0.1", "../lung_ct", ""])
def test_an_unknown_model_is_refused_with_what_there_is(reference: str) -> None:
    with pytest.raises(UnknownModel, match=r"installed: .*lung_ct@"):
        open_model(reference)


def test_a_sites_python_is_not_opened_unless_the_site_says_so() -> None:
    with pytest.raises(NotTrusted, match="does not allow"):
        open_model(OURS + "SiteModel")

    assert open_model(OURS + "SiteModel", allow_python=True).manifest.name == "ours"


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        (OURS + "WithoutManifest", "has no manifest"),
        (OURS + "WithoutUnload", "lacks unload"),
        (OURS + "Nothing", "no class of that name"),
    ],
)
def test_a_class_that_breaks_the_contract_is_told_what_it_lacks(reference: str, says: str) -> None:
    with pytest.raises(BrokenModel, match=says) as caught:
        open_model(reference, allow_python=True)
    assert isinstance(caught.value, ModelError)


def test_a_module_that_is_not_there_is_an_unknown_model() -> None:
    with pytest.raises(UnknownModel, match="cannot be imported"):
        open_model("no_such_module_here:Model", allow_python=True)


def test_a_misspelt_manifest_is_named(tmp_path) -> None:
    (tmp_path / "manifest.toml").write_text('name = "x"\nversoin = "1"\n')

    with pytest.raises(BrokenModel, match="versoin"):
        read_manifest(tmp_path / "manifest.toml")


def test_the_device_uid_is_the_models_and_not_the_runs() -> None:
    one, again = (provenance_of(open_model("lung_ct"), {"closing_mm": mm}) for mm in (4.0, 8.0))

    assert one.device_uid == again.device_uid
    assert str(one.device_uid).startswith("2.25.")
    assert one.settings == {"closing_mm": 4.0}
    assert one.identity.startswith("lung_ct@")


def test_point_13_the_device_uid_is_a_pure_function_of_weights_and_code(tmp_path, monkeypatch) -> None:
    def device(name: str, *, code: str = "x = 1\n", weights: Digest | None = None, **settings: object) -> Uid:
        model = SiteModel()
        model.folder, model.weights_digest = tmp_path / name, weights
        (tmp_path / name / "deeper").mkdir(parents=True)
        (tmp_path / name / "deeper" / "model.py").write_text(code)
        # The folder's own name is part of each file's.
        (tmp_path / name).rename(tmp_path / name / ".." / "model")
        model.folder = tmp_path / "model"
        try:
            return provenance_of(model, settings).device_uid
        finally:
            (tmp_path / "model").rename(tmp_path / f"{name}.gone")

    first = device("first")
    # Another place and time, other settings, another machine's files: the same device.
    assert device("again", closing_mm=8) == first
    # Other weights, no weights, other code, other code that prepares voxels: another one each.
    one, two = (device(f"weights {n}", weights=Digest(f"{n}{n}" * 32)) for n in (1, 2))
    other_code = device("code", code="x = 2\n")
    (tmp_path / "prepare").mkdir()
    (tmp_path / "prepare" / "resample.py").write_text("other")
    monkeypatch.setattr("models.code._PREPARE", tmp_path / "prepare")
    assert len({first, one, two, other_code, device("prepare")}) == 5


def test_another_line_of_code_is_another_device(tmp_path) -> None:
    model = SiteModel()
    model.folder = tmp_path
    (tmp_path / "model.py").write_text("x = 1\n")
    before = provenance_of(model, {})

    (tmp_path / "model.py").write_text("x = 2\n")
    after = provenance_of(model, {})

    assert before.device_uid != after.device_uid
    assert before.code_digest != after.code_digest


def test_results_say_where_the_models_card_is() -> None:
    model = open_model("lung_ct")
    assert provenance_of(model, {}).card_url == f"CARD.md of {model.manifest.identity}"

    published = LungCT()
    published.manifest = model.manifest.model_copy(update={"card_url": "https://example.org/lung_ct"})
    assert provenance_of(published, {}).card_url == "https://example.org/lung_ct"


@pytest.mark.parametrize(
    "url", ["ftp://example.org", "https://", "https://exa mple.org", "javascript:1", "https://é"]
)
def test_the_address_of_a_card_is_one_that_a_reader_can_open(url: str) -> None:
    with pytest.raises(ValueError, match="card_url"):
        Manifest.model_validate({**open_model("lung_ct").manifest.model_dump(), "card_url": url})


def test_line_ends_and_prose_do_not_change_what_a_model_is(tmp_path) -> None:
    (tmp_path / "model.py").write_bytes(b"x = 1\n")
    before = code_digest(tmp_path)

    (tmp_path / "model.py").write_bytes(b"x = 1\r\n")
    (tmp_path / "CARD.md").write_text("prose")

    assert code_digest(tmp_path) == before


def test_listing_models_needs_no_torch() -> None:
    code = (
        "import sys; from models.registry import installed; assert installed(); print('torch' in sys.modules)"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "False"


def test_every_built_in_model_has_a_card() -> None:
    for manifest in installed():
        card = open_model(manifest.name).folder / manifest.card
        assert manifest.name in card.read_text(encoding="utf-8")


def test_a_setting_that_lung_ct_does_not_have_stops_the_rule(whole_chest, lung_ct) -> None:
    with pytest.raises(SettingsNotUnderstood, match="colour") as caught:
        lung_ct.run(whole_chest.volume, Context(headers={"Modality": "CT"}, settings={"colour": "red"}))
    assert isinstance(caught.value, SiteError)
