"""What an operator has fetched from a peer: a study, or the earlier studies of a patient.

The wish is a row of the ledger, and the node fulfils it; here one only watches. Whoever stops watching stops
nothing.
"""

import time
from collections.abc import Callable, Sequence

from rich.console import Console

from console.settings import Site
from dicom_node.peers import named
from dicom_node.priors import Priors
from ledger.audit import Actor
from ledger.errors import SiteError, WetreadError
from ledger.fetch import FetchId, FetchRecord, FetchState, NewFetch, Purpose
from ledger.identifiers import Uid
from ledger.store.ledger import Ledger
from ledger.study import StudyRecord

_LOOK_S = 0.25


class CannotFetch(SiteError):
    """The wish cannot be fulfilled as it stands: the message says what to change."""


class NotFetched(WetreadError):
    """It was given up; the reason is the history's."""


def ask_for_study(site: Site, ledger: Ledger, peer: str, study: str, *, by: Actor) -> FetchId:
    """Ask for a study, as if it were to be sent here. Raises `CannotFetch`."""
    _check_peer(site, peer)
    try:
        uid = Uid.parse(study)
    except ValueError as error:
        raise CannotFetch(f"{study!r} is no Study Instance UID: {error}") from None
    here = ledger.study_by_uid(uid)
    wish = NewFetch(
        purpose=Purpose.WISH,
        study=uid,
        peer=peer,
        told_with=None if here is None else here.id,
        because=f"asked for on the command line, from {peer}",
    )
    return _asked(ledger, wish, by)


def ask_for_priors(site: Site, ledger: Ledger, study: str, wanted: Priors, *, by: Actor) -> FetchId:
    """Ask for the priors of a study that is here. Raises `CannotFetch`."""
    _check_peer(site, wanted.peer)
    found = ledger.find(study)
    if not isinstance(found, StudyRecord):
        raise CannotFetch(f"no study {study!r} is here: give a Study Instance UID or an accession number")
    wish = NewFetch(
        purpose=Purpose.PRIORS,
        study=found.study,
        peer=wanted.peer,
        told_with=found.id,
        because=f"asked for on the command line: {wanted.number} of the patient's earlier studies",
        terms=wanted.terms(),
    )
    return _asked(ledger, wish, by)


def follow(
    ledger: Ledger, fetch_id: FetchId, console: Console, *, pause: Callable[[float], None] = time.sleep
) -> None:
    """Tell what becomes of a fetch, and of the priors that it finds. Raises `NotFetched`."""
    first = ledger.fetch(fetch_id)
    told: dict[FetchId, str] = {}
    while True:
        mine = [ledger.fetch(fetch_id)]
        if first.purpose is Purpose.PRIORS:
            mine += [
                each
                for each in ledger.fetches_of(first.study, peer=first.peer)
                if each.purpose is Purpose.PRIOR and each.asked_at >= first.asked_at
            ]
        for each in mine:
            if told.get(each.id) != (words := _words(each)):
                told[each.id] = words
                console.print(words, highlight=False, soft_wrap=True, markup=False)
        if all(each.state is not FetchState.ASKED for each in mine):
            break
        pause(_LOOK_S)
    if given_up := [each for each in mine if each.state is FetchState.ABANDONED]:
        raise NotFetched(given_up[0].because)


def _words(each: FetchRecord) -> str:
    again = " (it is tried again by itself)" if each.state is FetchState.ASKED and each.attempts else ""
    return f"fetch {each.id}, {each.state}: {each.because}{again}"


def _check_peer(site: Site, name: str) -> None:
    peer = named(site.peers, name)
    if peer is None:
        known = ", ".join(sorted(each.name for each in site.peers)) or "none is defined"
        raise CannotFetch(f"no [[peer]] is called {name!r} ({known})")
    if peer.retrieve == "none":
        raise CannotFetch(f'{name} is not for fetching: give its [[peer]] retrieve = "get", "move" or "wado"')


def _asked(ledger: Ledger, wish: NewFetch, by: Actor) -> FetchId:
    asked = ledger.ask_fetch(wish, again=True, by=by)
    if asked is not None:
        return asked
    mine: Sequence[FetchRecord] = [
        each
        for each in ledger.fetches_of(wish.study, peer=wish.peer)
        if each.purpose is wish.purpose and each.state is FetchState.ASKED
    ]
    if not mine:
        raise NotFetched("the same was settled a moment ago; `wetread show` tells how")
    return mine[-1].id
