"""Several series for one job: one series fills each input, or the rule says in words what is lacking."""

import random
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dicom_node.not_images import why_never
from dicom_node.routing import Rule, RuleInput, jobs_of, route_study
from dicom_node.series_facts import SeriesFacts
from dicom_node.several import fill
from ledger.identifiers import AETitle, Digest, InstanceId, SeriesId, Uid
from ledger.study import InstanceRecord

MR = Uid("1.2.840.10008.5.1.4.1.1.4")


def mr(number: int, *, images: int = 20, spacing_mm: float | None = 5.0, frame: str = "1.9", **headers: str):
    """An MR series whose ids come from `number`."""
    instances = tuple(
        InstanceRecord(
            id=InstanceId(1000 * number + k),
            sop_instance=Uid(f"1.2.{number}.{k}"),
            sop_class=MR,
            transfer_syntax=Uid("1.2.840.10008.1.2.1"),
            digest=Digest("0" * 64),
            size=1,
            path="x",
            calling=AETitle("MR1"),
            received_at=0.0,
        )
        for k in range(1, 3)
    )
    return SeriesFacts(
        series=Uid(f"1.2.{number}"),
        series_id=SeriesId(number),
        modality="MR",
        headers={"FrameOfReferenceUID": frame, **headers},
        sop_classes=frozenset({MR}),
        callings=frozenset({"MR1"}),
        images=images,
        stack=images,
        spacing_mm=spacing_mm,
        instances=instances,
    )


T1C = {"name": "t1c", "contrast": True, "ranges": {"EchoTime": [0, 30], "RepetitionTime": [0, 2500]}}
FLAIR = {"name": "flair", "ranges": {"InversionTime": [1500, float("inf")]}}
GLIOMA = Rule.model_validate({"name": "glioma", "model": "brats", "modality": "MR", "inputs": [T1C, FLAIR]})

T1C_SERIES = {"ContrastBolusAgent": "Gadovist", "EchoTime": "12", "RepetitionTime": "600"}
FLAIR_SERIES = {"EchoTime": "110", "RepetitionTime": "9000", "InversionTime": "2500"}
T2_SERIES = {"EchoTime": "100", "RepetitionTime": "4000"}


def said(study, rule=GLIOMA):
    return {
        int(answer.series.series_id): (answer.taken, answer.because) for answer in route_study(study, [rule])
    }


def test_the_facts_of_a_sequence_say_which_series_is_which():
    study = [mr(1, **T2_SERIES), mr(2, **FLAIR_SERIES), mr(3, **T1C_SERIES)]

    answers = route_study(study, [GLIOMA])

    assert {answer.input: int(answer.series.series_id) for answer in answers if answer.taken} == {
        "t1c": 3,
        "flair": 2,
    }
    assert said(study)[1] == (
        False,
        "t1c: EchoTime is 100, rule asks 0 to 30; flair: InversionTime is not given, rule asks at least 1500",
    )
    assert said(study)[3] == (True, "t1c: MR, 20 images at 5.00 mm")


def test_one_job_has_the_instances_of_all_and_belongs_to_the_first_inputs_series():
    study = [mr(2, **FLAIR_SERIES), mr(3, **T1C_SERIES), mr(4, **T2_SERIES)]

    (job,) = jobs_of(route_study(study, [GLIOMA]))

    assert job.series_id == 3
    assert job.inputs == (3001, 3002, 2001, 2002)
    assert job.names == ("t1c", "t1c", "flair", "flair")
    assert job.subject == "several series"


def test_an_input_that_nothing_fills_is_named_to_every_series_that_was_tried():
    study = [mr(1, **T2_SERIES), mr(3, **T1C_SERIES)]

    assert jobs_of(route_study(study, [GLIOMA])) == []
    assert said(study)[3] == (False, "it would be t1c, but no series is flair")
    assert said(study)[1][1].startswith("t1c: EchoTime is 100")


def test_of_two_that_would_do_the_rule_says_which():
    thick, thin = mr(3, spacing_mm=5.0, **T1C_SERIES), mr(4, spacing_mm=1.0, images=9, **T1C_SERIES)
    study = [thick, thin, mr(2, **FLAIR_SERIES)]
    most = Rule.model_validate({**GLIOMA.model_dump(), "inputs": [{**T1C, "choose": "most"}, FLAIR]})

    assert said(study)[4][0]
    assert said(study)[3] == (False, "t1c: another series was chosen")
    assert said(study, most)[3][0]


def phases(*choose: str) -> Rule:
    inputs = [{"name": how, "description": "liver", "choose": how} for how in choose]
    return Rule.model_validate({"name": "liver", "model": "m", "modality": "MR", "inputs": inputs})


def test_phases_are_told_apart_by_the_time_of_acquisition():
    def phase(number, time):
        return mr(number, SeriesDescription="Liver", AcquisitionDate="20260101", AcquisitionTime=time)

    study = [phase(1, "101530.5"), phase(2, "101400"), phase(3, "101445")]

    answers = route_study(study, [phases("first", "last")])
    taken = {answer.input: int(answer.series.series_id) for answer in answers if answer.taken}

    assert taken == {"first": 2, "last": 1}


def test_a_series_without_a_time_is_neither_first_nor_last_where_another_has_one():
    study = [
        mr(1, SeriesDescription="Liver"),
        mr(2, SeriesDescription="Liver", AcquisitionDateTime="20260101101400"),
        mr(3, SeriesDescription="Liver", AcquisitionDateTime="20260101101500"),
    ]
    assert not said(study, phases("first", "last"))[1][0]


def test_another_frame_of_reference_is_refused_unless_the_rule_lets_it_through():
    study = [mr(2, frame="1.8", **FLAIR_SERIES), mr(3, **T1C_SERIES)]
    relaxed = GLIOMA.model_copy(update={"frame_of_reference": "any"})

    assert "frames of reference" in said(study)[3][1]
    assert len(jobs_of(route_study(study, [relaxed]))) == 1


def test_all_come_from_the_frame_of_reference_that_has_all():
    study = [mr(1, frame="1.8", spacing_mm=1.0, **T1C_SERIES), mr(2, **FLAIR_SERIES), mr(3, **T1C_SERIES)]
    assert said(study)[3][0]
    assert said(study)[1] == (False, "t1c: another series was chosen")


def test_what_is_no_image_fills_no_input():
    study = [mr(2, **FLAIR_SERIES), mr(3, Manufacturer="Wetread", **T1C_SERIES)]
    assert said(study)[3] == (False, "a result of our own is never an input")
    assert why_never(study[1]) is not None


def test_a_late_image_of_any_series_makes_another_job_about_the_same():
    study = [mr(2, **FLAIR_SERIES), mr(3, **T1C_SERIES)]
    (before,) = jobs_of(route_study(study, [GLIOMA]))
    for k, series in enumerate(study):
        grown = [*study]
        grown[k] = replace(series, instances=series.instances[:1])
        (after,) = jobs_of(route_study(grown, [GLIOMA]))
        assert after.key != before.key
        assert after.subject == before.subject


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"inputs": [T1C, T1C]}, "same name"),
        ({"inputs": [T1C]}, "needs no name"),
        ({"inputs": [T1C, FLAIR], "choose": "most"}, "leave out choose"),
        ({"inputs": [T1C, FLAIR], "each": "image"}, "leave out choose"),
        ({"inputs": [T1C, FLAIR], "when": "series"}, "leave out when"),
        ({"inputs": [T1C, FLAIR], "modality": []}, "modality has to be given"),
        ({"each": "image", "choose": "most"}, "leave out choose"),
        ({"ranges": {"EchoTime": [30, 0]}}, "from 30 to 0: nothing can match"),
        ({"ranges": {"EchoTimes": [0, 30]}}, "'EchoTimes' is not the keyword"),
        ({"priors": {"peer": "pacs", "wait_s": 60}, "when": "series"}, "wait for priors"),
        ({"priors": {"peer": "pacs", "wait_s": 60}, "each": "image"}, "wait for priors"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(wrong, words):
    with pytest.raises(ValidationError, match=words):
        Rule.model_validate({"name": "r", "model": "m", "modality": "MR", **wrong})


def test_the_modality_may_stand_in_each_input_instead():
    inputs = [{**T1C, "modality": "MR"}, {**FLAIR, "modality": "MR"}]
    rule = Rule.model_validate({"name": "r", "model": "m", "inputs": inputs})
    assert len(jobs_of(route_study([mr(2, **FLAIR_SERIES), mr(3, **T1C_SERIES)], [rule]))) == 1


def test_open_ended_ranges_survive_the_way_through_json():
    assert Rule.model_validate_json(GLIOMA.model_dump_json()) == GLIOMA


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("0", True),
        ("30", True),
        ("30.01", False),
        ("", False),
        ("12\\14", True),
        ("12\\60", False),
        ("fast", False),
    ],
)
def test_a_range_holds_for_every_value_with_both_ends(value, taken):
    rule = Rule.model_validate({"name": "r", "model": "m", "modality": "MR", "ranges": {"EchoTime": [0, 30]}})
    assert (rule.refusal(mr(1, EchoTime=value)) is None) is taken


def test_a_range_quotes_no_text():
    rule = Rule.model_validate(
        {"name": "r", "model": "m", "modality": "MR", "ranges": {"PatientWeight": [0, 9]}}
    )
    assert rule.refusal(mr(1, PatientWeight="Anna")) == "PatientWeight is no number, rule asks for one"


@pytest.mark.parametrize(
    ("agent", "contrast", "taken"),
    [("Gadovist", True, True), ("NONE", True, False), ("", False, True), ("Gadovist", False, False)],
)
def test_a_rule_may_ask_for_a_contrast_medium_or_for_none(agent, contrast, taken):
    rule = Rule(name="r", model="m", modality=frozenset({"MR"}), contrast=contrast)
    assert (rule.refusal(mr(1, ContrastBolusAgent=agent)) is None) is taken


# ------------------------------------------------------------------ whatever comes


@st.composite
def studies(draw):
    """A few series with one letter each in their description, and inputs that ask for letters."""
    series = [
        mr(
            n,
            spacing_mm=draw(st.sampled_from([1.0, 2.0, None])),
            frame=draw(st.sampled_from(["1.1", "1.2", ""])),
            SeriesDescription=draw(st.sampled_from("abc")),
        )
        for n in range(1, draw(st.integers(1, 6)) + 1)
    ]
    inputs = [
        RuleInput(name=f"i{k}", description=draw(st.sampled_from(["a", "b", "a|b", "b|c", "."])))
        for k in range(draw(st.integers(2, 4)))
    ]
    return series, tuple(inputs)


@given(made=studies(), one_frame=st.booleans(), order=st.randoms(use_true_random=False))
def test_inputs_are_filled_whenever_they_can_be_and_never_twice(made, one_frame, order: random.Random):
    series, inputs = made

    filled = fill(inputs, series, refusal=why_never, one_frame=one_frame)

    def fits(chosen) -> bool:
        frames = {one.headers["FrameOfReferenceUID"] for one in chosen}
        alike = not one_frame or (len(frames) == 1 and frames != {""})
        return alike and all(a.unmet(s) is None for a, s in zip(inputs, chosen, strict=True))

    possible = any(fits(chosen) for chosen in permutations(series, len(inputs)))
    assert bool(filled.taken) is possible
    if possible:
        by_name = {name: one for one in series if (name := filled.taken.get(one.series_id))}
        assert fits([by_name[one.name] for one in inputs])
        assert len(filled.taken) == len(inputs)
    # Every series has an answer, and one only.
    assert {one.series_id for one in series} == set(filled.taken) | set(filled.because)
    assert not set(filled.taken) & set(filled.because)
    assert all(filled.because.values())
    mixed = order.sample(series, len(series))
    assert fill(inputs, mixed, refusal=why_never, one_frame=one_frame) == filled
