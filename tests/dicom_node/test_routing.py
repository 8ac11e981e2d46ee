"""Which series go to which model, and why the others do not."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydicom.uid import (
    CTImageStorage,
    EncapsulatedPDFStorage,
    EnhancedCTImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    XRayRadiationDoseSRStorage,
)

from dicom_node.not_images import why_never
from dicom_node.routing import Rule, job_key, route, route_study, without_values
from dicom_node.series_facts import SeriesFacts, facts_of
from ledger.identifiers import AETitle, Digest, InstanceId, SeriesId, StudyId, Uid
from ledger.job import Priority
from ledger.study import InstanceRecord, SeriesRecord

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
HEADERS = {
    "Modality": "CT",
    "BodyPartExamined": "CHEST",
    "SeriesDescription": "Thorax  1.0  B40f",
    "StudyDescription": "CT Thorax nativ",
    "ProtocolName": "ThoraxRoutine",
    "Manufacturer": "SIEMENS",
    "ConvolutionKernel": "B40f",
    "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
}


def instance(
    number: int,
    *,
    position: tuple[float, float, float] | None = None,
    orientation: tuple[float, ...] | None = AXIAL,
    sop_class: str = CTImageStorage,
    frames: int = 1,
    calling: str = "SCANNER",
) -> InstanceRecord:
    return InstanceRecord(
        id=InstanceId(number),
        sop_instance=Uid(f"1.2.3.{number}"),
        sop_class=Uid(sop_class),
        transfer_syntax=Uid("1.2.840.10008.1.2.1"),
        digest=Digest("0" * 64),
        size=1000,
        path=f"instances/{number}",
        calling=AETitle(calling),
        received_at=0.0,
        frames=frames,
        position=position,
        orientation=orientation,
    )


def series(
    *instances: InstanceRecord,
    uid: str = "1.2.3",
    images: int = 100,
    spacing_mm: float = 1.0,
    modality: str = "CT",
    ours: bool = False,
    **headers: str,
) -> SeriesFacts:
    stack = instances or tuple(instance(n + 1, position=(0.0, 0.0, n * spacing_mm)) for n in range(images))
    record = SeriesRecord(
        id=SeriesId(7), study_id=StudyId(1), series=Uid(uid), modality=modality,
        headers={key: value for key, value in {**HEADERS, **headers}.items() if value}, instances=stack,
    )  # fmt: skip
    return facts_of(record, ours=ours)


def rule(**changes: object) -> Rule:
    return Rule.model_validate({"name": "lungs", "model": "lung_ct", "modality": "CT", **changes})


def answer(facts: SeriesFacts, **changes: object) -> tuple[bool, str]:
    (only,) = route(facts, [rule(**changes)])
    return only.taken, only.because


def test_a_chest_ct_is_taken_and_the_answer_says_what_it_is() -> None:
    taken = answer(
        series(),
        body_part=["chest", "thorax"],
        description="thorax",
        study_description="^ct ",
        protocol="routine",
        attributes={"ConvolutionKernel": "b[234]0f"},
        calling="SCANNER",
        at_least=60,
        at_most=1000,
        spacing_max_mm=1.0,
        spacing_min_mm=0.5,
    )
    assert taken == (True, "CT, 100 images at 1.00 mm")


@pytest.mark.parametrize(
    ("conditions", "because"),
    [
        ({"modality": ["MR", "PT"]}, "modality is CT, rule asks MR or PT"),
        ({"body_part": "HEAD"}, "body part is CHEST, rule asks HEAD"),
        ({"description": "liver"}, "series description is 'Thorax  1.0  B40f', rule asks /liver/"),
        ({"study_description": "^PET"}, "study description is 'CT Thorax nativ', rule asks /^PET/"),
        ({"protocol": "abdomen"}, "protocol name is 'ThoraxRoutine', rule asks /abdomen/"),
        ({"attributes": {"ConvolutionKernel": "B70"}}, "ConvolutionKernel is 'B40f', rule asks /B70/"),
        ({"attributes": {"StationName": "CT1"}}, "StationName is not given, rule asks /CT1/"),
        ({"calling": ["PACS", "OTHER"]}, "sent by SCANNER, rule asks OTHER or PACS"),
        ({"at_least": 101}, "100 images, rule asks at least 101"),
        ({"at_most": 99}, "100 images, rule asks at most 99"),
        ({"spacing_max_mm": 0.9}, "slice spacing is 1.00 mm, rule asks at most 0.9 mm"),
        ({"spacing_min_mm": 2}, "slice spacing is 1.00 mm, rule asks at least 2 mm"),
    ],
)
def test_a_refusal_names_the_condition_that_failed(conditions: dict[str, object], because: str) -> None:
    assert answer(series(), **conditions) == (False, because)


def test_a_missing_body_part_needs_a_description_to_go_by() -> None:
    nameless = series(BodyPartExamined="")

    assert answer(nameless, body_part="CHEST", description="thorax")[0]
    assert not answer(nameless, body_part="CHEST", description="abdomen")[0]
    assert answer(nameless, body_part="CHEST") == (
        False,
        "body part is not given, rule asks CHEST and has no pattern for a description to go by instead",
    )


@pytest.mark.parametrize(
    ("facts", "because"),
    [
        (
            series(images=2, ImageType="ORIGINAL\\PRIMARY\\LOCALIZER"),
            "a scout is for planning, not for analysis",
        ),
        (
            series(images=1, ImageType="DERIVED\\SECONDARY\\SCREEN SAVE"),
            "a screenshot is no image to be analysed",
        ),
        (series(instance(1, sop_class=XRayRadiationDoseSRStorage)), "a radiation dose report is no image"),
        (series(instance(1, sop_class=SecondaryCaptureImageStorage)), "a secondary capture is no image"),
        (series(instance(1, sop_class="1.2.840.10008.5.1.4.1.1.7.4")), "a secondary capture is no image"),
        (series(instance(1, sop_class=EncapsulatedPDFStorage)), "an encapsulated document is no image"),
        (series(instance(1, sop_class=SegmentationStorage)), "a segmentation is no image"),
        (
            series(instance(1, sop_class="1.2.840.10008.5.1.4.1.1.88.59")),
            "a key object selection is no image",
        ),
        (series(instance(1, sop_class="1.2.840.10008.5.1.4.1.1.11.1")), "a presentation state is no image"),
        (series(Manufacturer="Wetread"), "a result of our own is never an input"),
        (series(ours=True), "a result of our own is never an input"),
    ],
)
def test_point_54_what_is_no_picture_of_the_patient_is_never_chosen(facts: SeriesFacts, because: str) -> None:
    taken, why = answer(facts)
    assert not taken
    assert because in why


FILM = {"PhotometricInterpretation": "MONOCHROME1", "ViewPosition": "PA", "BodyPartExamined": "CHEST"}
DIGITISED = instance(1, sop_class=SecondaryCaptureImageStorage)


@pytest.mark.parametrize("modality", ["CR", "DX", "MG", "RG"])
def test_a_radiograph_that_was_digitised_is_an_image_although_it_is_a_secondary_capture(
    modality: str,
) -> None:
    assert why_never(series(DIGITISED, modality=modality, **FILM)) is None


@pytest.mark.parametrize(
    ("modality", "other"),
    [
        ("CR", {"PhotometricInterpretation": "RGB"}),
        ("CR", {"ImageType": "DERIVED\\SECONDARY"}),
        ("CR", {"ViewPosition": "", "BodyPartExamined": ""}),
        ("CR", {"Manufacturer": "Wetread"}),
        ("CT", {}),
        ("OT", {}),
    ],
)
def test_a_page_or_a_picture_of_a_result_is_none(modality: str, other: dict[str, str]) -> None:
    assert why_never(series(DIGITISED, modality=modality, **{**FILM, **other})) is not None


def test_a_scout_at_the_head_of_a_stack_does_not_take_the_stack_away() -> None:
    scout = instance(500, position=(0.0, 0.0, 0.0), orientation=CORONAL)
    stack = [instance(n + 1, position=(0.0, 0.0, 2.5 * n)) for n in range(80)]
    facts = series(scout, *stack, ImageType="ORIGINAL\\PRIMARY\\LOCALIZER")

    assert (facts.stack, facts.spacing_mm) == (80, 2.5)
    assert answer(facts) == (True, "CT, 81 images at 2.50 mm")


def test_spacing_is_measured_along_the_normal_of_tilted_slices() -> None:
    tilt = math.radians(20)
    orientation = (1.0, 0.0, 0.0, 0.0, math.cos(tilt), math.sin(tilt))
    normal = (0.0, -math.sin(tilt), math.cos(tilt))
    stack = [
        instance(n, position=tuple(2.0 * n * component for component in normal), orientation=orientation)
        for n in range(1, 30)
    ]
    assert series(*stack).spacing_mm == pytest.approx(2.0)


def test_spacing_is_the_median_so_that_a_gap_or_a_second_phase_does_not_change_it() -> None:
    places = [0.0, 1.0, 2.0, 3.0, 13.0, 14.0, 15.0]
    both = [*places, *places]
    stack = [instance(n + 1, position=(0.0, 0.0, place)) for n, place in enumerate(both)]
    assert series(*stack).spacing_mm == pytest.approx(1.0)


def test_frames_are_counted_singly_and_their_spacing_is_left_to_the_loader() -> None:
    enhanced = series(instance(1, sop_class=EnhancedCTImageStorage, frames=200, orientation=None))

    assert answer(enhanced, at_least=150, spacing_max_mm=1.0) == (True, "CT, 200 images")


def test_single_frames_without_positions_have_no_spacing() -> None:
    bare = series(*(instance(n, orientation=None) for n in range(1, 50)))

    assert answer(bare, spacing_max_mm=3.0)[1] == (
        "slice spacing cannot be told from the positions, and the rule asks for it"
    )
    assert answer(bare)[0]


def test_two_rules_that_take_one_series_both_answer() -> None:
    answers = route(
        series(), [rule(), rule(name="again", model="other", priority="stat"), rule(name="mr", modality="MR")]
    )

    assert [(each.rule.name, each.taken) for each in answers] == [
        ("lungs", True),
        ("again", True),
        ("mr", False),
    ]
    assert answers[1].rule.priority is Priority.STAT


def test_of_two_kernels_a_rule_takes_both_or_the_one_that_it_chooses() -> None:
    thick, thin = (
        series(uid="1.2.1", images=60, spacing_mm=5.0),
        series(uid="1.2.2", images=50, spacing_mm=1.0),
    )

    def chosen(how: str) -> list[str]:
        return [
            str(each.series.series) for each in route_study([thin, thick], [rule(choose=how)]) if each.taken
        ]

    assert chosen("all") == ["1.2.1", "1.2.2"]
    assert chosen("thinnest") == ["1.2.2"]
    assert chosen("most") == ["1.2.1"]
    refused = next(each for each in route_study([thin, thick], [rule(choose="thinnest")]) if not each.taken)
    assert refused.because == (
        "rule chooses the thinnest slices: series 1.2.2 (CT, 50 images at 1.00 mm) "
        "rather than this (CT, 60 images at 5.00 mm)"
    )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"description": "lung("}, "description.*'lung\\(' is not a regular expression"),
        (
            {"attributes": {"Manufactrer": "x"}},
            "attributes.*'Manufactrer' is not the keyword of a DICOM attribute",
        ),
        ({"attributes": {"Manufacturer": "["}}, "attributes.*is not a regular expression"),
        ({"modalty": "CT"}, "modalty"),
        ({"modality": []}, "modality"),
        ({"calling": ["A" * 17]}, "calling.*is not an AE title"),
        ({"at_least": 10, "at_most": 5}, "at_most \\(5\\) is below at_least \\(10\\)"),
        ({"spacing_min_mm": 3, "spacing_max_mm": 1}, "spacing_max_mm .* is below spacing_min_mm"),
        ({"choose": "best"}, "choose"),
        ({"priority": "urgent"}, "priority"),
        ({"deliver_to": ["pacs", "pacs"]}, "deliver_to names a peer twice"),
        ({"settings": {"most": float("nan")}}, "settings: most is nan"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_by_the_name_of_its_key(
    wrong: dict[str, object], words: str
) -> None:
    with pytest.raises(ValidationError, match=f"(?s){words}"):
        rule(**wrong)


def test_a_rule_survives_the_way_through_json() -> None:
    asked = rule(
        body_part=["chest"],
        attributes={"ImageType": "AXIAL"},
        deliver_to="pacs",
        settings={"threshold": -950, "fast": True},
    )
    again = Rule.model_validate_json(asked.model_dump_json())

    assert again == asked
    assert again.deliver_to == ("pacs",)
    assert again.settings == {"threshold": -950, "fast": True}


RULES = [
    rule(),
    rule(name="thin", spacing_max_mm=1.5, choose="thinnest"),
    rule(name="most", choose="most"),
    rule(name="mr", modality="MR"),
]


@given(order=st.randoms(use_true_random=False))
def test_neither_the_order_of_rules_nor_of_series_nor_of_instances_matters(order: random.Random) -> None:
    stacks = [
        [instance(n + 1, position=(0.0, 0.0, n * spacing)) for n in range(images)]
        for images, spacing in ((40, 1.0), (40, 1.0), (20, 2.0))
    ]

    def told(
        stacks: list[list[InstanceRecord]], shuffle: bool
    ) -> dict[tuple[str, str], tuple[bool, str, Digest]]:
        study = []
        for number, stack in enumerate(stacks):
            mixed = order.sample(stack, len(stack)) if shuffle else stack
            study.append(series(*mixed, uid=f"1.2.{number}"))
        rules = order.sample(RULES, len(RULES)) if shuffle else RULES
        study = order.sample(study, len(study)) if shuffle else study
        return {
            (each.rule.name, str(each.series.series)): (
                each.taken,
                each.because,
                job_key(each.rule, (known.sop_instance for known in each.series.instances)),
            )
            for each in route_study(study, rules)
        }

    assert told(stacks, shuffle=True) == told(stacks, shuffle=False)


@given(uids=st.lists(st.integers(1, 10**6), min_size=1, max_size=30, unique=True), data=st.data())
def test_the_key_of_a_job_depends_on_what_is_asked_and_nothing_else(
    uids: list[int], data: st.DataObject
) -> None:
    inputs = [Uid(f"1.2.{n}") for n in uids]
    key = job_key(rule(), inputs)

    assert job_key(rule(), data.draw(st.permutations(inputs))) == key
    assert job_key(rule(deliver_to="elsewhere", priority="stat"), inputs) == key
    assert job_key(rule(name="other"), inputs) != key
    assert job_key(rule(model="lung_ct@2"), inputs) != key
    assert job_key(rule(settings={"a": 1}), inputs) != key
    assert job_key(rule(), [*inputs, Uid("1.3.1")]) != key


@given(st.lists(st.text(alphabet="a'\" \\,/\n", max_size=12), min_size=1, max_size=3))
def test_reasons_can_be_told_without_what_they_quote(descriptions: list[str]) -> None:
    quoted = [f"CANARY{text}CANARY" for text in descriptions]
    reasons = [answer(series(SeriesDescription=text), description="liver")[1] for text in quoted]
    told = without_values(f"No result: no rule took any of its 3 series ({'; '.join(reasons)}).")
    assert "CANARY" not in told
    assert told.count("series description does not match, rule asks /liver/") == len(quoted)
