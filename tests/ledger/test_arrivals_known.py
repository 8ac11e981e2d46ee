"""The quick way of recording writes what the general way writes, and commits no sooner than it may."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ledger.errors import SiteError
from ledger.settings import LedgerSettings
from ledger.store import arrivals as general
from ledger.store.ledger import Ledger
from tests.ledger.site import close, slice_of

UNLIKE = {"received_at", "last_arrival_at", "first_arrival_at", "opened_at", "closed_at", "at"}  # times
batches = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["1.2.3", "1.2.4"]), st.integers(1, 6), st.integers(1, 3), st.booleans()),
        min_size=1,
        max_size=4,
    ),
    min_size=1,
    max_size=6,
)


def rows(path: Path) -> dict[str, list[dict[str, object]]]:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    found = {}
    for table in ("study", "series", "instance", "event"):
        found[table] = [
            {key: row[key] for key in row.keys() if key not in UNLIKE}  # noqa: SIM118 (it is no mapping)
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY id")
        ]
    connection.close()
    return found


def recorded(path: Path, plan) -> tuple[list, dict]:
    receipts = []
    with Ledger.open(LedgerSettings(url=f"sqlite:///{path}")) as ledger:
        for turn, batch in enumerate(plan):
            receipts += ledger.record_arrivals(
                [
                    slice_of(
                        study, number, series=series, **({"ImagePositionPatient": "0\\1\\2"} if odd else {})
                    )
                    for study, number, series, odd in batch
                ]
            )
            if turn == 2:
                close(ledger, receipts[0].study_id)
    return receipts, rows(path)


@given(batches)
@hypothesis_settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_both_ways_write_the_same(tmp_path_factory, plan) -> None:
    folder = tmp_path_factory.mktemp("both")
    quick = recorded(folder / "quick.sqlite", plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(general, "record_known", lambda tx, arrivals: None)
        slow = recorded(folder / "slow.sqlite", plan)

    assert quick == slow


def test_nothing_is_recorded_before_the_caller_agrees(ledger: Ledger) -> None:
    class DiskGone(SiteError):
        pass

    def refuse() -> None:
        raise DiskGone

    ledger.record_arrivals([slice_of("1.2.3", 1)])
    for number in (2, 3):
        with pytest.raises(DiskGone):
            ledger.record_arrivals([slice_of("1.2.3", number)], before_commit=refuse)
    assert ledger.counts().instances == 1
    assert ledger.record_arrivals([slice_of("1.2.3", 2)])[0].kind == "new"
