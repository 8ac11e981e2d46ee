import pytest
import torch
from monai.visualize import OcclusionSensitivity
from torch import nn

from models.explain.occlusion import occlusion
from models.explain.subject import Explainable
from tests.models.explain.subjects import Bright, of_classifier, of_segmenter, unchanged


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")  # MONAI's own
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_the_fall_of_a_classifier_is_monais(axes: int, overlap: float) -> None:
    subject = of_classifier(axes)
    theirs, _ = OcclusionSensitivity(
        subject.module,
        mask_size=8,
        n_batch=5,
        verbose=False,
        mode="mean_img",
        overlap=overlap,
        activate=lambda logits: logits.softmax(1),
    )(subject.given[None])
    with torch.no_grad():
        before = subject.network(subject.given[None]).softmax(1)[0, 1]

    ours = occlusion(subject, 1, (8,) * axes, overlap=overlap)

    assert torch.allclose(ours, before - torch.as_tensor(theirs)[0, 1], atol=1e-5)


def test_the_part_that_decides_is_found() -> None:
    given = torch.zeros(1, 18, 18, 18)
    given[:, :6, :6, :6] = 9
    subject = Explainable(network=Bright(), given=given, labels=("", "Bright"), back=unchanged)

    falls = occlusion(subject, 1, (6, 6, 6), overlap=0.0)

    assert falls[:6, :6, :6].min() > 0.1
    falls[:6, :6, :6] = 0
    assert falls.abs().max() < 1e-6


def test_a_tile_larger_than_the_image_hides_all_of_it() -> None:
    falls = occlusion(of_classifier(2), 0, (400, 400))

    assert falls.shape == (40, 48)
    assert float(falls.max() - falls.min()) == 0


def test_a_segmenter_is_explained_by_what_it_draws() -> None:
    subject = of_segmenter()
    with torch.no_grad():
        logits = subject.network(subject.given[None])
    mask = logits.argmax(1)[0] == 1
    hidden = subject.given.clone()
    hidden[:, :8, :8, :10] = subject.given.mean()
    with torch.no_grad():
        fall = (logits.softmax(1) - subject.network(hidden[None]).softmax(1))[0, 1][mask].mean()

    falls = occlusion(subject, 1, (8, 8, 10), overlap=0.0)

    assert falls[:8, :8, :10].numpy() == pytest.approx(float(fall), abs=1e-6)


def test_where_a_segmenter_sees_windows_only_one_is_looked_at() -> None:
    falls = occlusion(of_segmenter(window=(8, 8, 8)), 1, (4, 4, 4), overlap=0.0)

    filled = (falls != 0).nonzero()
    assert (filled.max(0).values - filled.min(0).values < 8).all()


def test_a_window_may_be_larger_than_the_image() -> None:
    subject = of_segmenter(window=(32, 16, 8))

    falls = occlusion(subject, 1, (8, 8, 4))

    assert falls.shape == (24, 16, 20)
    assert (falls != 0).any()


def test_what_is_not_drawn_at_all_can_still_be_asked_about() -> None:
    class Never(nn.Module):
        def forward(self, images):
            return torch.cat([images * 0 + 5, images * 0.1], 1)

    subject = Explainable(
        network=Never(), given=torch.rand(1, 8, 8, 8), labels=("", "Liver"), back=unchanged, dense=True
    )

    assert torch.isfinite(occlusion(subject, 1, (4, 4, 4))).all()
