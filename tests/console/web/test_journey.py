"""Five steps from arrival to commitment: each says how it stands, and no more than is known."""

import pytest

from console.alarms import Alarm
from console.web.journey import Mark, journey
from console.web.sentences import notice, plain
from ledger.present import Found
from ledger.store.ledger import Ledger
from tests.console.conftest import FilledSite
from tests.ledger.site import claim, close, finish, new_job, queued_job, receive, send


def marks(ledger: Ledger) -> list[Mark]:
    return [step.mark for step in journey(the_study(ledger))]


def the_study(ledger: Ledger) -> Found:
    (found,) = ledger.found([ledger.studies()[0].id])
    return found


DONE, NOW, AHEAD, NONE, STOPPED = Mark.DONE, Mark.NOW, Mark.AHEAD, Mark.NONE, Mark.STOPPED


def test_a_study_goes_from_arrival_to_commitment(site: FilledSite) -> None:
    ledger = site.ledger
    study_id = receive(ledger, "1.2.3")
    assert marks(ledger) == [NOW, AHEAD, AHEAD, AHEAD, AHEAD]
    (job_id,) = close(ledger, study_id, [new_job(ledger, study_id)])
    assert marks(ledger) == [DONE, DONE, NOW, AHEAD, AHEAD]
    deliveries = finish(ledger, claim(ledger, job_id))
    assert marks(ledger) == [DONE, DONE, DONE, NOW, AHEAD]
    for one in deliveries:
        send(ledger, one)
    assert marks(ledger) == [DONE, DONE, DONE, DONE, NOW]
    for one in deliveries:
        ledger.confirm_delivery(one, "found there")
    assert marks(ledger) == [DONE] * 5


def test_a_study_that_no_rule_took_has_nothing_ahead(site: FilledSite) -> None:
    close(site.ledger, receive(site.ledger, "1.2.3"))

    assert marks(site.ledger) == [DONE, DONE, NONE, NONE, NONE]


def test_a_parked_job_stops_it_and_what_follows_waits(site: FilledSite) -> None:
    held = claim(site.ledger, queued_job(site.ledger))
    site.ledger.park_job(held, "slice spacing 7.5 mm")

    step = journey(the_study(site.ledger))[2]

    assert marks(site.ledger) == [DONE, DONE, STOPPED, AHEAD, AHEAD]
    assert step.words == "slice spacing 7.5 mm"


def test_what_stays_here_is_delivered_to_nobody(site: FilledSite) -> None:
    finish(site.ledger, claim(site.ledger, queued_job(site.ledger, to=())))

    assert marks(site.ledger) == [DONE, DONE, DONE, NONE, NONE]


@pytest.mark.parametrize(
    ("words", "told", "address"),
    [
        ("job 2 is parked: too thick  →  wetread show 2", "job 2 is parked: too thick", "/why?what=2"),
        ("PACS refused 1 result: no  →  wetread retry 7 …", "PACS refused 1 result: no", "/why?what=7"),
        ("no node runs: start `wetread serve`", "no node runs: start `wetread serve`", ""),
        ("the disk fills up", "the disk fills up", ""),
    ],
)  # fmt: skip
def test_a_page_links_to_what_a_command_line_would_type(words: str, told: str, address: str) -> None:
    found = notice(Alarm("kind", words))
    assert (found.words, found.address) == (told, address)


def test_a_sentence_loses_its_command_and_nothing_else() -> None:
    assert plain("No result: job 2 is parked. `wetread retry 2`.") == "No result: job 2 is parked."
