"""Trying rules: on a study that is here, or on files that nobody sent. Nothing is kept of either."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi import HTTPException, UploadFile

from console.web.deck import Deck
from dicom_node.dropped import Unread, read_dropped
from dicom_node.facts_known import facts_of_study
from dicom_node.long_headers import LongHeaders
from dicom_node.routing import Rule
from dicom_node.rule_test import SeriesTried, tried
from ledger.identifiers import AETitle
from ledger.job import JobRecord

NOBODY = "NOBODY"  #: who sent files that nobody sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a set of rules says."""

    answers: tuple[SeriesTried, ...]
    unread: tuple[Unread, ...] = ()  #: files of which no series could be made


def on_study(deck: Deck, rules: Sequence[Rule], what: str) -> Trial:
    """Rules on a study that is here, by its UID or accession number. Raises 404."""
    found = deck.ledger.find(what)
    if found is None:
        raise HTTPException(404, "there is no such study here: give its UID or its accession number")
    study_id = found.study_id if isinstance(found, JobRecord) else found.id
    return Trial(answers=tuple(tried(facts_of_study(deck.ledger, study_id), rules)))


def on_files(deck: Deck, rules: Sequence[Rule], files: Iterable[UploadFile], calling: str) -> Trial:
    """Rules on files, as if `calling` had sent them. Raises 422 for what is no AE title."""
    try:
        title = AETitle.parse(calling.strip() or NOBODY)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    readers = LongHeaders(deck.site.data_set)
    try:
        dropped = read_dropped([_named(file) for file in files], readers, calling=title)
    finally:
        readers.close()
    return Trial(answers=tuple(tried(dropped.series, rules)), unread=dropped.unread)


def _named(file: UploadFile) -> Path:
    """A name for what was uploaded: small ones are in memory until they are asked for a descriptor."""
    file.file.flush()
    return Path(f"/proc/self/fd/{file.file.fileno()}")
