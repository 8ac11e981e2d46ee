from dataclasses import replace

import pytest
import torch
from monai.visualize import GradCAM
from torch import Tensor, nn

from models.contract import BrokenModel
from models.explain.grad_cam import grad_cam
from models.explain.layers import fitting_layer
from models.prepare.ladder import Plan
from tests.models.explain.subjects import of_classifier, of_segmenter


def monais(module: nn.Module, given: Tensor, layer: str, channel: int) -> Tensor:
    cam = GradCAM(nn_module=module, target_layers=layer, postprocessing=lambda x: x)
    return cam(given[None], class_idx=channel)[0, 0].detach()


def close(ours: Tensor, theirs: Tensor) -> bool:
    return bool(torch.allclose(ours, theirs, rtol=1e-3, atol=1e-6 + 1e-4 * float(theirs.abs().max())))


@pytest.mark.parametrize(("axes", "channel"), [(2, 1), (2, 2), (3, 2)])
def test_a_classifiers_map_is_monais(axes: int, channel: int) -> None:
    subject = of_classifier(axes)
    layer = "features.denseblock2"

    ours = grad_cam(subject, channel, layer)

    theirs = monais(subject.module, subject.given, layer, channel)
    assert ours.shape == subject.given.shape[1:]
    assert close(ours, theirs)
    assert float(ours.max()) > 0


def test_a_segmenters_map_is_that_of_the_sum_over_what_it_draws() -> None:
    subject = of_segmenter()
    with torch.no_grad():
        drawn = subject.network(subject.given[None]).argmax(1) == 1

    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = subject.module

        def forward(self, x: Tensor) -> Tensor:
            return (self.net(x) * drawn[:, None]).flatten(2).sum(2)

    layer = "model.1.submodule.0"
    theirs = monais(Summed().eval(), subject.given, f"net.{layer}", 1)

    assert drawn.any()
    assert close(grad_cam(subject, 1, layer), theirs)


def test_a_large_volume_is_explained_window_by_window() -> None:
    subject = of_segmenter(window=(16, 16, 16), plan=Plan(batch=3))

    saliency = grad_cam(subject, 1)

    assert saliency.shape == subject.given.shape[1:]
    assert torch.isfinite(saliency).all()
    assert float(saliency.max()) > 0


def test_windows_are_explained_as_each_would_be_alone() -> None:
    whole = of_segmenter()
    alone = grad_cam(whole, 1)
    windowed = of_segmenter(window=(24, 16, 20))

    assert close(grad_cam(windowed, 1), alone)


def test_the_last_convolution_that_knows_places_is_looked_into() -> None:
    subject = of_classifier()

    layer = fitting_layer(subject.module, subject.network, subject.given[None], dense=False)

    assert layer == "features.denseblock2.denselayer2.layers.conv2"
    assert torch.equal(grad_cam(subject, 1), grad_cam(subject, 1, layer))


def test_of_a_segmenter_it_is_the_one_with_the_widest_view() -> None:
    subject = of_segmenter()

    layer = fitting_layer(subject.module, subject.network, subject.given[None], dense=True)

    assert layer.startswith("model.1.submodule.1.submodule")  # the bottom of the U


def test_activations_that_work_in_place_spoil_nothing() -> None:
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    subject = of_classifier(2, network=module, module=module)

    with torch.no_grad():
        seen = module[0](subject.given[None])
        slopes = (module[4].weight[1] / seen[0, 0].numel())[:, None, None] * (seen[0] > 0)
        weights = slopes.mean((1, 2), keepdim=True)
        expected = (weights * seen[0]).sum(0).relu()

    assert close(grad_cam(subject, 1, "0"), expected)


def test_an_exported_network_is_looked_into_step_by_step() -> None:
    subject = of_classifier(2)
    exported = torch.export.export(subject.module, (subject.given[None],)).module()
    other = of_classifier(2, network=exported, module=exported)

    assert close(grad_cam(other, 1), grad_cam(subject, 1))


def test_it_works_on_what_was_prepared_for_inference_only() -> None:
    plain = of_classifier()
    with torch.inference_mode():
        subject = replace(plain, given=plain.given * 1)
        saliency = grad_cam(subject, 1)

    assert torch.equal(saliency, grad_cam(plain, 1))


@pytest.mark.parametrize("layer", ["features.nowhere", "features.transition1.pool.deeper"])
def test_a_layer_that_there_is_not_is_said(layer: str) -> None:
    with pytest.raises(BrokenModel, match="no layer"):
        grad_cam(of_classifier(), 0, layer)


def test_a_network_that_cannot_be_looked_into_is_said() -> None:
    with pytest.raises(BrokenModel, match="occlusion"):
        grad_cam(of_classifier(module=None), 0)


def test_a_network_without_convolutions_is_said() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(40 * 48, 2))
    flat = of_classifier(2, network=module, module=module)
    with pytest.raises(BrokenModel, match="no convolution"):
        grad_cam(flat, 0)
