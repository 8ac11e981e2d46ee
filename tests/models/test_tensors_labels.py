"""Networks that give labels: of numbers of organs there is no mean, and none becomes another's."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.contract import BrokenModel, Context, Image
from models.runtimes.tensors.model import Forward, TensorModel
from tests.models.making import SEGMENTS, blobs, package_of, volume_of

LIVER, SPLEEN = SEGMENTS


class Written(TensorModel):
    """A network that is a function here, in the place of a file."""

    said: Callable[[Tensor], Tensor]

    def _opened(self, device: torch.device) -> Forward:
        def forward(images: Tensor) -> Mapping[str, Tensor]:
            return {"labels": self.said(images)}

        return forward


def written(
    folder: Path, said: Callable[[Tensor], Tensor], task: str = "segmentation", **facts: Any
) -> Written:
    options = {"segmentation": {"activation": "labels"}} | facts.pop("options", {})
    model = Written(package_of(folder, "torchscript", task, options=options, **facts))
    model.said = said
    model.load("cpu")
    return model


def one_organ_a_window(images: Tensor) -> Tensor:
    """1 for windows that are dark on the whole, 3 for bright ones."""
    bright = images.mean((1, 2, 3, 4), keepdim=True) > 0.5
    return (1 + 2 * bright.float()).expand(-1, 1, *images.shape[2:])


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_windows_that_say_1_and_3_never_say_2(tmp_path: Path, blend: str) -> None:
    segments = (LIVER, SPLEEN, {**SPLEEN, "number": 3, "label": "Kidney"})
    model = written(
        tmp_path, one_organ_a_window, segments=segments,
        options={"window": {"size": [8, 8, 8], "overlap": 0.5, "blend": blend}},
    )  # fmt: skip
    array = np.zeros((8, 8, 32), np.float32)
    array[..., 16:] = 1
    findings = model.run(volume_of(array), Context())
    assert set(np.unique(findings.label_map)) == {1, 3}
    assert findings.cautions == ()


@pytest.mark.parametrize(
    "seen", [{"window": {"size": [8, 4, 4], "overlap": 0}}, {"slice_by_slice": True}], ids=str
)
def test_a_label_above_255_that_comes_late_is_the_organ_that_it_is(
    tmp_path: Path, seen: dict[str, Any]
) -> None:
    segments = ({**LIVER, "region": (44,)}, {**SPLEEN, "region": (300,)})  # 300 - 256 = 44
    model = written(tmp_path, lambda images: images.clone(), segments=segments, options=seen)
    array = np.zeros((64, 4, 4), np.float32)
    array[32:] = 300
    findings = model.run(volume_of(array), Context())
    assert np.array_equal(findings.label_map, np.where(array == 300, 2, 0))


@pytest.mark.parametrize("wrong", [-1.0, 65536.0, float("nan")])
def test_numbers_that_are_no_labels_are_refused(tmp_path: Path, wrong: float) -> None:
    model = written(tmp_path, lambda images: torch.full_like(images, wrong))
    with pytest.raises(BrokenModel, match="labels are numbers from 0 to 65535"):
        model.run(volume_of(np.zeros((4, 4, 4), np.float32)), Context())


def test_rows_and_columns_of_an_image_are_padded_to_a_multiple_and_its_one_slice_is_not(
    tmp_path: Path,
) -> None:
    def classified(images: Tensor) -> Tensor:
        assert images.shape == (1, 1, 48, 64), tuple(images.shape)
        return torch.zeros(1, 2)

    options = {"prepare": {"multiple_of": 16}}
    model = written(tmp_path, classified, "classification", given="image", options=options)
    findings = model.run(Image(array=blobs((40, 50)), spacing_mm=(0.2, 0.2)), Context())
    assert findings.verdicts[0].probability == 0.5


def test_slices_that_are_seen_one_by_one_are_not_padded_to_a_multiple(tmp_path: Path) -> None:
    options = {"prepare": {"multiple_of": 16}, "slice_by_slice": True}
    seen: list[int] = []

    def counted(images: Tensor) -> Tensor:
        seen.append(len(images))
        assert images.shape[2:] == (48, 64), tuple(images.shape)
        return torch.ones_like(images)

    findings = written(tmp_path, counted, options=options).run(volume_of(blobs((5, 40, 50))), Context())
    assert findings.label_map.shape == (5, 40, 50)
    assert sum(seen) == 5
