"""A site that knew only pauses goes on with its studies when witnesses are recorded."""

from pathlib import Path

from ledger.completeness import Statement, Witness
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from ledger.study import Completeness
from tests.ledger.site import close, receive
from tests.ledger.test_migration_0002 import at_revision


def test_nobody_knows_of_studies_that_were_closed_before(settings: LedgerSettings, tmp_path: Path) -> None:
    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/newest.sqlite")) as newest:
        study_id = receive(newest, "1.2.3")
        close(newest, study_id)
        at_revision(settings, "0002", like=newest)

    with Ledger.open(settings) as ledger:
        assert ledger.study(study_id).closed_as is None
        assert ledger.statements_of(study_id) == []
        receive(ledger, "1.2.3", [4])
        facts = ledger.study(study_id)
        said = Statement(witness=Witness.COUNT, by="PACS", because="4 of 4", ours=4, theirs=4, decided=True)
        ledger.close_study(
            study_id, seen_instances=4, seen_last_arrival_at=facts.last_arrival_at, because="4 of 4",
            closed_as=Completeness.COMPLETE, statements=[said], notes=[], jobs=[],
        )  # fmt: skip
        assert ledger.study(study_id).closed_as is Completeness.COMPLETE
        assert [one.by for one in ledger.statements_of(study_id)] == ["PACS"]
