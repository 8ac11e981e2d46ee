"""Whatever happens in whatever order: the rows stay in their tables, and history adds up to them."""

import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ledger import delivery, job, study
from ledger.delivery import DeliveryEvent
from ledger.job import JobEvent, JobState, LeaseLost
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from tests.ledger.site import OPERATOR, close, finish, new_job, pass_by, slice_of

TABLES = {"study": study.TRANSITIONS, "job": job.TRANSITIONS, "delivery": delivery.TRANSITIONS}
BLINK_S = 0.001
numbers = st.integers(1, 4)
leases = st.sampled_from([BLINK_S, 60.0])


class AnyHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        url = f"sqlite:///{Path(self.folder.name)}/ledger.sqlite"
        self.ledger = Ledger.open(LedgerSettings(url=url))
        self.claims, self.sendings = [], []

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    @rule(of=st.integers(1, 2), number=numbers, content=st.sampled_from(["", "", "x"]))
    def receive(self, of: int, number: int, content: str) -> None:
        self.ledger.record_arrivals([slice_of(f"1.2.{of}", number, content=content)])

    @precondition(lambda self: self.ledger.open_studies())
    @rule()
    def close(self) -> None:
        opened = self.ledger.open_studies()[0]
        close(self.ledger, opened.id, [new_job(self.ledger, opened.id, rule=name) for name in ("a", "b")])

    @precondition(lambda self: self.ledger.jobs())
    @rule(data=st.data(), lease_s=leases, attempts_max=st.integers(1, 3))
    def claim(self, data, lease_s: float, attempts_max: int) -> None:
        chosen = data.draw(st.sampled_from([found.id for found in self.ledger.jobs()]))
        held = self.ledger.claim_job(chosen, owner="w", lease_s=lease_s, attempts_max=attempts_max)
        if held is not None:
            self.claims.append(held)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), how=st.sampled_from(["finish", "crash", "release", "park", "renew"]))
    def work(self, data, how: str) -> None:
        held = data.draw(st.sampled_from(self.claims))
        before = self.ledger.job(held.job_id)
        try:
            if how == "finish":
                finish(self.ledger, held)
            elif how == "park":
                self.ledger.park_job(held, "for a test")
            elif how == "renew":
                self.ledger.renew_job(held)
            else:
                event = JobEvent.CRASHED if how == "crash" else JobEvent.RELEASED
                self.ledger.return_job(held, event, because="for a test", retry_in_s=0, attempts_max=2)
        except LeaseLost:
            assert self.ledger.job(held.job_id) == before
        else:
            assert how == "renew" or (before.state, before.epoch) == (JobState.RUNNING, held.epoch)

    @precondition(lambda self: self.ledger.jobs())
    @rule(data=st.data(), retry=st.booleans())
    def decide_on_a_job(self, data, retry: bool) -> None:
        chosen = data.draw(st.sampled_from([found.id for found in self.ledger.jobs()]))
        with suppress(IllegalTransition):
            (self.ledger.retry_job if retry else self.ledger.cancel_job)(chosen, "for a test", by=OPERATOR)

    @precondition(lambda self: self.ledger.deliveries())
    @rule(data=st.data(), lease_s=leases)
    def claim_delivery(self, data, lease_s: float) -> None:
        chosen = data.draw(st.sampled_from([found.id for found in self.ledger.deliveries()]))
        held = self.ledger.claim_delivery(chosen, owner="s", lease_s=lease_s)
        if held is not None:
            self.sendings.append(held)

    @precondition(lambda self: self.sendings)
    @rule(data=st.data(), event=st.sampled_from(["accepted", "postponed", "refused"]))
    def answer(self, data, event: str) -> None:
        held = data.draw(st.sampled_from(self.sendings))
        with suppress(LeaseLost):
            self.ledger.record_delivery(held, DeliveryEvent(event), status=0, because="for a test")

    @precondition(lambda self: self.ledger.deliveries())
    @rule(data=st.data(), how=st.sampled_from(["retry", "cancel", "confirm", "missing"]))
    def decide_on_a_delivery(self, data, how: str) -> None:
        chosen = data.draw(st.sampled_from([found.id for found in self.ledger.deliveries()]))
        with suppress(IllegalTransition):
            if how == "retry":
                self.ledger.retry_delivery(chosen, "for a test", by=OPERATOR)
            elif how == "cancel":
                self.ledger.cancel_delivery(chosen, "for a test", by=OPERATOR)
            elif how == "confirm":
                self.ledger.confirm_delivery(chosen, "for a test")
            else:
                self.ledger.delivery_missing(chosen, "for a test", 0.0)

    @rule(publish=st.booleans())
    def sweep(self, publish: bool) -> None:
        pass_by(self.ledger, BLINK_S)
        if publish:
            self.ledger.mark_published(self.ledger.unpublished())
        self.ledger.sweep(republish_after_s=BLINK_S, attempts_max=2, crash_backoff_s=0)
        hints = self.ledger.unpublished()
        self.ledger.sweep(republish_after_s=BLINK_S, attempts_max=2, crash_backoff_s=0)
        assert self.ledger.unpublished() == hints or publish

    @rule()
    def purge(self) -> None:
        for old in self.ledger.purgeable_studies(older_than=self.ledger.now() + 1):
            self.ledger.purge_study(old.id, "for a test")

    @invariant()
    def history_adds_up(self) -> None:
        states: dict[tuple[str, int], str] = {}
        for event in self.ledger.history(limit=100_000):
            if not event.after:
                continue
            key = (event.thing, event.thing_id)
            assert states.get(key, "") == event.before
            if event.before:
                table = {(str(a), str(b)): str(c) for (a, b), c in TABLES[event.thing].items()}
                assert table[event.before, event.event] == event.after
            states[key] = event.after
        rows = {("study", found.id): found.state for found in self.ledger.studies(limit=1000)}
        rows |= {("job", found.id): found.state for found in self.ledger.jobs(limit=1000)}
        rows |= {("delivery", found.id): found.state for found in self.ledger.deliveries(limit=1000)}
        assert states == {key: str(state) for key, state in rows.items()}

    @invariant()
    def counts_are_those_of_the_rows(self) -> None:
        for found in self.ledger.studies():
            held = self.ledger.series_of(found.id)
            if found.state is not study.StudyState.PURGED:
                assert found.instances == sum(len(one.instances) for one in held)
                assert found.series == len(held)

    @invariant()
    def only_what_runs_has_a_lease(self) -> None:
        for found in self.ledger.jobs():
            assert (found.lease_owner is not None) == (found.state is JobState.RUNNING)

    @invariant()
    def no_root_went_before_its_leaf(self) -> None:
        for one in self.ledger.jobs(states=[JobState.DONE]):
            leaf, root = self.ledger.deliveries_of(one.id)
            if root.attempts and leaf.sent_at is None and not leaf.because:
                raise AssertionError(f"{root} went before {leaf}")


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = hypothesis_settings(max_examples=25, stateful_step_count=30, deadline=None)
