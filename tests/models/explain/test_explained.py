import numpy as np
import pytest
import torch

from ledger.job import Outcome
from models.contract import Context, SettingsNotUnderstood
from models.explain.explained import explained
from models.explain.settings import ExplainSettings, parted
from results import codes
from results.findings import Findings, Segment, Verdict, refused
from tests.models.explain.subjects import of_classifier, of_segmenter


class Explained:
    """A model whose runtime lets it be explained."""

    def __init__(self, subject) -> None:
        self.subject = subject

    def explainable(self, given, context):
        return self.subject


def said(label: str, probability: float) -> Verdict:
    return Verdict(
        label=label,
        finding=codes.LUNG,
        present=probability >= 0.5,
        probability=probability,
        threshold=0.5,
    )


FOUND = Findings(outcome=Outcome.FOUND, verdicts=(said("Mass", 0.3), said("Effusion", 0.9)))


def drawn(*voxels: int) -> Findings:
    labels = np.zeros((24, 16, 20), np.uint8)
    for number, count in enumerate(voxels, start=1):
        labels.reshape(-1)[number * 1000 : number * 1000 + count] = number
    segments = tuple(
        Segment(
            number=number,
            label=label,
            category=codes.ANATOMICAL_STRUCTURE,
            kind=codes.LUNG,
            colour_rgb=(1, 2, 3),
        )
        for number, label in enumerate(("Liver", "Spleen"), start=1)
    )
    return Findings(outcome=Outcome.FOUND, label_map=labels, segments=segments)


def ask(subject, findings: Findings, **settings) -> Findings:
    wish, rest = parted(settings)
    assert not rest
    return explained(Explained(subject), object(), Context(), findings, wish)


@pytest.mark.parametrize("how", ["grad_cam", "occlusion"])
def test_the_surest_verdict_is_explained_and_marked_as_an_explanation(how: str) -> None:
    answer = ask(of_classifier(), FOUND, explain=how, explain_tiles=3)

    (heat,) = answer.maps
    assert heat.explains == "Effusion"
    assert heat.label.startswith("Explanation of Effusion")
    assert heat.values.shape == (24, 20, 28)
    assert heat.values.dtype == np.float32
    assert (heat.values.min(), heat.values.max()) == (pytest.approx(0, abs=1), 1)
    assert heat.values.min() >= 0
    assert answer.verdicts == FOUND.verdicts


def test_the_label_of_the_rule_is_explained() -> None:
    assert ask(of_classifier(), FOUND, explain="grad_cam", explain_of="Mass").maps[0].explains == "Mass"


def test_the_largest_segment_is_explained() -> None:
    assert ask(of_segmenter(), drawn(5, 90), explain="grad_cam").maps[0].explains == "Spleen"


@pytest.mark.parametrize("how", ["grad_cam", "occlusion"])
def test_where_nothing_was_drawn_that_is_said(how: str) -> None:
    answer = ask(of_segmenter(), drawn(0, 0), explain=how)

    assert answer.maps == ()
    assert answer.cautions == ("Nothing was found that could be explained.",)


def test_uncertainty_is_a_map_of_a_segmentation_and_a_sentence_about_an_image() -> None:
    of_voxels = ask(of_segmenter(window=(16, 16, 16)), drawn(5, 90), uncertainty="flips")
    of_image = ask(of_classifier(2), FOUND, uncertainty="flips", uncertainty_of="deviation")

    assert of_voxels.maps[0].label == "Uncertainty (entropy over mirrored images)"
    assert of_voxels.maps[0].explains == ""
    assert 0 <= of_voxels.maps[0].values.min() <= of_voxels.maps[0].values.max() <= 1
    assert of_image.maps == ()
    assert "from 0 to 1" in of_image.cautions[0]


def test_what_was_refused_has_nothing_to_explain() -> None:
    no = refused("Not a chest.")

    assert ask(of_classifier(), no, explain="grad_cam") is no
    assert ask(of_classifier(), FOUND) is FOUND


def test_a_models_own_settings_are_left_to_it() -> None:
    wish, rest = parted({"explain": "occlusion", "threshold": 0.4})

    assert wish == ExplainSettings(explain="occlusion")
    assert rest == {"threshold": 0.4}
    assert not parted(rest)[0].wanted


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"explain": "tea_leaves"}, "tea_leaves"),
        ({"explain": "occlusion", "explain_tiles": 1000}, "explain_tiles"),
        ({"uncertainty": True}, "uncertainty"),
    ],
    ids=str,
)
def test_an_explanation_that_there_is_not_is_a_mistake_of_the_rule(settings, words: str) -> None:
    with pytest.raises(SettingsNotUnderstood, match=words):
        parted(settings)


def test_a_label_that_the_model_does_not_have_is_a_mistake_of_the_rule() -> None:
    with pytest.raises(SettingsNotUnderstood, match="Mass, Nodule, Effusion"):
        ask(of_classifier(), FOUND, explain="grad_cam", explain_of="Fracture")


def test_one_network_is_no_ensemble() -> None:
    with pytest.raises(SettingsNotUnderstood, match="single network"):
        ask(of_classifier(), FOUND, uncertainty="ensemble")


def test_a_model_that_cannot_be_explained_says_so() -> None:
    with pytest.raises(SettingsNotUnderstood, match="gives none"):
        explained(object(), object(), Context(), FOUND, ExplainSettings(explain="occlusion"))


def test_a_map_of_nothing_is_zero_everywhere() -> None:
    silent = of_classifier(network=lambda images: torch.zeros(len(images), 3))

    assert not ask(silent, FOUND, explain="occlusion").maps[0].values.any()
