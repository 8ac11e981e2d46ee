"""A peer that counts is a witness: believed where it cannot be wrong, waited for where it has more."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.closing import Counted, ListedFacts, StudyFacts, pause_over_s, statements, verdict
from dicom_node.settings import ClosingSettings
from ledger.completeness import Witness
from ledger.study import Completeness

PATIENCE = ClosingSettings(quiet_s=5.0, quiet_open_s=30.0, longest_s=900.0, settle_s=3.0)
NOW_S = 1_000_000.0


def count(
    theirs: int | None, *, ours: int = 412, asked_ago_s: float = 0.5, held_s: float = 0.0, failure: str = ""
) -> Counted:
    asked_s = NOW_S - asked_ago_s
    return Counted(
        peer="PACS", ours=ours, theirs=theirs, asked_s=asked_s, since_s=asked_s - held_s, failure=failure
    )


def facts(
    counted: Counted | None,
    *,
    quiet_s: float = 0.8,
    waited_s: float | None = None,
    open_associations: int = 0,
    listed: ListedFacts | None = None,
) -> StudyFacts:
    waited_s = quiet_s + 20.0 if waited_s is None else waited_s
    return StudyFacts(
        now_s=NOW_S,
        first_arrival_s=NOW_S - waited_s,
        opened_s=NOW_S - waited_s,
        last_arrival_s=NOW_S - quiet_s,
        open_associations=open_associations,
        instances=412,
        count=counted,
        listed=listed,
    )


def test_as_many_as_the_pacs_has_close_a_study_at_once() -> None:
    judged = verdict(facts(count(412)), PATIENCE)

    assert judged.closed
    assert judged.closed_as is Completeness.COMPLETE
    assert judged.because == "complete: 412 of 412 per PACS, 0.8 s after the last image"
    assert (judged.by, judged.ours, judged.theirs) == ("PACS", 412, 412)


def test_what_was_fetched_is_told_with_the_count() -> None:
    judged = verdict(facts(replace(count(412), fetched=12)), PATIENCE)
    assert judged.because == ("complete: 412 of 412 per PACS, 12 of them fetched, 0.8 s after the last image")
    short = verdict(facts(replace(count(420), fetched=12), waited_s=900.0), PATIENCE)
    assert short.because.startswith("partial: 412 of 420 per PACS, 12 of them fetched; open for 900 s")


@pytest.mark.fault
def test_a_count_from_before_the_last_image_proves_nothing() -> None:
    judged = verdict(facts(count(412, asked_ago_s=0.9)), PATIENCE)

    assert not judged.closed


@pytest.mark.fault
def test_while_an_association_is_open_the_count_has_to_hold() -> None:
    moment = facts(count(412, held_s=2.9), quiet_s=4.0, open_associations=1)
    held = replace(moment, count=count(412, held_s=3.0))

    assert not verdict(moment, PATIENCE).closed
    assert statements(moment, PATIENCE, verdict(moment, PATIENCE))[0].because == (
        "412 of 412 per PACS, but 1 association still open: it has held for 2.9 s of 3.0 s"
    )
    assert verdict(held, PATIENCE).closed_as is Completeness.COMPLETE


def test_a_pacs_that_has_more_holds_the_pauses_up() -> None:
    judged = verdict(facts(count(412, ours=400), quiet_s=120.0), PATIENCE)

    assert not judged.closed
    assert judged.because == "waiting for 12 of 412 per PACS"


def test_the_longest_wait_ends_that_and_says_what_is_missing() -> None:
    judged = verdict(facts(count(412, ours=400), quiet_s=120.0, waited_s=900.0), PATIENCE)

    assert judged.closed
    assert judged.closed_as is Completeness.PARTIAL
    assert judged.because == (
        "partial: 400 of 412 per PACS; open for 900 s, the longest wait is 900 s; "
        "412 images so far, no association open"
    )


@pytest.mark.fault
@pytest.mark.parametrize(
    ("counted", "closed_as"),
    [
        (count(None), Completeness.PRESUMED),
        (count(None, failure="PACS is away"), Completeness.PRESUMED),
        (count(0), Completeness.PRESUMED),
        (count(300), Completeness.PRESUMED),
        (count(500, failure="PACS is away"), Completeness.PARTIAL),
    ],
    ids=["silent", "away", "does not know it", "behind", "away after it said that there is more"],
)
def test_a_pacs_without_a_useful_answer_holds_nothing_up(counted: Counted, closed_as: Completeness) -> None:
    assert not verdict(facts(counted, quiet_s=4.9), PATIENCE).closed
    judged = verdict(facts(counted, quiet_s=5.0), PATIENCE)

    assert (judged.witness, judged.closed_as) == (Witness.QUIET, closed_as)


def test_what_an_absent_pacs_said_is_on_record() -> None:
    known = facts(count(500, failure="PACS does not answer"), quiet_s=5.0)
    said = statements(known, PATIENCE, verdict(known, PATIENCE))

    assert [(one.witness, one.decided) for one in said] == [
        (Witness.COUNT, False), (Witness.QUIET, True), (Witness.LONGEST_WAIT, False),
    ]  # fmt: skip
    assert said[0].because == (
        "PACS does not say how many there are (it said 500 before): PACS does not answer"
    )
    assert (
        said[1].because == "partial: 412 of 500 per PACS; no association open and 5.0 s quiet after image 412"
    )


def test_a_site_that_does_not_believe_counts_is_not_held_up_by_them() -> None:
    patience = PATIENCE.model_copy(update={"witnesses": ("commitment",)})

    assert verdict(facts(count(500), quiet_s=5.0), patience).closed_as is Completeness.PRESUMED
    assert not verdict(facts(count(412), quiet_s=1.0), patience).closed


def lists(*, named: int = 412, lacking: tuple[tuple[str, int, int], ...] = ()) -> ListedFacts:
    return ListedFacts(by="CT1", ours=412, named=named, lacking=lacking)


def test_a_list_that_names_all_that_is_here_closes_a_study_after_a_pause() -> None:
    early = facts(None, quiet_s=2.9, open_associations=1, listed=lists())
    late = facts(None, quiet_s=3.0, open_associations=1, listed=lists())

    assert not verdict(early, PATIENCE).closed
    assert verdict(late, PATIENCE).because == (
        "complete: 412 of 412 in the storage commitment requests of CT1, 3.0 s after the last image"
    )


@pytest.mark.parametrize("listed", [lists(named=411), lists(lacking=(("CT1", 412, 420),))])
def test_a_list_that_names_only_a_part_or_more_proves_nothing(listed: ListedFacts) -> None:
    assert not verdict(facts(None, quiet_s=4.9, listed=listed), PATIENCE).closed
    judged = verdict(facts(None, quiet_s=5.0, listed=listed), PATIENCE)

    assert judged.witness is Witness.QUIET
    assert judged.closed_as is (Completeness.PARTIAL if listed.lacking else Completeness.PRESUMED)


def test_a_list_does_not_outweigh_a_pacs_that_has_more() -> None:
    assert not verdict(facts(count(500), quiet_s=60.0, listed=lists()), PATIENCE).closed


seconds = st.floats(0, 2000, allow_nan=False)
some_counts = st.one_of(
    st.none(),
    st.builds(
        lambda ours, theirs, ago, held, failure: Counted(
            peer="PACS", ours=ours, theirs=theirs, asked_s=NOW_S - ago, since_s=NOW_S - ago - held,
            failure=failure,
        ),
        st.integers(0, 20), st.one_of(st.none(), st.integers(0, 20)), seconds, seconds,
        st.sampled_from(["", "PACS is away"]),
    ),
)  # fmt: skip
some_lists = st.one_of(
    st.none(),
    st.builds(
        lambda ours, named, lacking: ListedFacts(
            by="CT1", ours=ours, named=min(ours, named), lacking=(("CT1", 1, 2),) * lacking
        ),
        st.integers(1, 20), st.integers(0, 20), st.integers(0, 2),
    ),
)  # fmt: skip
some_facts = st.builds(
    lambda counted, listed, quiet, more, associations: facts(
        counted, quiet_s=quiet, waited_s=quiet + more, open_associations=associations, listed=listed
    ),
    some_counts, some_lists, seconds, seconds, st.integers(0, 3),
)  # fmt: skip
some_patience = st.builds(
    ClosingSettings,
    quiet_s=st.floats(0, 120),
    quiet_open_s=st.floats(0, 600),
    longest_s=st.floats(0.1, 4000),
    settle_s=st.floats(0, 60),
    witnesses=st.lists(st.sampled_from(["count", "commitment", "geometry"]), unique=True),
)


@given(facts=some_facts, patience=some_patience)
def test_every_study_is_closed_in_the_end_whatever_peers_say(
    facts: StudyFacts, patience: ClosingSettings
) -> None:
    assert verdict(replace(facts, now_s=facts.opened_s + patience.longest_s + 1), patience).closed


@given(facts=some_facts, patience=some_patience)
def test_complete_is_said_only_where_the_number_is_known_to_be_whole(
    facts: StudyFacts, patience: ClosingSettings
) -> None:
    judged = verdict(facts, patience)
    if judged.closed_as is not Completeness.COMPLETE:
        return
    if judged.witness is Witness.COUNT:
        assert facts.count.theirs == facts.count.ours
        assert facts.count.asked_s >= facts.last_arrival_s
    else:
        assert facts.listed.named == facts.listed.ours
        assert not facts.listed.lacking


@given(facts=some_facts, patience=some_patience)
def test_a_peer_that_has_more_leaves_only_the_longest_wait(
    facts: StudyFacts, patience: ClosingSettings
) -> None:
    judged = verdict(facts, patience)
    if facts.count and facts.count.holds_up() and "count" in patience.witnesses and judged.closed:
        assert judged.witness is Witness.LONGEST_WAIT
        assert judged.closed_as is Completeness.PARTIAL


@given(facts=some_facts, patience=some_patience, failure=st.just("PACS is away"))
def test_a_peer_that_goes_away_never_delays_what_the_pauses_close(
    facts: StudyFacts, patience: ClosingSettings, failure: str
) -> None:
    if not verdict(replace(facts, count=None), patience).closed:
        return
    gone = replace(facts, count=replace(facts.count, failure=failure)) if facts.count else facts
    assert verdict(gone, patience).closed


@given(facts=some_facts, patience=some_patience)
def test_one_more_open_association_never_closes_a_study(facts: StudyFacts, patience: ClosingSettings) -> None:
    busier = replace(facts, open_associations=facts.open_associations + 1)
    assert verdict(facts, patience).closed or not verdict(busier, patience).closed


@given(facts=some_facts, patience=some_patience, later_s=seconds)
def test_what_is_closed_stays_closed_while_nothing_arrives(
    facts: StudyFacts, patience: ClosingSettings, later_s: float
) -> None:
    if verdict(facts, patience).closed:
        assert verdict(replace(facts, now_s=facts.now_s + later_s), patience).closed


@given(facts=some_facts, patience=some_patience)
def test_whoever_looks_again_when_the_next_pause_is_over_misses_no_closing(
    facts: StudyFacts, patience: ClosingSettings
) -> None:
    rest_s = pause_over_s(facts, patience)
    assert rest_s >= 0
    if not verdict(facts, patience).closed and rest_s > 0.01:
        earlier = replace(facts, now_s=facts.now_s + rest_s - 0.005)
        assert not verdict(earlier, patience).closed


@given(facts=some_facts, patience=some_patience)
def test_exactly_one_statement_is_believed_when_a_study_is_closed(
    facts: StudyFacts, patience: ClosingSettings
) -> None:
    judged = verdict(facts, patience)
    if judged.closed:
        (believed,) = [one for one in statements(facts, patience, judged) if one.decided]
        assert (believed.because, believed.witness) == (judged.because, judged.witness)
        assert judged.closed_as is not None
