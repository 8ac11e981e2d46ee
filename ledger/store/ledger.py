"""The ledger: all chapters of the store under one name."""

from typing import Self

from ledger.settings import LedgerSettings
from ledger.store.accounts import Accounts
from ledger.store.alarms import Alarms
from ledger.store.arrivals import Arrivals
from ledger.store.asking import Asking
from ledger.store.audit import Auditing
from ledger.store.callers import Callers
from ledger.store.channels import Channels
from ledger.store.choosing import Choosing
from ledger.store.commitments import Commitments
from ledger.store.completeness import Witnesses
from ledger.store.connect import connect
from ledger.store.database import explained
from ledger.store.deliveries import Deliveries
from ledger.store.feedback import FeedbackStore
from ledger.store.fetches import Fetches
from ledger.store.figures import Figures
from ledger.store.given_up import GivenUpJobs
from ledger.store.history import History
from ledger.store.holdings import Holdings
from ledger.store.jobs import Jobs
from ledger.store.migrate import migrate
from ledger.store.notifications import Notifications
from ledger.store.order import Order
from ledger.store.outbox import Outbox
from ledger.store.pauses import Pauses
from ledger.store.promises import Promises
from ledger.store.quarantine import Quarantine
from ledger.store.reading import Reading
from ledger.store.rejections import Rejections
from ledger.store.retention import Retention
from ledger.store.rule_sets import RuleSets
from ledger.store.search import Searching
from ledger.store.sessions import Sessions
from ledger.store.studies import Studies
from ledger.store.sweep import Sweep
from ledger.store.tokens import Tokens
from ledger.store.traces import Traces
from ledger.store.traffic import Traffic
from ledger.store.usages import Usages
from ledger.store.waiting import Waiting
from ledger.store.wishes import Wishes
from ledger.store.workitems import Workitems


class Ledger(
    Arrivals,
    Quarantine,
    Studies,
    Retention,
    Choosing,
    Order,
    Pauses,
    Asking,
    Wishes,
    Usages,
    Jobs,
    Waiting,
    Deliveries,
    Commitments,
    Witnesses,
    Promises,
    Rejections,
    GivenUpJobs,
    Notifications,
    Fetches,
    Workitems,
    Outbox,
    Sweep,
    Callers,
    Channels,
    FeedbackStore,
    Traffic,
    RuleSets,
    Reading,
    Figures,
    Searching,
    Alarms,
    Traces,
    Holdings,
    History,
    Auditing,
    Accounts,
    Sessions,
    Tokens,
):
    """What happened to every study. Any number of processes and threads may hold one each, or share one."""

    @classmethod
    def open(cls, settings: LedgerSettings) -> Self:
        """Connect, and bring the tables up to date. Raises `LedgerAway`, `LedgerTooNew`."""
        with explained(settings.shown):
            engine = connect(settings)
        try:
            migrate(engine, settings.shown)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, settings.shown)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
