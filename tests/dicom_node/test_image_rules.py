"""A rule that asks about each image: a mammography study of four views is four jobs, or one."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.routing import EarlierKnown, Rule, jobs_of, route_study
from dicom_node.series_facts import SeriesFacts, images_of
from ledger.identifiers import AETitle, Digest, InstanceId, SeriesId, Uid
from ledger.job import EARLIER
from ledger.study import InstanceRecord

MG = Uid("1.2.840.10008.5.1.4.1.1.1.2")
VIEWS = (("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO"))


def mammogram(views=VIEWS, *, number: int = 1, known: bool = True) -> SeriesFacts:
    """A series of single images; `known`: the ledger has the headers of each."""
    instances = tuple(
        InstanceRecord(
            id=InstanceId(100 * number + k),
            sop_instance=Uid(f"1.3.{number}.{k + 1}"),
            sop_class=MG,
            transfer_syntax=Uid("1.2.840.10008.1.2.1"),
            digest=Digest("0" * 64),
            size=1,
            path="x",
            calling=AETitle("MG1"),
            received_at=0.0,
            headers={"ImageLaterality": side, "ViewPosition": view} if known else None,
        )
        for k, (side, view) in enumerate(views)
    )
    return SeriesFacts(
        series=Uid(f"1.3.{number}"),
        series_id=SeriesId(number),
        modality="MG",
        headers={"ImageLaterality": views[0][0], "ViewPosition": views[0][1]},
        sop_classes=frozenset({MG}),
        callings=frozenset({"MG1"}),
        images=len(views),
        instances=instances,
    )


def rule(**asked) -> Rule:
    return Rule.model_validate({"name": "breasts", "model": "mg", "modality": "MG", "each": "image", **asked})


def test_four_views_are_four_jobs_about_one_image_each():
    jobs = jobs_of(route_study([mammogram()], [rule()]))

    assert [job.inputs for job in jobs] == [(100,), (101,), (102,), (103,)]
    assert len({job.key for job in jobs}) == 4
    assert [job.subject for job in jobs] == ["1.3.1.1", "1.3.1.2", "1.3.1.3", "1.3.1.4"]


def test_a_rule_may_choose_views_by_their_own_attributes():
    asked = rule(attributes={"ViewPosition": "^CC$"})

    (answer,) = route_study([mammogram()], [asked])

    assert [str(one.instances[0].sop_instance) for one in answer.images] == ["1.3.1.1", "1.3.1.3"]
    assert answer.because == ("MG, 2 images one by one; 2 left out: ViewPosition is 'MLO', rule asks /^CC$/")


def test_a_series_without_any_such_image_is_refused_with_the_reason():
    (answer,) = route_study([mammogram()], [rule(attributes={"ViewPosition": "^XCCL$"})])
    assert not answer.taken
    assert "ViewPosition is 'CC', rule asks /^XCCL$/" in answer.because


def test_images_that_came_before_their_headers_were_kept_go_by_their_series():
    asked = rule(attributes={"ViewPosition": "^CC$"})
    assert len(jobs_of(route_study([mammogram(known=False)], [asked]))) == 4
    assert {one.headers["ViewPosition"] for one in images_of(mammogram(known=False))} == {"CC"}


def test_one_more_image_opens_one_more_job_and_repeats_none():
    before = jobs_of(route_study([mammogram(VIEWS[:3])], [rule()]))
    after = jobs_of(route_study([mammogram(VIEWS)], [rule()]))
    assert [job.key for job in before] == [job.key for job in after][:3]


def ct(number: int, **headers: str) -> SeriesFacts:
    return replace(mammogram(number=number), modality="CT", headers=headers)


TIMELINE = Rule.model_validate(
    {"name": "growth", "model": "g", "modality": "CT", "priors": {"peer": "pacs", "number": 3, "wait_s": 60}}
)


def test_a_job_of_a_timeline_names_each_earlier_examination_and_how_many_were_asked():
    known = {"growth": EarlierKnown((ct(2), ct(3)), settled=False)}

    (job,) = jobs_of(route_study([ct(1)], [TIMELINE]), known)

    assert job.names[:4] == ("", "", "", "")
    assert job.names[4:] == tuple(f"{EARLIER}{n}" for n in (1, 2) for _ in range(4))
    assert job.inputs[4:] == (200, 201, 202, 203, 300, 301, 302, 303)
    assert (job.earlier_asked, job.wait_s) == (3, 60)
    assert job.subject == ""


def test_a_job_waits_no_longer_than_anything_may_come():
    settled = {"growth": EarlierKnown((), settled=True)}
    (job,) = jobs_of(route_study([ct(1)], [TIMELINE]), settled)
    assert job.wait_s == 0


def test_a_rule_that_does_not_wait_is_given_no_earlier_examination():
    plain = TIMELINE.model_copy(update={"priors": TIMELINE.priors.model_copy(update={"wait_s": 0})})
    (job,) = jobs_of(route_study([ct(1)], [plain]), {"growth": EarlierKnown((ct(2),))})
    assert (job.earlier_asked, len(job.inputs), job.names) == (None, 4, ())


@given(
    st.lists(st.integers(2, 9), max_size=3, unique=True), st.lists(st.integers(2, 9), max_size=3, unique=True)
)
def test_the_key_of_a_timeline_is_that_of_its_examinations_in_their_order(one, other):
    def key(numbers):
        known = {"growth": EarlierKnown(tuple(ct(n) for n in numbers))}
        (job,) = jobs_of(route_study([ct(1)], [TIMELINE]), known)
        return job.key

    assert (key(one) == key(other)) is (one == other)


def test_the_number_that_is_asked_for_is_part_of_the_key():
    more = TIMELINE.model_copy(update={"priors": TIMELINE.priors.model_copy(update={"number": 4})})
    assert jobs_of(route_study([ct(1)], [TIMELINE]))[0].key != jobs_of(route_study([ct(1)], [more]))[0].key


@pytest.mark.parametrize("when", ["study", "series"])
def test_images_may_be_asked_about_as_soon_as_their_series_is_complete(when):
    assert len(jobs_of(route_study([mammogram()], [rule(when=when)]))) == 4
