"""A rule that its model cannot serve is told at the start, and not in the night."""

import pytest

from console.fitting import misfit
from dicom_node.routing import Rule
from models.manifest import Input, Manifest

T1C, FLAIR = {"name": "t1c"}, {"name": "flair"}


def model(given: str = "volume", *inputs: Input) -> Manifest:
    return Manifest(
        name="m", version="1", title="M", licence="Apache-2.0", intended_use="tests", limits=("none",),
        given=given, inputs=inputs or (Input(modality=("MR",)),), time_limit_s=60, memory_mib=1,
    )  # fmt: skip


CHANNELS = model("series", Input(name="t1c", modality=("MR",)), Input(name="flair", modality=("MR",)))


def rule(**asked) -> Rule:
    return Rule.model_validate({"name": "r", "model": "m", "modality": "MR", **asked})


@pytest.mark.parametrize(
    ("manifest", "asked"),
    [
        (model(), {}),
        (model(), {"priors": {"peer": "pacs"}}),
        (model("series"), {}),
        (model("image"), {"each": "image"}),
        (model("timeline"), {"priors": {"peer": "pacs", "wait_s": 60}}),
        (CHANNELS, {"inputs": [T1C, FLAIR]}),
    ],
)
def test_what_fits_is_left_alone(manifest, asked):
    assert misfit(rule(**asked), manifest) is None


@pytest.mark.parametrize(
    ("manifest", "asked", "words"),
    [
        (CHANNELS, {}, "needs a [[rule.inputs]] for each of t1c, flair"),
        (CHANNELS, {"inputs": [T1C, {"name": "t2"}]}, "nothing fills input flair of m@1"),
        (CHANNELS, {"inputs": [T1C, FLAIR, {"name": "t2"}]}, "has no input t2, only t1c, flair"),
        (CHANNELS, {"inputs": [FLAIR, T1C]}, "put that input first, not flair"),
        (CHANNELS, {"inputs": [T1C, {**FLAIR, "modality": "CT"}]}, "input flair of m@1 is made for MR"),
        (model(), {"inputs": [T1C, FLAIR]}, "m@1 is given one series: leave out the rule's inputs"),
        (model("image"), {}, 'needs each = "image"'),
        (model(), {"each": "image"}, 'leave out each = "image"'),
        (model("timeline"), {}, "needs priors, with wait_s"),
        (model(), {"priors": {"peer": "pacs", "wait_s": 9}}, "leave out wait_s"),
        (model(), {"modality": ["MR", "CT"]}, "m@1 is made for MR, and the rule asks for CT"),
    ],
)
def test_what_does_not_fit_is_said_with_what_to_change(manifest, asked, words):
    assert words in (misfit(rule(**asked), manifest) or "")
