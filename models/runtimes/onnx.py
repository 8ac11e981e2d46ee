"""
A network in an ONNX file, run by ONNX Runtime on the CPU or an NVIDIA GPU.

The file is walked before it is opened (see `onnx_scan`), and opened from the bytes that were verified: it is
given no path, so there is nothing beside which it could look for more.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.utils.dlpack
from pydantic import model_validator
from torch import Tensor

from ledger.errors import SiteError
from models.contract import BrokenModel
from models.manifest import Manifest
from models.package import Package
from models.runtimes.onnx_scan import Unsafe, scan
from models.runtimes.proposals import proposal
from models.runtimes.tensors.model import Forward, TensorModel
from models.runtimes.tensors.options import TensorOptions, understood

_LARGEST_BYTES = 2 << 30  # Protocol buffers hold no more.
_TYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
    "tensor(uint8)": torch.uint8,
    "tensor(int16)": torch.int16,
    "tensor(int32)": torch.int32,
    "tensor(int64)": torch.int64,
}


class OnnxOptions(TensorOptions):
    """What only ONNX Runtime understands."""

    input: str = ""  #: what its one input has to be called; empty: anything
    gpu_memory_mib: int = 0  #: what it may take of a GPU; 0: as it likes
    cpu: bool = False  #: on the CPU even where there is a GPU

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.autocast:
            raise ValueError("autocast means nothing to ONNX Runtime: export the network in half precision")
        return self


class OnnxRuntimeMissing(SiteError):
    """ONNX Runtime is not installed, or not for this device."""


class Onnx(TensorModel):
    """Implements `models.contract.Model`."""

    endings: ClassVar[tuple[str, ...]] = (".onnx",)
    # Outputs lie in tensors that ONNX Runtime fills.
    _inference_mode: ClassVar[bool] = False

    def _understood(self) -> OnnxOptions:
        return understood(self.manifest, OnnxOptions)

    def load(self, device: str) -> None:
        """Raises `BrokenModel` and `OnnxRuntimeMissing`."""
        options = self.options
        assert isinstance(options, OnnxOptions)
        super().load("cpu" if options.cpu else device)

    def _opened(self, device: torch.device) -> Forward:
        options = self.options
        assert isinstance(options, OnnxOptions)
        session = _session(self.package, self._file(), device, options)
        return _forward(session, _input(session, self.manifest, options.input), device)


def _session(package: Package, path: str, device: torch.device, options: TensorOptions) -> Any:
    """An `onnxruntime.InferenceSession` of a file that was looked at."""
    try:
        import onnxruntime  # noqa: PLC0415
    except ImportError as missing:
        raise OnnxRuntimeMissing(
            f"model {package.manifest.identity} is an ONNX file, and ONNX Runtime is not installed: "
            f"pip install wetread[onnx]"
        ) from missing
    content = package.read(path, at_most=_LARGEST_BYTES)
    try:
        scan(content)
    except Unsafe as unsafe:
        raise BrokenModel(f"model {package.manifest.identity}: {path} {unsafe}") from unsafe
    asked = onnxruntime.SessionOptions()
    asked.intra_op_num_threads = torch.get_num_threads()  # The site limits both in one place.
    asked.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            content, asked, providers=_providers(package.manifest, device, options, onnxruntime)
        )
    except OnnxRuntimeMissing:
        raise
    except (
        Exception
    ) as error:  # ONNX Runtime has a class for each complaint, and all of them are about the file.
        text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise BrokenModel(
            f"model {package.manifest.identity}: ONNX Runtime {onnxruntime.__version__} cannot open "
            f"{path}: {text}"
        ) from error


def _providers(
    manifest: Manifest, device: torch.device, options: TensorOptions, onnxruntime: Any
) -> list[Any]:
    if device.type != "cuda":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise OnnxRuntimeMissing(
            f"model {manifest.identity} shall run on {device}, and the ONNX Runtime that is "
            "installed knows no GPU: "
            f"put onnxruntime-gpu in the place of onnxruntime, or say cpu = true in the model's [options]"
        )
    cuda: dict[str, Any] = {"device_id": device.index or 0, "arena_extend_strategy": "kSameAsRequested"}
    limit_mib = options.gpu_memory_mib if isinstance(options, OnnxOptions) else 0
    if limit_mib:
        cuda["gpu_mem_limit"] = limit_mib << 20
    return [("CUDAExecutionProvider", cuda), "CPUExecutionProvider"]


def _input(session: Any, manifest: Manifest, name: str) -> Any:
    """The one input that takes the image. Raises `BrokenModel`."""
    inputs = session.get_inputs()
    fitting = [one for one in inputs if not name or one.name == name]
    if len(fitting) != 1 or len(inputs) != 1:
        raise BrokenModel(
            f"model {manifest.identity}: a network takes one tensor{f', {name!r}' if name else ''}, and this "
            f"one takes {', '.join(one.name for one in inputs) or 'none'}"
        )
    (one,) = fitting
    if one.type not in _TYPES:
        raise BrokenModel(f"model {manifest.identity}: its input {one.name} is a {one.type}, and no image is")
    axes = 2 if manifest.given == "image" or manifest.options.get("slice_by_slice") else 3
    if one.shape and len(one.shape) != axes + 2:
        raise BrokenModel(
            f"model {manifest.identity}: its input {one.name} has {len(one.shape)} axes "
            f"{tuple(one.shape)}, and "
            f"what it is given has {axes + 2}: n, channels and {axes} of the image"
        )
    return one


def _forward(session: Any, taken: Any, device: torch.device) -> Forward:
    names = [one.name for one in session.get_outputs()]
    dtype = _TYPES[taken.type]

    def on_cpu(images: Tensor) -> Mapping[str, Tensor]:
        given = session.run(names, {taken.name: np.ascontiguousarray(images.to(dtype).numpy())})
        return {name: torch.from_numpy(np.asarray(one)) for name, one in zip(names, given, strict=True)}

    def bound(images: Tensor) -> Mapping[str, Tensor]:
        # The image is on the GPU and what comes out stays there: nothing crosses the bus.
        images = images.to(dtype).contiguous()
        binding = session.io_binding()
        element = np.dtype(str(dtype).removeprefix("torch."))
        binding.bind_input(
            taken.name, "cuda", device.index or 0, element, tuple(images.shape), images.data_ptr()
        )
        for name in names:
            binding.bind_output(name, "cuda", device.index or 0)
        torch.cuda.current_stream(device).synchronize()
        session.run_with_iobinding(binding)
        # What is bound is ONNX Runtime's memory, and it may be used again: a copy on the GPU costs little.
        return {
            name: torch.utils.dlpack.from_dlpack(one).clone()
            for name, one in zip(names, binding.get_outputs(), strict=True)
        }

    one_by_one = isinstance(taken.shape[0], int) if taken.shape else False
    run = bound if device.type == "cuda" else on_cpu
    return _in_groups(run, taken.shape[0]) if one_by_one else run


def _in_groups(run: Forward, many: int) -> Forward:
    """A network that was exported for `many` images at a time, fed with so many; the last ones are
    repeated.
    """

    def grouped(images: Tensor) -> Mapping[str, Tensor]:
        if len(images) == many:
            return run(images)
        answers = []
        for first in range(0, len(images), many):
            group = images[first : first + many]
            short = many - len(group)
            full = torch.cat([group, group[-1:].expand(short, *group.shape[1:])]) if short else group
            answers.append({name: one[: len(group)] for name, one in run(full).items()})
        return {name: torch.cat([one[name] for one in answers]) for name in answers[0]}

    return grouped


def propose(folder: Path) -> dict[str, Any]:
    """What the ONNX file in `folder` says of itself: inputs, outputs, their shapes, its metadata."""
    files = sorted(path for path in folder.rglob("*.onnx") if path.is_file() and not path.is_symlink())
    missing = ["Say in [options.prepare] what the network expects: orientation, spacing, intensity."]
    if len(files) != 1:
        return proposal("onnx", folder, Onnx.endings, missing=missing)
    content = files[0].read_bytes()
    try:
        scan(content)
    except Unsafe as unsafe:
        return proposal("onnx", folder, Onnx.endings, missing=[f"{files[0].name} {unsafe}."])
    try:
        import onnxruntime  # noqa: PLC0415
    except ImportError:
        missing.append("Its inputs and outputs are not read: pip install wetread[onnx].")
        return proposal("onnx", folder, Onnx.endings, missing=missing)
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(content, quiet, providers=["CPUExecutionProvider"])
    except Exception as error:  # As above: the file is to blame, and the sentence says so.
        return proposal("onnx", folder, Onnx.endings, missing=[f"ONNX Runtime cannot open it: {error}"[:300]])
    for one, what in itertools.chain(
        ((one, "takes") for one in session.get_inputs()), ((one, "gives") for one in session.get_outputs())
    ):
        missing.append(f"It {what} {one.name}: {one.type} {one.shape}.")
    for key, value in sorted(session.get_modelmeta().custom_metadata_map.items())[:20]:
        missing.append(f"Its metadata say {key} = {value[:200]!r}.")
    options: dict[str, Any] = {}
    shape = session.get_inputs()[0].shape if session.get_inputs() else []
    spatial = shape[2:]
    if spatial and all(isinstance(side, int) for side in spatial):
        options["window" if len(spatial) == 3 else "prepare"] = {"size": list(spatial)}
    return proposal(
        "onnx", folder, Onnx.endings, options=options, missing=missing,
        given="image" if len(spatial) == 2 else None,
    )  # fmt: skip
