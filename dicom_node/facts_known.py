"""What the rules may know of studies that are here: series by series, as the ledger has them."""

from dicom_node.series_facts import SeriesFacts, facts_of
from ledger.identifiers import StudyId
from ledger.store.ledger import Ledger
from ledger.study import SeriesRecord


def facts_known(ledger: Ledger, record: SeriesRecord) -> SeriesFacts:
    """The facts of a series: whether we made it, and whether it was fetched as a prior, too."""
    # A result of ours stands alone in its series: its first instance tells.
    ours = bool(record.instances) and ledger.is_our_result(record.instances[0].sop_instance)
    return facts_of(record, ours=ours, prior_of=ledger.prior_of(record.id))


def facts_of_study(ledger: Ledger, study_id: StudyId) -> list[SeriesFacts]:
    """All series of a study that hold images. Of a purged one there is none: its headers stay, but not how
    many images it had, nor where they were.
    """
    return [facts_known(ledger, record) for record in ledger.series_of(study_id)]
