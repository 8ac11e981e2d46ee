"""
Models that somebody else made to do harm: each is a folder with a manifest, as it would be added.

What would run leaves a file behind (`canary`). Where a model is code, it stands here unsigned; where the
attack is on the reader of code itself, the site has said that it trusts unsigned models.
"""

import hashlib
import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import torch
from onnx import TensorProto

WEIGHTS = {"weight": torch.zeros(4, 1, 3, 3, 3)}
OPTIONS = 'architecture = "UNet"\n[options.arguments]\nspatial_dims = 3\nin_channels = 1\nout_channels = 2\n'
OPTIONS += "channels = [4, 8]\nstrides = [2]\n"


@dataclass(frozen=True)
class Attack:
    """One folder, and whether the site trusts unsigned code in it."""

    name: str
    folder: Path
    trusting: bool = False


class _Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def attacks(folder: Path, canary: Path) -> Iterator[Attack]:
    """Every attack, written below `folder`."""
    for make in (
        *_checkpoints(),
        *_safetensors(),
        *_onnx(),
        *_nnunet(),
        *_folders(),
        *_code(),
        *_manifests(),
        *_arguments(),
    ):
        name = make.__name__.strip("_")
        here = folder / name
        here.mkdir()
        trusting = bool(make(here, f"touch {canary / name}"))
        yield Attack(name.replace("_", " "), here, trusting)


def manifest(
    here: Path, runtime: str, *paths: str, options: str = "", more: str = "", digest: bool = True
) -> None:
    """`manifest.toml` that vouches for `paths`, as an attacker would write it."""
    files = "\n".join(
        f'[[files]]\npath = "{path}"\nsha256 = "{_digest(here / path) if digest else "0" * 64}"\n'
        f"size = {(here / path).stat().st_size if (here / path).exists() else 0}\n"
        for path in paths
    )
    (here / "manifest.toml").write_text(
        f'name = "hostile"\nversion = "1"\ntitle = "t"\nlicence = "l"\nintended_use = "u"\nlimits = []\n'
        f'runtime = "{runtime}"\ntasks = ["heat map"]\ntime_limit_s = 10\nmemory_mib = 10\n{more}\n'
        f'[[inputs]]\nmodality = ["CT"]\n[[maps]]\nindex = 0\nlabel = "m"\n'
        f'quantity = {{value = "1", scheme = "99X", meaning = "m"}}\n'
        f'unit = {{value = "1", scheme = "UCUM", meaning = "no units"}}\n'
        f'[[schemes]]\ndesignator = "99X"\nname = "x"\norganization = "x"\n{files}\n[options]\n{options}\n'
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "0" * 64


def _rezip(
    content: bytes, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED
) -> bytes:
    """A PyTorch archive with some of its members changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out.getvalue()


def _saved(thing: Any) -> bytes:
    out = io.BytesIO()
    torch.save(thing, out)
    return out.getvalue()


def _weights(here: Path, content: bytes, ending: str = ".pt") -> None:
    (here / f"model{ending}").write_bytes(content)
    manifest(here, "state_dict", f"model{ending}", options=OPTIONS)


def _checkpoints() -> list[Callable[[Path, str], Any]]:
    def pickle_in_an_archive(here: Path, command: str) -> None:
        _weights(here, _saved({"state_dict": WEIGHTS, "more": _Payload(command)}))

    def pickle_in_place_of_the_shapes(here: Path, command: str) -> None:
        evil = pickle.dumps(_Payload(command), protocol=2)
        _weights(here, _rezip(_saved(WEIGHTS), lambda name, old: evil if name.endswith("data.pkl") else old))

    def pickle_of_the_old_format(here: Path, command: str) -> None:
        out = io.BytesIO()
        torch.save({"weight": _Payload(command)}, out, _use_new_zipfile_serialization=False)
        _weights(here, out.getvalue())

    def plain_pickle(here: Path, command: str) -> None:
        _weights(here, pickle.dumps(_Payload(command)), ".pth")

    def whole_module(here: Path, command: str) -> None:
        _weights(here, _saved(torch.nn.Conv3d(1, 4, 3)))

    def torchscript_as_weights(here: Path, command: str) -> None:
        _weights(here, _torchscript())

    def packed_checkpoint(here: Path, command: str) -> None:
        bomb = _saved({"weight": torch.zeros(16 << 20)})  # 64 MiB, of which 64 KiB are left
        _weights(here, _rezip(bomb, lambda name, old: old, zipfile.ZIP_DEFLATED))

    def overlapping_members(here: Path, command: str) -> None:
        _weights(here, _overlapping(_saved({"weight": torch.zeros(1 << 20)})))

    def more_elements_than_bytes(here: Path, command: str) -> None:
        _weights(here, _saved({"weight": torch.zeros(1).expand(1 << 40)}))

    def storage_beyond_its_record(here: Path, command: str) -> None:
        def longer(name: str, old: bytes) -> bytes:
            return old.replace(b"K\x04tq", b"M\x00\x10tq").replace(b"K\x04\x85", b"M\x00\x10\x85")

        _weights(here, _rezip(_saved({"weight": torch.arange(4.0)}), longer))

    def cut_off_checkpoint(here: Path, command: str) -> None:
        _weights(here, _saved(WEIGHTS)[:-200])

    def empty_checkpoint(here: Path, command: str) -> None:
        _weights(here, b"")

    def names_without_end(here: Path, command: str) -> None:
        many = b"\x80\x02" + b"]" * 5_000_000 + b"."
        _weights(here, _rezip(_saved(WEIGHTS), lambda name, old: many if name.endswith("data.pkl") else old))

    return [
        pickle_in_an_archive, pickle_in_place_of_the_shapes, pickle_of_the_old_format, plain_pickle,
        whole_module, torchscript_as_weights, packed_checkpoint, overlapping_members,
        more_elements_than_bytes, storage_beyond_its_record, cut_off_checkpoint, empty_checkpoint,
        names_without_end,
    ]  # fmt: skip


def _overlapping(content: bytes) -> bytes:
    """An archive whose directory names its largest member two hundred times under other names."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        large = max(archive.infolist(), key=lambda one: one.file_size)
        out = io.BytesIO(content)
        with zipfile.ZipFile(out, "a", zipfile.ZIP_STORED) as more:
            for number in range(200):
                again = zipfile.ZipInfo(large.filename.replace("data/0", f"data/x{number}"))
                again.file_size = again.compress_size = large.file_size
                again.header_offset, again.CRC = large.header_offset, large.CRC
                more.filelist.append(again)
                more.NameToInfo[again.filename] = again
            more._didModify = True
    return out.getvalue()


def _torchscript() -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.Conv3d(1, 1, 1).eval(), torch.rand(1, 1, 4, 4, 4)), out)
    return out.getvalue()


def _safetensors() -> list[Callable[[Path, str], Any]]:
    def put(here: Path, header: bytes, size: int | None = None, data: bytes = b"") -> None:
        _weights(
            here, struct.pack("<Q", len(header) if size is None else size) + header + data, ".safetensors"
        )

    def tensor(shape: list[int], ends: list[int]) -> bytes:
        return json.dumps({"weight": {"dtype": "F32", "shape": shape, "data_offsets": ends}}).encode()

    def header_of_eight_exabytes(here: Path, command: str) -> None:
        put(here, b"{}", (1 << 63) - 1)

    def header_longer_than_the_file(here: Path, command: str) -> None:
        put(here, b"{}" + b" " * 100, 90_000_000)

    def header_of_brackets(here: Path, command: str) -> None:
        put(here, b"[" * 5_000_000)

    def header_that_is_a_list(here: Path, command: str) -> None:
        put(here, b"[]")

    def shape_beyond_all_memory(here: Path, command: str) -> None:
        put(here, tensor([1 << 40, 1 << 40], [0, 16]), data=bytes(16))

    def offsets_outside_the_file(here: Path, command: str) -> None:
        put(here, tensor([1 << 30], [0, 4 << 30]), data=bytes(16))

    def cut_off_safetensors(here: Path, command: str) -> None:
        put(here, tensor([64], [0, 256]), data=bytes(100))

    return [
        header_of_eight_exabytes, header_longer_than_the_file, header_of_brackets, header_that_is_a_list,
        shape_beyond_all_memory, offsets_outside_the_file, cut_off_safetensors,
    ]  # fmt: skip


def _graph(nodes: list[Any], initializers: list[Any] = (), domains: tuple[str, ...] = ()) -> Any:
    taken = onnx.helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, None, None, None])
    given = onnx.helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph(nodes, "g", [taken], [given], list(initializers))
    opsets = [onnx.helper.make_opsetid(domain, 1 if domain else 17) for domain in ("", *domains)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _outside(location: str, name: str = "w") -> Any:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def _onnx() -> list[Callable[[Path, str], Any]]:
    node = onnx.helper.make_node

    def put(here: Path, model: Any) -> None:
        content = model if isinstance(model, bytes) else model.SerializeToString()
        (here / "model.onnx").write_bytes(content)
        manifest(here, "onnx", "model.onnx")

    def weights_at(here: Path, location: str) -> None:
        put(here, _graph([node("Add", ["image", "w"], ["answer"])], [_outside(location)]))

    def external_data_absolute(here: Path, command: str) -> None:
        weights_at(here, "/etc/passwd")

    def external_data_above(here: Path, command: str) -> None:
        (here.parent / "secret.bin").write_bytes(bytes(16))
        weights_at(here, "../secret.bin")

    def external_data_beside(here: Path, command: str) -> None:
        (here / "weights.bin").write_bytes(bytes(16))
        weights_at(here, "weights.bin")

    def external_data_by_a_link(here: Path, command: str) -> None:
        (here / "weights.bin").symlink_to("/etc/passwd")
        weights_at(here, "weights.bin")

    def external_data_in_a_constant(here: Path, command: str) -> None:
        constant = node("Constant", [], ["w"], value=_outside("/etc/passwd"))
        put(here, _graph([constant, node("Add", ["image", "w"], ["answer"])]))

    def external_data_in_a_branch(here: Path, command: str) -> None:
        inner = node("Constant", [], ["x"], value=_outside("/etc/passwd", "x"))
        branch = onnx.helper.make_graph(
            [inner], "b", [], [onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])]
        )
        yes = node("Constant", [], ["yes"], value=onnx.helper.make_tensor("y", TensorProto.BOOL, [], [True]))
        put(here, _graph([yes, node("If", ["yes"], ["answer"], then_branch=branch, else_branch=branch)]))

    def external_data_in_a_function(here: Path, command: str) -> None:
        inner = node("Constant", [], ["x"], value=_outside("/etc/passwd", "x"))
        model = _graph([node("Mine", ["image"], ["answer"], domain="mine")], domains=("mine",))
        model.functions.append(
            onnx.helper.make_function(
                "mine", "Mine", ["a"], ["x"], [inner], [onnx.helper.make_opsetid("", 17)]
            )
        )
        put(here, model)

    def external_data_in_a_sparse_tensor(here: Path, command: str) -> None:
        model = _graph([node("Identity", ["image"], ["answer"])])
        model.graph.sparse_initializer.add().values.CopyFrom(_outside("/etc/passwd"))
        put(here, model)

    def external_data_under_another_number(here: Path, command: str) -> None:
        tensor = _outside("README.md")  # ONNX Runtime looks for it where the process works.
        entry = tensor.external_data[0].SerializeToString()
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        hidden = _hidden_key(13, 2) + _length(entry) + entry + _hidden_key(14, 0) + b"\x01"
        weight = tensor.SerializeToString() + hidden
        graph = _graph([node("Max", ["image", "w"], ["answer"])])
        inner = graph.graph.SerializeToString() + b"\x2a" + _length(weight) + weight  # GraphProto.initializer
        graph.ClearField("graph")
        put(here, graph.SerializeToString() + b"\x3a" + _length(inner) + inner)  # ModelProto.graph

    def operators_of_a_library(here: Path, command: str) -> None:
        put(here, _graph([node("Shell", ["image"], ["answer"], domain="evil")], domains=("evil",)))

    def program_for_another_engine(here: Path, command: str) -> None:
        context = node("EPContext", ["image"], ["answer"], domain="com.microsoft", embed_mode=0,
                       ep_cache_context="/etc/passwd")  # fmt: skip
        put(here, _graph([context], domains=("com.microsoft",)))

    def python_operator(here: Path, command: str) -> None:
        call = node("PyOp", ["image"], ["answer"], domain="com.microsoft", module="os", class_name="system")
        put(here, _graph([call], domains=("com.microsoft",)))

    def cut_off_onnx(here: Path, command: str) -> None:
        weight = onnx.numpy_helper.from_array(np.zeros(1000, np.float32), "w")
        put(here, _graph([node("Add", ["image", "w"], ["answer"])], [weight]).SerializeToString()[:-1500])

    def lengths_beyond_the_file(here: Path, command: str) -> None:
        put(here, b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + b"x" * 64)

    def graphs_within_graphs(here: Path, command: str) -> None:
        inner = b""
        for _ in range(2000):
            attribute = b"\x32" + _length(inner) + inner  # AttributeProto.g
            within = b"\x2a" + _length(attribute) + attribute  # NodeProto.attribute
            inner = b"\x0a" + _length(within) + within  # GraphProto.node
        put(here, b"\x42\x02\x10\x11\x3a" + _length(inner) + inner)

    def weight_that_claims_a_terabyte(here: Path, command: str) -> None:
        weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 38], raw_data=bytes(16))
        put(here, _graph([node("Add", ["image", "w"], ["answer"])], [weight]))

    def no_onnx_at_all(here: Path, command: str) -> None:
        put(here, pickle.dumps(_Payload(command)))

    return [
        external_data_absolute, external_data_above, external_data_beside, external_data_by_a_link,
        external_data_in_a_constant, external_data_in_a_branch, external_data_in_a_function,
        external_data_in_a_sparse_tensor, external_data_under_another_number,
        operators_of_a_library, program_for_another_engine, python_operator,
        cut_off_onnx, lengths_beyond_the_file, graphs_within_graphs, weight_that_claims_a_terabyte,
        no_onnx_at_all,
    ]  # fmt: skip


def _nnunet() -> list[Callable[[Path, str], Any]]:
    def put(here: Path, trainer: str = "nnUNetTrainer", **architecture: Any) -> None:
        configuration = {
            "patch_size": [16, 16, 16],
            "spacing": [1, 1, 1],
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
            "previous_stage": "3d_lowres",  # A cascade is for nnU-Net's own package.
            "architecture": {"_kw_requires_import": [], "arch_kwargs": {}} | architecture,
        }
        plans = {"configurations": {"3d_fullres": configuration}, "transpose_forward": [0, 1, 2]}
        dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}
        (here / "plans.json").write_text(json.dumps(plans))
        (here / "dataset.json").write_text(json.dumps(dataset))
        (here / "fold_0").mkdir()
        fold = {"network_weights": WEIGHTS, "init_args": {"configuration": "3d_fullres"}}
        torch.save(fold | {"trainer_name": trainer}, here / "fold_0/checkpoint_final.pth")
        manifest(here, "nnunet", "plans.json", "dataset.json", "fold_0/checkpoint_final.pth")

    def nnunet_whose_network_is_a_program(here: Path, command: str) -> None:
        (here / "hubconf.py").write_text(f"import os\nos.system({command!r})\n")
        arguments = {"repo_or_dir": str(here), "model": "net", "source": "local", "trust_repo": True}
        put(here, network_class_name="torch.hub.load", arch_kwargs=arguments)

    def nnunet_whose_layer_is_a_program(here: Path, command: str) -> None:
        put(
            here,
            trainer="nnUNetTrainerBN",
            network_class_name="dynamic_network_architectures.architectures.unet.PlainConvUNet",
            arch_kwargs={"conv_op": "os.system", "nonlin_first": True},
            _kw_requires_import=["conv_op"],
        )

    return [nnunet_whose_network_is_a_program, nnunet_whose_layer_is_a_program]


def _hidden_key(number: int, kind: int) -> bytes:
    """A key that is `number` to readers of protobuf, which keep 32 bits of it, and more to others."""
    return _varint(number << 3 | kind | 1 << 32)


def _length(content: bytes) -> bytes:
    return _varint(len(content))


def _varint(size: int) -> bytes:
    out = b""
    while size > 0x7F:
        out += bytes([size & 0x7F | 0x80])
        size >>= 7
    return out + bytes([size])


def _folders() -> list[Callable[[Path, str], Any]]:
    def good(here: Path, name: str = "model.safetensors") -> Path:
        from safetensors.torch import save_file

        path = here / name
        path.parent.mkdir(exist_ok=True)
        save_file(WEIGHTS, path)
        return path

    def weights_that_are_a_link(here: Path, command: str) -> None:
        elsewhere = here.parent / "elsewhere.safetensors"
        good(here).rename(elsewhere)
        (here / "model.safetensors").symlink_to(elsewhere)
        manifest(here, "state_dict", "model.safetensors", options=OPTIONS)

    def weights_with_two_names(here: Path, command: str) -> None:
        os.link(good(here), here.parent / "second_name.safetensors")
        manifest(here, "state_dict", "model.safetensors", options=OPTIONS)

    def folder_that_is_a_link(here: Path, command: str) -> None:
        good(here, "weights/model.safetensors")
        (here / "weights").rename(here.parent / "elsewhere_folder")
        (here / "weights").symlink_to(here.parent / "elsewhere_folder")
        manifest(here, "state_dict", "weights/model.safetensors", options=OPTIONS)

    def weights_that_are_a_pipe(here: Path, command: str) -> None:
        os.mkfifo(here / "model.safetensors")
        manifest(here, "state_dict", "model.safetensors", options=OPTIONS)

    def weights_exchanged_after_signing(here: Path, command: str) -> None:
        path = good(here)
        manifest(here, "state_dict", "model.safetensors", options=OPTIONS)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

    def path_that_climbs_out(here: Path, command: str) -> None:
        manifest(here, "state_dict", "../../etc/passwd", options=OPTIONS)

    def path_that_is_absolute(here: Path, command: str) -> None:
        manifest(here, "state_dict", "/etc/passwd", options=OPTIONS)

    def file_that_no_manifest_names(here: Path, command: str) -> None:
        good(here)
        manifest(here, "state_dict", options='file = "model.safetensors"\n' + OPTIONS)

    return [
        weights_that_are_a_link, weights_with_two_names, folder_that_is_a_link, weights_that_are_a_pipe,
        weights_exchanged_after_signing, path_that_climbs_out, path_that_is_absolute,
        file_that_no_manifest_names,
    ]  # fmt: skip


def _code() -> list[Callable[[Path, str], Any]]:
    def put(here: Path, runtime: str, name: str, content: bytes, **more: str) -> None:
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        manifest(here, runtime, name, **more)

    def unsigned_exported_program(here: Path, command: str) -> None:
        put(here, "torch_export", "model.pt2", _saved(WEIGHTS))

    def unsigned_torchscript(here: Path, command: str) -> None:
        put(here, "torchscript", "model.ts", _torchscript())

    def unsigned_python(here: Path, command: str) -> None:
        put(here, "python", "model.py", f"import os\nos.system({command!r})\n".encode(), more='entry = "M"')

    def unsigned_bundle(here: Path, command: str) -> None:
        config = {"network_def": f"$__import__('os').system({command!r})", "x": {"_target_": "os.getcwd"}}
        put(here, "monai_bundle", "configs/inference.json", json.dumps(config).encode())

    def unsigned_container(here: Path, command: str) -> None:
        put(here, "container", "app.json", b"{}", options='image = "evil"')

    def trusted_export_of_a_pickle(here: Path, command: str) -> bool:
        put(here, "torch_export", "model.pt2", _saved({"weight": _Payload(command)}))
        return True

    def trusted_export_that_is_packed(here: Path, command: str) -> bool:
        packed = _rezip(
            _saved({"weight": torch.zeros(16 << 20)}), lambda name, old: old, zipfile.ZIP_DEFLATED
        )
        put(here, "torch_export", "model.pt2", packed)
        return True

    def trusted_torchscript_that_is_packed(here: Path, command: str) -> bool:
        def bomb(name: str, old: bytes) -> bytes:
            return old + b"#" * (80 << 20) if name.endswith(".py") else old

        put(here, "torchscript", "model.ts", _rezip(_torchscript(), bomb, zipfile.ZIP_DEFLATED))
        return True

    def trusted_torchscript_of_a_pickle(here: Path, command: str) -> bool:
        evil = pickle.dumps(_Payload(command), protocol=2)
        put(here, "torchscript", "model.ts",
            _rezip(_torchscript(), lambda name, old: evil if name.endswith("data.pkl") else old))  # fmt: skip
        return True

    return [
        unsigned_exported_program, unsigned_torchscript, unsigned_python, unsigned_bundle, unsigned_container,
        trusted_export_of_a_pickle, trusted_export_that_is_packed, trusted_torchscript_that_is_packed,
        trusted_torchscript_of_a_pickle,
    ]  # fmt: skip


def _manifests() -> list[Callable[[Path, str], Any]]:
    def yaml_that_calls(here: Path, command: str) -> None:
        (here / "manifest.yaml").write_text(f"name: !!python/object/apply:os.system [{command!r}]\n")

    def yaml_of_a_billion_laughs(here: Path, command: str) -> None:
        lines = ["options:", '  a0: &a0 ["lol"]']
        lines += [f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
        (here / "manifest.yaml").write_text("\n".join(lines) + "\nname: *a19\nlimits: *a19\n")

    def yaml_that_merges_without_end(here: Path, command: str) -> None:
        lines = ["a0: &a0 {k: 1}"]
        lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 9)]
        (here / "manifest.yaml").write_text("\n".join(lines))

    def bundle_of_yaml_that_merges_without_end(here: Path, command: str) -> None:
        lines = ["network_def: &a0 {k: 1}"]
        lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 9)]
        (here / "configs").mkdir()
        (here / "configs/inference.yaml").write_text("\n".join(lines))
        manifest(here, "monai_bundle", "configs/inference.yaml")

    def yaml_without_end(here: Path, command: str) -> None:
        (here / "manifest.yaml").write_text("[" * 50_000)

    def toml_without_end(here: Path, command: str) -> None:
        (here / "manifest.toml").write_text("x = " + "[" * 50_000)

    def manifest_of_many_megabytes(here: Path, command: str) -> None:
        (here / "manifest.toml").write_text("# " + "x" * (64 << 20))

    def manifest_that_is_no_text(here: Path, command: str) -> None:
        (here / "manifest.toml").write_bytes(os.urandom(4096))

    return [
        yaml_that_calls, yaml_of_a_billion_laughs, yaml_that_merges_without_end,
        bundle_of_yaml_that_merges_without_end, yaml_without_end, toml_without_end,
        manifest_of_many_megabytes, manifest_that_is_no_text,
    ]  # fmt: skip


def _arguments() -> list[Callable[[Path, str], Any]]:
    def put(here: Path, options: str) -> None:
        (here / "model.pt").write_bytes(_saved(WEIGHTS))
        manifest(here, "state_dict", "model.pt", options=options)

    def architecture_that_is_a_program(here: Path, command: str) -> None:
        put(here, 'architecture = "os.system"\n')

    def architecture_of_any_module(here: Path, command: str) -> None:
        put(here, 'architecture = "torch.load"\n')

    def argument_that_is_a_file(here: Path, command: str) -> None:
        put(here, 'architecture = "resnet10"\narguments = { pretrained = "/etc/passwd" }\n')

    def argument_that_fetches(here: Path, command: str) -> None:
        put(here, 'architecture = "EfficientNetBN"\n[options.arguments]\npretrained = true\n')

    def network_of_a_terabyte(here: Path, command: str) -> None:
        put(here, OPTIONS.replace("[4, 8]", "[16000, 16000]"))

    def layers_without_end(here: Path, command: str) -> None:
        put(here, OPTIONS.replace("[4, 8]", str([4] * 5000)))

    def integers_without_end(here: Path, command: str) -> None:
        put(here, OPTIONS.replace("[4, 8]", "[9223372036854775807, 8]"))

    return [
        architecture_that_is_a_program, architecture_of_any_module, argument_that_is_a_file,
        argument_that_fetches, network_of_a_terabyte, layers_without_end, integers_without_end,
    ]  # fmt: skip
