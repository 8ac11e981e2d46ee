import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import SlidingWindowInferer
from torch import Tensor

from models.contract import BrokenModel, Memory
from models.prepare.ladder import OverLimit, Plan
from models.prepare.tiling import Padding, gaussian, nnunet_starts
from models.prepare.windows import predict
from tests.models.prepare.networks import Mix, smooth, unet

EXACT = [Plan(), Plan(streaming=False), Plan(batch=1), Plan(batch=7), Plan(sums_on="host")]


def monai_logits(network, volume: Tensor, window, plan: Plan, **options) -> Tensor:
    inferer = SlidingWindowInferer(
        window, plan.batch, plan.overlap, **{"mode": "gaussian", "sigma_scale": 0.125} | options
    )
    with torch.no_grad():
        logits: Tensor = inferer(volume[None], network)[0]
    return logits


def agreement(ours: Tensor, theirs: Tensor) -> float:
    return float((ours == theirs).float().mean())


@pytest.mark.parametrize("plan", EXACT, ids=str)
@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((40, 36, 30), (16, 16, 16)),  # nothing divides evenly
        ((12, 20, 56), (16, 16, 16)),  # smaller than the window along z, longest along x
        ((32, 16, 16), (16, 16, 16)),  # one window wide
        ((9, 10, 11), (16, 16, 16)),  # one window
    ],
)
def test_labels_are_monais(plan: Plan, shape, window) -> None:
    network, volume = unet(), smooth(1, *shape)

    labels = predict(network, volume, window=window, plan=plan)

    assert labels.dtype == torch.uint8
    assert agreement(labels, monai_logits(network, volume, window, plan).argmax(0)) == 1


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(*[st.integers(5, 28)] * 3),
    window=st.tuples(*[st.sampled_from([8, 12])] * 3),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.7]),
    mode=st.sampled_from(["gaussian", "constant"]),
    streaming=st.booleans(),
)
def test_mean_logits_are_monais_whatever_the_grid(shape, window, overlap, mode, streaming) -> None:
    network, volume = Mix(3), smooth(1, *shape)
    plan = Plan(batch=3, overlap=overlap, streaming=streaming)
    seen = []

    def remember(logits: Tensor) -> Tensor:
        seen.append(logits.shape)
        return logits

    theirs = monai_logits(network, volume, window, plan, mode=mode)
    for reduce in ("logits", remember):  # a function is given part after part, also of logits
        ours = predict(network, volume, window=window, reduce=reduce, plan=plan, importance=mode)
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert len(seen) >= 1


@pytest.mark.parametrize("plan", EXACT, ids=str)
def test_channels_above_their_thresholds_are_monais(plan: Plan) -> None:
    network, volume = unet(3), smooth(1, 40, 20, 24)
    levels = (0.3, 0.5, 0.61)

    drawn = predict(network, volume, window=(16, 16, 16), reduce="sigmoid", thresholds=levels, plan=plan)

    theirs = monai_logits(network, volume, (16, 16, 16), plan).sigmoid()
    expected = torch.stack([channel >= level for channel, level in zip(theirs, levels, strict=True)])
    assert drawn.dtype == torch.bool
    assert agreement(drawn, expected) > 0.99999
    assert 0.02 < expected.float().mean() < 0.98


@pytest.mark.parametrize("plan", EXACT, ids=str)
def test_probabilities_are_those_of_the_mean_logits(plan: Plan) -> None:
    network, volume = unet(3), smooth(2, 20, 24, 40)
    network = unet(3, channels=2)
    logits = monai_logits(network, volume, (16, 16, 16), plan)

    soft = predict(network, volume, window=(16, 16, 16), reduce="softmax", plan=plan)
    sure = predict(network, volume, window=(16, 16, 16), reduce="probabilities", plan=plan)

    assert torch.allclose(soft, logits.softmax(0), atol=1e-6)
    assert torch.allclose(sure, logits.sigmoid(), atol=1e-6)


def test_more_than_255_labels_keep_their_numbers() -> None:
    network, volume = Mix(300), smooth(1, 20, 16, 16)

    labels = predict(network, volume, window=(8, 8, 8))

    assert labels.dtype == torch.uint16
    assert agreement(labels.int(), monai_logits(network, volume, (8, 8, 8), Plan()).argmax(0).int()) > 0.9999
    assert int(labels.int().max()) > 255


def test_labels_up_to_255_fit_one_byte() -> None:
    assert predict(Mix(256), smooth(1, 8, 8, 8), window=(8, 8, 8)).dtype == torch.uint8


def test_half_precision_moves_hardly_a_voxel() -> None:
    network, volume = unet(), smooth(1, 40, 32, 32)
    single = predict(network, volume, window=(16, 16, 16))

    half = predict(network, volume, window=(16, 16, 16), plan=Plan(sums=torch.float16))

    assert agreement(half, single) > 0.998  # random weights: all logits are close to each other


def test_without_blending_each_voxel_is_the_most_central_windows() -> None:
    network, volume = unet(), smooth(1, 40, 32, 32)

    labels = predict(network, volume, window=(16, 16, 16), plan=Plan(blending=False))

    with torch.no_grad():
        alone = network(volume[None, :, 8:24, 8:24, 8:24])[0].argmax(0)
    middle = slice(12, 20)  # starts are 0, 8, 16, 24: halfway between the neighbours' middles
    assert torch.equal(labels[middle, middle, middle].long(), alone[4:12, 4:12, 4:12])


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
def test_padding_is_monais(mode) -> None:
    network, volume = unet(), smooth(1, 12, 20, 12)

    labels = predict(network, volume, window=(16, 16, 16), padding=Padding(mode, -3.0))

    value = {"cval": -3.0} if mode == "constant" else {}
    theirs = monai_logits(network, volume, (16, 16, 16), Plan(), padding_mode=mode, **value)
    assert agreement(labels, theirs.argmax(0)) == 1


@pytest.mark.parametrize("streaming", [True, False])
def test_other_places_and_weights_can_be_given(streaming: bool) -> None:
    network, volume, window = unet(), smooth(1, 38, 23, 16), (16, 16, 16)
    weights = gaussian(window) * 10
    sums, total = torch.zeros(5, 38, 23, 16), torch.zeros(38, 23, 16)
    for z in (0, 7, 15, 22):  # nnU-Net's for 38 and 23
        for y in (0, 7):
            part = (slice(z, z + 16), slice(y, y + 16))
            with torch.no_grad():
                sums[:, *part] += network(volume[None, :, *part])[0] * weights
            total[part] += weights

    labels = predict(
        network,
        volume,
        window=window,
        starts=nnunet_starts,
        importance=weights,
        plan=Plan(streaming=streaming),
    )

    assert torch.equal(labels.long(), (sums / total).argmax(0))


def test_a_flat_image_has_windows_too() -> None:
    network, image = unet(axes=2), smooth(1, 70, 50)

    labels = predict(network, image, window=(32, 32))

    assert agreement(labels, monai_logits(network, image, (32, 32), Plan()).argmax(0)) == 1


def test_regions_may_be_drawn_by_a_function_of_the_logits() -> None:
    network, volume = unet(3), smooth(1, 40, 20, 24)

    def regions(logits: Tensor) -> Tensor:  # later regions over earlier ones, as nnU-Net does
        drawn = torch.zeros(logits.shape[1:], dtype=torch.uint8)
        for number, channel in enumerate(logits, start=1):
            drawn[channel > 0] = number
        return drawn

    drawn = predict(network, volume, window=(16, 16, 16), reduce=regions)

    assert agreement(drawn, regions(monai_logits(network, volume, (16, 16, 16), Plan()))) > 0.99999


def test_what_streams_holds_a_slab_of_logits_only(monkeypatch) -> None:
    from models.prepare import slab

    made, zeros = [], torch.zeros

    def measured(shape, **options):
        made.append(tuple(shape))
        return zeros(shape, **options)

    monkeypatch.setattr(slab.torch, "zeros", measured)
    predict(Mix(11), smooth(1, 8, 40, 8), window=(8, 8, 8))

    assert [shape for shape in made if shape[0] == 11] == [(11, 8, 8, 8)]


def test_the_volume_is_left_as_it_was() -> None:
    volume = smooth(1, 20, 20, 20)
    before = volume.clone()

    predict(lambda windows: windows, volume, window=(8, 8, 8), reduce="sigmoid", plan=Plan(batch=1))

    assert torch.equal(volume, before)


def test_answers_can_be_changed_afterwards() -> None:
    labels = predict(Mix(2), smooth(1, 9, 9, 9), window=(8, 8, 8))

    labels += 1

    assert int(labels.min()) >= 1


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda windows: windows[..., ::2], "same size"),
        (lambda windows: (windows, windows), "tuple"),
        (lambda windows: windows[0], "same size"),
    ],
    ids=["coarser", "two outputs", "no batch"],
)
def test_a_network_whose_output_does_not_fit_is_broken(network, words: str) -> None:
    with pytest.raises(BrokenModel, match=words):
        predict(network, smooth(1, 20, 20, 20), window=(8, 8, 8))


def test_thresholds_for_other_channels_are_refused() -> None:
    with pytest.raises(BrokenModel, match="3 output channels, and 2 thresholds"):
        predict(Mix(3), smooth(1, 8, 8, 8), window=(8, 8, 8), reduce="sigmoid", thresholds=(0.5, 0.5))


def test_a_limit_is_looked_at_before_anything_runs() -> None:
    def never(windows: Tensor) -> Tensor:
        raise AssertionError("it ran")

    with pytest.raises(OverLimit, match="may be taken"):
        predict(
            never,
            smooth(1, 20, 20, 20),
            window=(8, 8, 8),
            classes=50,
            plan=Plan(limit=Memory(host=100_000, device=0)),
        )


def test_a_limit_is_looked_at_as_soon_as_the_classes_are_known() -> None:
    calls = []

    def counted(windows: Tensor) -> Tensor:
        calls.append(windows.shape)
        return windows.expand(-1, 50, -1, -1, -1)

    with pytest.raises(OverLimit):
        predict(
            counted,
            smooth(1, 20, 20, 20),
            window=(8, 8, 8),
            plan=Plan(limit=Memory(host=100_000, device=0)),
        )
    assert len(calls) == 1
