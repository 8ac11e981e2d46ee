"""A bundle that nobody vouches for runs nothing: not when looked at, not when refused, not when loaded.

Every bundle here would write a canary file if any of its code were run.
"""

import io
import json
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
import torch

from ledger.errors import WetreadError
from models.contract import BrokenModel, Context
from models.registry import find_in, open_found
from models.runtimes.bundles.building import Builder
from models.runtimes.bundles.configuration import Folder
from models.runtimes.bundles.expressions import Expression, NotPlain
from models.runtimes.bundles.judgement import GIVEN, Options, is_data, opened
from models.runtimes.bundles.proposal import propose
from models.runtimes.bundles.running import quiet
from models.runtimes.bundles.targets import locate
from models.runtimes.monai_bundle import MonaiBundle
from models.settings import ModelsSettings
from models.trust import Level, NotTrusted, check, trust_of
from tests.models.runtimes.bundles import SEGMENTATION, changed, package_of, scan, unet, write_bundle


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def sings(canary: Path) -> str:
    return f"open({str(canary)!r}, 'w').write('sung')"


def _import_os(canary: Path) -> str:
    return f"__import__('os').system('touch {canary}')"


#: What the malicious text does to a configuration: (change of its tree, further files).
MALICE = {
    "an expression in the network": lambda c: changed(
        SEGMENTATION, network_def__out_channels=f"${_import_os(c)}"
    ),
    "an expression as the network": lambda c: changed(SEGMENTATION, network_def=f"${sings(c)}"),
    "an expression behind a reference": lambda c: (
        changed(SEGMENTATION, network_def__norm="@norm") | {"norm": f"${_import_os(c)} or 'batch'"}
    ),
    "an expression beside a harmless one": lambda c: changed(
        SEGMENTATION, inferer__overlap=f"$0.5 if 1 + 1 == 2 and not {_import_os(c)} else 0.25"
    ),
    "a function of Python as target": lambda c: changed(
        SEGMENTATION, inferer={"_target_": "os.system", "command": f"touch {c}"}
    ),
    "a builtin as target": lambda c: changed(
        SEGMENTATION, inferer={"_target_": "builtins.eval", "source": _import_os(c)}
    ),
    "a module behind one of MONAI's as target": lambda c: changed(
        SEGMENTATION, inferer={"_target_": "monai.networks.nets.unet.os.system", "command": f"touch {c}"}
    ),
    "an expression as target": lambda c: changed(
        SEGMENTATION, inferer={"_target_": "$__import__('os').system", "command": f"touch {c}"}
    ),
    "the mode of a debugger": lambda c: (
        changed(SEGMENTATION, network_def__mode="x")
        | {"inferer": {"_target_": "SlidingWindowInferer", "_mode_": "debug", "roi_size": [16, 16, 16]}}
    ),
    "an expression that disables": lambda c: changed(
        SEGMENTATION, preprocessing__transforms__1___disabled_=f"${sings(c)} < 0"
    ),
    "an expression that is required": lambda c: changed(SEGMENTATION, evaluator___requires_=f"${sings(c)}"),
    "an expression in what is required by a part": lambda c: changed(
        SEGMENTATION, network_def___requires_=[f"${sings(c)}"]
    ),
    "a macro of another file": lambda c: changed(SEGMENTATION, network_def="%evil.json::network_def"),
    "a lambda that calls": lambda c: changed(
        SEGMENTATION,
        postprocessing__transforms__0={
            "_target_": "Lambdad",
            "keys": "pred",
            "func": f"$lambda x: {_import_os(c)}",
        },
    ),
    "a class's subclasses": lambda c: changed(
        SEGMENTATION, inferer__overlap="$().__class__.__base__.__subclasses__()[0]"
    ),
    "an attribute of a reference": lambda c: changed(
        SEGMENTATION, inferer__overlap="$@network_def.__init__.__globals__['os'].system('true')"
    ),
    "a checkpoint that asks for its pickle": lambda c: changed(
        SEGMENTATION, checkpointloader__load_path=f"$str({sings(c)})"
    ),
    "a layer of torch that is none": lambda c: changed(
        SEGMENTATION, inferer={"_target_": "torch.nn.Module.load_state_dict"}
    ),
    "a loader of torch": lambda c: changed(
        SEGMENTATION, network_def={"_target_": "torch.hub.load", "repo_or_dir": str(c)}
    ),
    "its own script": lambda c: changed(SEGMENTATION, inferer={"_target_": "scripts.inferer.Inferer"}),
}


@pytest.mark.parametrize("malice", MALICE)
def test_a_malicious_configuration_is_code_and_runs_nothing(tmp_path, canary, malice, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = f"{sings(canary)}\nclass Inferer: pass\n"
    folder = write_bundle(
        tmp_path / "bundle",
        MALICE[malice](canary),
        weights={},
        files={
            "scripts/__init__.py": script,
            "scripts/inferer.py": script,
            "sitecustomize.py": script,
            "conftest.py": script,
            "configs/logging.conf": f"[handlers]\nkeys=x\n[handler_x]\nclass=eval({sings(canary)!r})\n",
            "evil.json": f'{{"network_def": {{"_target_": "os.system", "command": "touch {canary}"}}}}',
        },
    )
    package = package_of(folder)
    bundle = opened(Folder(folder), Options(), classifies=False)

    assert bundle.reasons
    assert not is_data(package)
    assert any("signature" in one for one in propose(folder)["missing"])
    trust = trust_of(package, ModelsSettings())
    assert trust.level is Level.UNSIGNED_CODE
    with pytest.raises(NotTrusted):
        check(package.manifest, trust, ModelsSettings())
    builder = Builder(bundle.mended.tree, dict.fromkeys(GIVEN, torch.device("cpu")), lambda path: None)
    with quiet(), pytest.raises((NotPlain, WetreadError)):
        _ = [builder.get(id) for id in (*bundle.roots, "_weights_path_")]
    assert not canary.exists()


@pytest.mark.parametrize("place", ["imports", "initialize", "run", "handlers", "datalist", "output_dir"])
def test_what_running_a_bundle_does_not_need_is_neither_judged_nor_run(tmp_path, canary, place) -> None:
    evil = f"${_import_os(canary)}"
    configuration = changed(SEGMENTATION, **{place: [evil] if place != "output_dir" else evil})
    script = {"scripts/__init__.py": sings(canary), "configs/logging.conf": "[loggers]\nkeys=" + "x" * 10}
    package = package_of(
        write_bundle(tmp_path / "bundle", configuration, weights=unet().state_dict(), files=script)
    )
    assert trust_of(package, ModelsSettings()).level is Level.DATA_ONLY
    model = MonaiBundle(package)
    model.load("cpu")
    assert model.run(scan(), Context()).segments
    assert not canary.exists()


class _Singer:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (open, (str(self.canary), "w"))


@pytest.mark.parametrize("written", ["zip", "legacy", "pickle", "numpy"])
def test_a_checkpoint_that_would_run_something_is_refused(tmp_path, canary, written) -> None:
    import numpy as np

    singer = _Singer(canary)
    folder = write_bundle(tmp_path / "bundle", weights={})
    path = folder / "models/model.pt"
    if written == "pickle":
        path.write_bytes(pickle.dumps(singer))
    elif written == "numpy":
        torch.save({"model": np.array([singer], dtype=object)}, path)
    else:
        torch.save({"model": singer}, path, _use_new_zipfile_serialization=written == "zip")
    canary.unlink(missing_ok=True)
    package = package_of(folder)
    assert is_data(package)
    with pytest.raises(BrokenModel, match="more than weights"):
        MonaiBundle(package).load("cpu")
    assert not canary.exists()


def test_a_checkpoint_that_unpacks_to_more_than_its_size_is_refused_before_it_is_read(tmp_path) -> None:
    folder = write_bundle(tmp_path / "bundle", weights=unet().state_dict())
    path = folder / "models/model.pt"
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("model/data/bomb", b"\0" * (8 << 20))
    with pytest.raises(BrokenModel, match="unpacks from"):
        MonaiBundle(package_of(folder)).load("cpu")


def test_torchscript_is_code(tmp_path) -> None:
    folder = write_bundle(tmp_path / "bundle", files={"models/model.ts": b"PK"})
    assert not is_data(package_of(folder))


@pytest.mark.parametrize("asked", ["by its loader", "for want of others"])
def test_no_bundle_of_data_turns_to_torchscript(tmp_path, asked) -> None:
    """Neither by what its loader names, nor because the checkpoint that it names is not there."""
    configuration = SEGMENTATION
    if asked == "by its loader":
        configuration = changed(
            SEGMENTATION, checkpointloader__load_path="$@bundle_root + '/models/' + 'model.ts'"
        )
    files = {"models/model.ts": b"PK", "models/another.pt": b"PK"}
    package = package_of(write_bundle(tmp_path / "bundle", configuration, files=files))
    assert is_data(package)
    with pytest.raises(BrokenModel, match=r"only TorchScript \(models/model.ts\)"):
        MonaiBundle(package).load("cpu")


@pytest.mark.parametrize(
    "content",
    [
        b"{" * 100_000,
        b'{"a": ' * 70 + b"1" + b"}" * 70,
        b'["no mapping"]',
        b"{not json",
        b'{"a": "\xff"}',
    ],
    ids=["open braces", "deep", "a list", "no JSON", "no UTF-8"],
)
def test_a_configuration_that_cannot_be_read_is_a_broken_model(tmp_path, content) -> None:
    folder = write_bundle(tmp_path / "bundle", files={"configs/inference.json": content})
    with pytest.raises(BrokenModel, match=r"configs/inference.json of the bundle"):
        propose(folder)
    assert not is_data(package_of(folder))


@pytest.mark.parametrize("text", ["-" * 1900 + "1", "1" + ".a" * 900], ids=["signs", "attributes"])
def test_an_expression_that_is_too_deep_to_be_judged_is_no_data(tmp_path, text) -> None:
    folder = write_bundle(tmp_path / "bundle", changed(SEGMENTATION, network_def=f"${text}"))
    assert opened(Folder(folder), Options(), classifies=False).reasons
    assert not is_data(package_of(folder))


def test_a_reference_to_a_place_of_5000_digits_leads_nowhere(tmp_path) -> None:
    configuration = changed(SEGMENTATION, network_def="@many::" + "9" * 5000) | {"many": [1]}
    folder = write_bundle(tmp_path / "bundle", configuration)
    with pytest.raises(BrokenModel, match="many"):
        MonaiBundle(package_of(folder)).load("cpu")


@pytest.mark.parametrize("error", [RecursionError, ValueError, RuntimeError, zlib.error, struct.error])
def test_a_bundle_that_cannot_be_judged_for_whatever_reason_is_no_data(tmp_path, monkeypatch, error) -> None:
    def give_up(*_: object, **__: object) -> None:
        raise error

    package = package_of(write_bundle(tmp_path / "bundle"))
    assert is_data(package)
    monkeypatch.setattr("models.runtimes.bundles.judgement.mend", give_up)
    assert not is_data(package)


def test_a_configuration_in_an_encrypted_archive_is_a_broken_model(tmp_path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as parts:
        parts.writestr("a/extra/inference.json", "{}")
    content = bytearray(archive.getvalue())
    for at in (6, content.find(b"PK\x01\x02") + 8):
        content[at] |= 1
    folder = write_bundle(tmp_path / "bundle", files={"models/model.ts": bytes(content)}, weights={})
    (folder / "configs/inference.json").unlink()
    with pytest.raises(BrokenModel, match=r"model\.ts of the bundle is not a TorchScript archive"):
        propose(folder)
    assert not is_data(package_of(folder))


def test_yaml_that_unfolds_to_billions_is_refused(tmp_path) -> None:
    pytest.importorskip("yaml")
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    folder = write_bundle(tmp_path / "bundle", files={"configs/inference.yaml": "\n".join(lines)})
    (folder / "configs/inference.json").unlink()
    with pytest.raises(BrokenModel, match=r"line 2 repeats \*a0 within a part that has a name"):
        propose(folder)


def test_a_configuration_of_too_many_parts_is_refused(tmp_path) -> None:
    text = f"a: &a [{'x, ' * 2000}]\nb: [{'*a, ' * 60}]"
    folder = write_bundle(tmp_path / "bundle", files={"configs/inference.yaml": text})
    (folder / "configs/inference.json").unlink()
    with pytest.raises(BrokenModel, match="more than 100000 parts"):
        propose(folder)


def test_yaml_that_merges_is_refused_and_is_no_data(tmp_path) -> None:
    text = "a: &a {k: 1}\nnetwork_def: {<<: *a}\n"
    folder = write_bundle(tmp_path / "bundle", files={"configs/inference.yaml": text})
    (folder / "configs/inference.json").unlink()
    with pytest.raises(BrokenModel, match=r"line 2 merges mappings \(<<\): write them out"):
        propose(folder)
    assert not is_data(package_of(folder))


def test_yaml_makes_no_objects(tmp_path, canary) -> None:
    pytest.importorskip("yaml")
    text = f"network_def: !!python/object/apply:os.system ['touch {canary}']"
    folder = write_bundle(tmp_path / "bundle", files={"configs/inference.yaml": text})
    (folder / "configs/inference.json").unlink()
    with pytest.raises(BrokenModel, match="cannot be read"):
        propose(folder)
    assert not canary.exists()


def test_a_link_out_of_the_bundle_is_not_followed(tmp_path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"network_def": {}}')
    folder = write_bundle(tmp_path / "bundle")
    (folder / "configs/inference.json").unlink()
    (folder / "configs/inference.json").symlink_to(secret)
    with pytest.raises(BrokenModel, match="has no configs/inference"):
        propose(folder)


@pytest.mark.parametrize(
    "text",
    [
        "'x' * 10 ** 9",
        "'x' * 1000000000",
        "[0] * 1000000000",
        "list(range(1000000000000))",
        "[i for i in range(1000000000000)]",
        "9223372036854775807 * 9223372036854775807",
        "'%1000000000d' % 1",
        "f'{1:>1000000000}'",
        "'{:>1000000000}'.format(1)",
        "1 << 100000000000",
        "(" * 200 + ")" * 200,
        "1 +" * 1000 + "1",
    ],
)
def test_a_small_text_makes_nothing_large(tmp_path, text) -> None:
    configuration = changed(SEGMENTATION, network_def__out_channels=f"${text}")
    folder = write_bundle(tmp_path / "bundle", configuration, weights={})
    bundle = opened(Folder(folder), Options(), classifies=False)
    builder = Builder(
        bundle.mended.tree, {"device": torch.device("cpu"), "bundle_root": "."}, lambda path: None
    )
    with pytest.raises((NotPlain, BrokenModel)):
        builder.get("network_def")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("@a + @b", 5),
        ("@c::0 if @a > 1 else @c::1", "first"),
        ("len(@names) + 1", 3),
        ("[i + 1 for i in range(3)]", [1, 2, 3]),
        ("list(set([1, 2, 3]) - set([2]))", [1, 3]),
        ("not @a", False),
        ("{'x': @a, **{}}", None),
        ("@c#1", "second"),
        ("os.path.join('models', 'model.pt')", "models/model.pt"),
        ("torch.device('cpu')", torch.device("cpu")),
        ("torch.float32", torch.float32),
        ("monai.utils.CommonKeys.PRED", "pred"),
        ("(lambda x: x)(1)", None),
        ("int.__subclasses__()", None),
        ("open('/etc/passwd')", None),
        ("print(1)", None),
        ("getattr(torch, 'load')", None),
        ("torch.load('x')", None),
        ("torch.hub.load('x', 'y')", None),
        ("numpy.load('x')", None),
        ("a := 1", None),
        ("(yield)", None),
    ],
)
def test_plain_expressions_have_pythons_value_and_all_others_none(text, value) -> None:
    from models.runtimes.bundles.evaluation import evaluate

    known = {"a": 2, "b": 3, "c::0": "first", "c::1": "second", "names": ["x", "y"]}
    if value is None:
        with pytest.raises(NotPlain):
            Expression.parse(text)
    else:
        assert evaluate(Expression.parse(text), known.__getitem__) == value


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("UNet", True),
        ("monai.networks.nets.UNet", True),
        ("monai.networks.nets.unet.UNet", True),
        ("monai.transforms.Spacingd", True),
        ("monai.transforms.spatial.dictionary.Spacingd", True),
        ("torch.nn.Softmax", True),
        ("monai.transforms.LoadImaged", False),
        ("monai.transforms.SaveImaged", False),
        ("monai.networks.nets.TorchVisionFCModel", False),
        ("monai.data.PersistentDataset", False),
        ("monai.bundle.run", False),
        ("monai.apps.download_url", False),
        ("os.system", False),
        ("UNet.system", False),
        ("", False),
    ],
)
def test_only_what_computes_may_be_built(target, found) -> None:
    assert (locate(target) is not None) is found


@pytest.mark.parametrize("name", ["EfficientNetBN", "SEResNet50", "resnet18", "DenseNet121", "FlexibleUNet"])
def test_no_network_fetches_weights_from_anywhere(name, monkeypatch) -> None:
    """Whatever the configuration asks, and whatever the class has for a default."""

    def fetched(*arguments, **keywords):
        raise AssertionError("a network asked the Internet for weights")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fetched)
    monkeypatch.setattr("torch.utils.model_zoo.load_url", fetched)
    wanted = {
        "EfficientNetBN": {"model_name": "efficientnet-b0", "in_channels": 3},
        "SEResNet50": {"spatial_dims": 2, "in_channels": 3, "num_classes": 2},
        "resnet18": {"spatial_dims": 2, "n_input_channels": 3},
        "DenseNet121": {"spatial_dims": 2, "in_channels": 3, "out_channels": 2},
        "FlexibleUNet": {
            "in_channels": 3,
            "out_channels": 2,
            "backbone": "efficientnet-b0",
            "spatial_dims": 2,
        },
    }[name]
    target = locate(name)
    assert target is not None
    for asked in ({}, {"pretrained": True}):
        made, _ = target.build([], {**wanted, **asked})
        assert isinstance(made, torch.nn.Module)


def test_a_bundle_of_data_is_opened_without_a_signature_and_one_of_code_is_not(tmp_path) -> None:
    data = write_bundle(tmp_path / "data", weights=unet().state_dict())
    configuration = changed(SEGMENTATION, inferer={"_target_": "scripts.own.Own"})
    script = "from monai.inferers import SimpleInferer as Own\n"
    code = write_bundle(
        tmp_path / "code", configuration, weights=unet().state_dict(), files={"scripts/own.py": script}
    )
    for folder in (data, code):
        facts = package_of(folder).manifest.model_dump(mode="json", exclude_defaults=True)
        (folder / "manifest.yaml").write_text(json.dumps(facts))
    model = open_found(find_in(data), ModelsSettings())
    model.load("cpu")
    assert model.run(scan(), Context()).segments
    with pytest.raises(NotTrusted, match="is code"):
        open_found(find_in(code), ModelsSettings())
    allowed = open_found(find_in(code), ModelsSettings(allow_unsigned=True))
    allowed.load("cpu")
