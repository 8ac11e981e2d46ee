"""
Grad-CAM: which places of a layer raised a score, weighted by how much each of its channels did.

Selvaraju et al., Grad-CAM, ICCV 2017; for networks that answer for every voxel the score is the sum of the
class's logits over what was drawn (Vinogradova et al., Seg-Grad-CAM, AAAI 2020), window by window. Equal to
`monai.visualize.GradCAM` before its scaling.
"""

import torch
from torch import Tensor
from torch.nn import functional

from models.contract import BrokenModel
from models.explain.layers import Look, fitting_layer, look_into
from models.explain.subject import Explainable
from models.prepare.tiling import Tiling, monai_starts
from models.prepare.windows import predict

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def grad_cam(subject: Explainable, channel: int, layer: str = "") -> Tensor:
    """How much each voxel of `subject.given` raised the score of `channel`: (…), 0 and above, of no unit.

    Raises `BrokenModel` where the network cannot be looked into.
    """
    if subject.module is None:
        raise BrokenModel('this network gives no gradients: ask for explain = "occlusion"')
    # Of inference tensors no gradients can be had; a copy is none.
    with torch.inference_mode(False):
        given = subject.given.clone()
        name = layer or fitting_layer(
            subject.module, subject.network, _sample(subject, given), dense=subject.dense
        )
        look = look_into(subject.module, name, subject.network)

        def cams(windows: Tensor) -> Tensor:
            return _cams(subject, look, channel, windows)

        if subject.dense and subject.window:
            return predict(cams, given, window=subject.window, reduce="logits", plan=subject.plan)[0]
        return cams(given[None])[0, 0]


def _cams(subject: Explainable, look: Look, channel: int, windows: Tensor) -> Tensor:
    """(n, C, …) → (n, 1, …)."""
    with torch.enable_grad():
        logits, given = look(windows)
        score = logits[:, channel]
        if subject.dense:
            score = score * subject.drawn(logits.detach(), channel)
        (slopes,) = torch.autograd.grad(score.sum(), given)
    with torch.no_grad():
        places = tuple(range(2, given.ndim))
        weights = slopes.float().mean(places, keepdim=True)
        cam = (weights * given.detach().float()).sum(1, keepdim=True).relu_()
        axes = cam.ndim - 2  # A network of two axes sees slices: windows with one plane.
        size = windows.shape[-axes:]
        cam = functional.interpolate(cam, size=size, mode=_MODES[axes], align_corners=False)
        return cam.reshape(len(windows), 1, *windows.shape[2:])


def _sample(subject: Explainable, given: Tensor) -> Tensor:
    """(1, C, …): what the network sees at once."""
    if not (subject.dense and subject.window):
        return given[None]
    tiling = Tiling.of(given.shape[1:], subject.window, 0.0, monai_starts)
    return given.new_zeros((1, given.shape[0], *tiling.window))
