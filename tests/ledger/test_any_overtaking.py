"""However often a series is overtaken, whoever dies, whatever a peer says: it shows one result in the end."""

import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ledger.delivery import DeliveryEvent, DeliveryRecord, DeliveryState
from ledger.job import JobState
from ledger.result import Role
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from tests.ledger.site import OPERATOR, claim, close, finish, new_job, result, slice_of

PEERS = ("PACS", "RESEARCH")


class AnyOvertaking(RuleBasedStateMachine):
    """Two archives that follow rejection notes, and a line of results for them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        url = f"sqlite:///{Path(self.folder.name)}/ledger.sqlite"
        self.ledger = Ledger.open(LedgerSettings(url=url))
        self.slices = 0
        #: What each archive holds: SOP instance → whether it shows it; and how often each was rejected.
        self.archive = {peer: {} for peer in PEERS}
        self.rejected = {peer: [] for peer in PEERS}

    def teardown(self) -> None:
        try:
            self.come_to_rest()
        finally:
            self.ledger.close()
            self.folder.cleanup()

    @rule()
    def a_late_image(self) -> None:
        self.slices += 1
        self.ledger.record_arrivals([slice_of("1.2.3", self.slices)])
        study_id = self.ledger.studies()[0].id
        close(self.ledger, study_id, [new_job(self.ledger, study_id, to=PEERS)])

    @rule()
    def compute(self) -> None:
        for one in self.ledger.jobs(states=[JobState.QUEUED]):
            finish(self.ledger, claim(self.ledger, one.id))

    @precondition(lambda self: self.ledger.deliveries(states=[DeliveryState.WAITING]))
    @rule(data=st.data(), what=st.sampled_from(["stored", "lost answer", "away", "dies", "dies before"]))
    def send(self, data, what: str) -> None:
        waiting = self.ledger.deliveries(states=[DeliveryState.WAITING], limit=1000)
        self.attempt(data.draw(st.sampled_from(sorted(waiting, key=lambda one: one.id))), what)

    def attempt(self, one: DeliveryRecord, what: str) -> None:
        lease_s = -1.0 if what.startswith("dies") else 60.0
        held = self.ledger.claim_delivery(one.id, owner="sender", lease_s=lease_s)
        if held is None:
            return
        if what in ("stored", "lost answer", "dies"):
            self.arrive(one)
        if what == "stored":
            self.ledger.record_delivery(held, DeliveryEvent.ACCEPTED, status=0, because="stored")
        elif what in ("lost answer", "away"):
            doubt = what == "lost answer"
            self.ledger.record_delivery(
                held, DeliveryEvent.POSTPONED, status=None, because=what, in_doubt=doubt
            )
        else:
            self.ledger.sweep(republish_after_s=60, attempts_max=3, crash_backoff_s=0)

    def arrive(self, one: DeliveryRecord) -> None:
        shown = self.archive[one.peer]
        rejection = self.ledger.rejection(one.id)
        if rejection is None:
            shown.setdefault(one.result.sop_instance, True)
            return
        names = [named.result.sop_instance for named in rejection.names]
        assert set(names) <= set(shown), "a note names what the archive does not have"
        for name in names:
            shown[name] = False
        key = (one.id, tuple(names))
        if key not in self.rejected[one.peer]:  # The same note twice is once.
            self.rejected[one.peer].append(key)
        # An archive that had a whole result has one at all times.
        assert self.whole(one.peer), "an archive was left without a result"

    def whole(self, peer: str) -> list[int]:
        """The jobs of which the archive shows everything."""
        shown = {uid for uid, visible in self.archive[peer].items() if visible}
        found = []
        for job in self.ledger.jobs(limit=1000):
            made = {
                one.sop_instance
                for one in self.ledger.results_of(job.id)
                if one.role is not Role.REJECTION_NOTE
            }
            if made and made <= shown:
                found.append(job.id)
        return found

    @rule(peer=st.sampled_from(PEERS), proved=st.booleans())
    def a_good_minute(self, peer: str, proved: bool) -> None:
        """One archive takes all that waits for it, and perhaps all of it is proved."""
        self.compute()
        for _ in range(2):
            waiting = self.ledger.deliveries(states=[DeliveryState.WAITING], limit=1000)
            for one in sorted(waiting, key=lambda each: each.id):
                if one.peer == peer:
                    self.attempt(one, "stored")
        for one in self.ledger.sent_deliveries() if proved else ():
            if one.peer == peer:
                self.ledger.confirm_delivery(one.id, "found")

    @precondition(lambda self: self.ledger.sent_deliveries())
    @rule(data=st.data(), missing=st.booleans())
    def prove(self, data, missing: bool) -> None:
        one = data.draw(st.sampled_from(self.ledger.sent_deliveries()))
        if missing and self.ledger.rejection(one.id) is None:
            self.ledger.delivery_missing(one.id, "not found", 0.0)
        else:
            self.ledger.confirm_delivery(one.id, "found")

    @rule()
    def make_notes(self) -> None:
        for owed in self.ledger.owed_notes(PEERS):
            of = f"2.25.99.{'.'.join(str(one.delivery_id) for one in owed.superseded)}"
            made = result(Role.REJECTION_NOTE, 3, of)
            assert self.ledger.open_note(owed, made, "reject") is not None
            assert self.ledger.open_note(owed, made, "reject") is None

    @precondition(lambda self: self.ledger.deliveries(states=[DeliveryState.CANCELLED]))
    @rule(data=st.data())
    def an_operator_sends_it_after_all(self, data) -> None:
        withdrawn = self.ledger.deliveries(states=[DeliveryState.CANCELLED], limit=1000)
        with suppress(IllegalTransition):
            self.ledger.retry_delivery(data.draw(st.sampled_from(withdrawn)).id, "for a test", by=OPERATOR)

    @invariant()
    def nothing_is_rejected_twice(self) -> None:
        for peer in PEERS:
            names = [name for _, each in self.rejected[peer] for name in each]
            assert len(names) == len(set(names))

    def come_to_rest(self) -> None:
        """Everything goes well from here on: each archive ends up showing the latest result and no other."""
        while True:
            self.compute()
            self.make_notes()
            for one in self.ledger.sent_deliveries():
                self.ledger.confirm_delivery(one.id, "found")
            waiting = self.ledger.deliveries(states=[DeliveryState.WAITING], limit=1000)
            if not waiting and not self.ledger.owed_notes(PEERS):
                break
            for one in sorted(waiting, key=lambda each: each.id):
                self.attempt(one, "stored")
        jobs = self.ledger.jobs(limit=1000)
        if not jobs:
            return
        latest = {one.sop_instance for one in self.ledger.results_of(jobs[0].id)}
        for peer in PEERS:
            shown = {uid for uid, visible in self.archive[peer].items() if visible}
            notes = {r.note.result.sop_instance for r in self.ledger.rejections_of(jobs[0].study_id)}
            assert shown == latest - notes


TestAnyOvertaking = AnyOvertaking.TestCase
TestAnyOvertaking.settings = hypothesis_settings(max_examples=15, stateful_step_count=25, deadline=None)
