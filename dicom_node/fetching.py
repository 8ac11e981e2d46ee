"""Fetches from peers, beside everything else: what a study lacks, earlier studies, what an operator wants.

A fetch is a row of the ledger, and threads of their own make it. Nothing ever waits for them: neither the
watch, which goes on judging studies, nor a job. What comes arrives like anything else, and the count of the
peer is then a witness that the study is complete.

Priors never delay a job, for no model takes them as an input yet; they are here for whoever reads the result.
Whether the peer gave us the right patient is looked at twice: before, in its answers, and afterwards, in what
came.
"""

import queue
import threading
import time
from collections.abc import Iterable

import structlog

from dicom_node import web_query
from dicom_node.listing import Listing, list_study, missing, portions
from dicom_node.peers import PeerSettings, named
from dicom_node.prior_search import NoPatient, studies_of_patient
from dicom_node.priors import Priors, another_patient, chosen, patient_of
from dicom_node.receive import Receiver
from dicom_node.retrieve import RetrievalStopped, Retrieved
from dicom_node.retrieve_get import Getter
from dicom_node.retrieve_move import Mover
from dicom_node.retrieve_web import WebGetter
from dicom_node.routing import RuleAnswer
from dicom_node.senders import Senders
from dicom_node.settings import FetchSettings, NodeSite
from ledger.errors import PeerError, SiteError, WetreadError
from ledger.fetch import FetchId, FetchRecord, NewFetch, Purpose
from ledger.identifiers import AETitle, StudyId, Uid
from ledger.store.ledger import Ledger
from ledger.study import StudyRecord, StudyState

log = structlog.get_logger()

# A closed study that was left incomplete is not completed when a site switches retrieval on weeks later.
_CLOSED_FOR_S = 86_400.0


class Fetching:
    """The threads that fetch. Between `start` and `stop`."""

    def __init__(
        self, ledger: Ledger, site: NodeSite, receiver: Receiver, senders: Senders, *, port: int
    ) -> None:
        """`port` is the node's: what archives have to be told for C-MOVE."""
        self._ledger, self._site, self._receiver, self._senders = ledger, site, receiver, senders
        self._own, self._port = AETitle.parse(site.node.ae_title), port
        self._settings = site.fetch
        self._queue: queue.SimpleQueue[FetchId | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._busy: set[FetchId] = set()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"fetching-{number}", daemon=True)
            for number in range(self._settings.at_once)
        ]
        self._threads.append(threading.Thread(target=self._look, name="fetching", daemon=True))

    def start(self) -> None:
        """Begin, first of all with what an earlier node left."""
        for thread in self._threads:
            thread.start()

    def stop(self, within_s: float = 3.0) -> None:
        """Begin no other fetch, and leave those that are being made: they are made again after the start."""
        self._stopping.set()
        for _ in self._threads:
            self._queue.put(None)
        ends = time.monotonic() + within_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, ends - time.monotonic()))

    def look(self) -> None:
        """One round: ask for what studies lack, and hand what is due to the threads. Raises `SiteError`."""
        if any(peer.retrieve != "none" for peer in self._site.peers):
            self._ask_for_what_is_missing()
        for fetch_id in self._ledger.due_fetches():
            with self._lock:
                if fetch_id in self._busy:
                    continue
                self._busy.add(fetch_id)
            self._queue.put(fetch_id)

    def _look(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except SiteError as error:
                log.warning("fetch.not_looked_for", because=str(error))
            except Exception:  # The outermost loop of this thread: without it nothing would be fetched again.
                log.exception("fetch.stumbled")
            self._stopping.wait(self._settings.every_s)

    def _work(self) -> None:
        while (fetch_id := self._queue.get()) is not None and not self._stopping.is_set():
            try:
                self._make(self._ledger.fetch(fetch_id))
            except WetreadError as error:
                log.warning("fetch.waits", fetch=fetch_id, because=str(error))
                self._stopping.wait(self._settings.first_s)
            except Exception as error:  # The outermost loop of this thread: the next one comes.
                log.error("fetch.failed", fetch=fetch_id, error=type(error).__name__)  # noqa: TRY400 no values of strangers in the log
                self._stopping.wait(self._settings.first_s)
            finally:
                with self._lock:
                    self._busy.discard(fetch_id)

    # ------------------------------------------------------------------ what is wanted

    def _ask_for_what_is_missing(self) -> None:
        now_s = self._ledger.now()
        for lack in self._ledger.lacking():
            peer = named(self._site.peers, lack.peer)
            quiet_s = now_s - lack.last_arrival_at
            sending = self._senders.open_for(lack.study_id)
            needed_s = self._site.closing.quiet_open_s if sending else self._settings.missing_after_s
            if peer is None or peer.retrieve == "none" or quiet_s < needed_s:
                continue
            if lack.state is StudyState.CLOSED and quiet_s > _CLOSED_FOR_S:
                continue
            asked = self._ledger.ask_fetch(
                NewFetch(
                    purpose=Purpose.MISSING,
                    study=lack.study,
                    peer=lack.peer,
                    told_with=lack.study_id,
                    because=f"{lack.peer} has {lack.theirs}, and {lack.ours} are here",
                    # The same number again is no news: what could be had was had, or given up.
                    terms={"theirs": lack.theirs},
                )
            )
            if asked is not None:
                log.info("fetch.asked", fetch=asked, peer=lack.peer, missing=lack.theirs - lack.ours)

    # ------------------------------------------------------------------ how it is got

    def _make(self, asked: FetchRecord) -> None:
        """Make one attempt. Raises `SiteError` where the ledger cannot be used."""
        peer = named(self._site.peers, asked.peer)
        if peer is None or peer.retrieve == "none":
            known = "no peer of that name any more" if peer is None else 'retrieve = "none" for it'
            self._ledger.fetch_abandoned(asked.id, f"{asked.peer}: this site's settings have {known}")
            return
        began = time.monotonic()
        try:
            if asked.purpose is Purpose.PRIORS:
                because = self._find_priors(asked, peer)
            else:
                because = f"{self._bring(asked, peer)}, in {time.monotonic() - began:.1f} s"
        except RetrievalStopped as error:
            self._ledger.fetch_postponed(asked.id, str(error), retry_in_s=0.0, counts=False)
        except PeerError as error:
            self._not_fetched(asked, str(error))
        except (NoPatient, NotThePatient, NotThere) as error:
            self._ledger.fetch_abandoned(asked.id, str(error))
            log.warning("fetch.abandoned", fetch=asked.id, peer=peer.name, because=str(error))
        else:
            self._ledger.fetch_done(asked.id, because)
            log.info("fetch.done", fetch=asked.id, peer=peer.name, because=because)

    def _not_fetched(self, asked: FetchRecord, because: str) -> None:
        attempt = asked.attempts + 1
        after = self._ledger.fetch(asked.id)
        if after.wanted:
            because = f"{after.got} of {after.wanted} came: {because}"
        log.warning("fetch.postponed", fetch=asked.id, peer=asked.peer, attempt=attempt, because=because)
        if attempt >= self._settings.attempts_max:
            self._ledger.fetch_abandoned(asked.id, f"given up after {attempt} attempts; {because}")
            return
        self._ledger.fetch_postponed(asked.id, because, retry_in_s=backoff_s(attempt, self._settings))

    def _bring(self, asked: FetchRecord, peer: PeerSettings) -> str:
        """Fetch what of a study is not here. What became of it, as a sentence.

        Raises `PeerError` where not all came, `NotThere`, `NotThePatient`.
        """
        if peer.retrieve == "wado":
            listing = web_query.list_study(peer, study=asked.study, deadline_s=peer.deadline_s)
        else:
            listing = list_study(peer, calling=self._own, study=asked.study, deadline_s=peer.deadline_s)
        if not listing.series:
            raise NotThere(f"{peer.name} does not know the study")
        wanted = missing(listing, self._ledger.held_of(asked.study), self._ledger.made_of(asked.study))
        if wanted:
            self._ledger.fetch_begins(asked.id, wanted)
            said = self._retrieve(asked, peer, listing, wanted)
            left = wanted - self._ledger.held_of(asked.study)
            if left:
                reason = "; ".join(said.said) or f"it says that it sent {said.completed}"
                raise NotAllCame(f"{len(left)} did not come from {peer.name}: {reason}")
        if asked.purpose is Purpose.PRIOR:
            self._check_patient(asked)
        record = self._ledger.fetch(asked.id)
        if not record.wanted:
            return f"all {len(listing.instances)} that {peer.name} lists are here"
        how = {"move": "C-MOVE", "get": "C-GET", "wado": "WADO-RS"}[peer.retrieve]
        return f"{record.got} of {record.wanted} fetched from {peer.name} by {how}"

    def _retrieve(
        self, asked: FetchRecord, peer: PeerSettings, listing: Listing, wanted: Iterable[Uid]
    ) -> Retrieved:
        wishes = frozenset(wanted)
        asking = portions(listing, wishes)
        if peer.retrieve == "move":
            mover = Mover(
                peer=peer,
                own=self._own,
                port=self._port,
                deadline_s=peer.retrieve_s,
                silence_s=peer.retrieve_silence_s,
                stopping=self._stopping,
            )
            return mover.move(asking, lambda: self._ledger.count_held(asked.study))
        # One sender of the closing rules, like an association that somebody opened to us.
        sender = object()
        self._senders.opened(sender)
        try:
            if peer.retrieve == "wado":
                return self._web_getter(peer, sender).get(asking, wishes)
            getter = Getter(
                peer=peer,
                own=self._own,
                receiver=self._receiver,
                limits=self._site.node,
                stored=lambda study_id: self._senders.sent(sender, study_id),
                deadline_s=peer.retrieve_s,
                silence_s=peer.retrieve_silence_s,
                stopping=self._stopping,
                # What fails one way may come the other way: see `storage_contexts`.
                each_syntax=asked.attempts % 2 == 0,
            )
            return getter.get(asking, wishes, listing)
        finally:
            self._senders.closed(sender)

    def _web_getter(self, peer: PeerSettings, sender: object) -> WebGetter:
        return WebGetter(
            peer=peer,
            own=self._own,
            receiver=self._receiver,
            limits=self._site.node,
            stored=lambda study_id: self._senders.sent(sender, study_id),
            deadline_s=peer.retrieve_s,
            silence_s=peer.retrieve_silence_s,
            stopping=self._stopping,
        )

    def _find_priors(self, asked: FetchRecord, peer: PeerSettings) -> str:
        """Look for the patient's earlier studies, and ask for those that are wanted. Raises `NoPatient`."""
        assert asked.told_with is not None, "priors are those of a study that is here"
        current = self._ledger.study(asked.told_with)
        patient = patient_of(self._headers(current.id))
        within_s = peer.deadline_s
        if peer.retrieve == "wado":
            found = web_query.studies_of_patient(peer, patient=patient, deadline_s=within_s)
        else:
            found = studies_of_patient(peer, calling=self._own, patient=patient, deadline_s=within_s)
        wanted = Priors.model_validate({**asked.terms, "peer": peer.name})
        choice = chosen(found, wanted, current=current.study, on=current.study_date, patient=patient)
        for number, prior in enumerate(choice.priors, start=1):
            self._ledger.ask_fetch(
                NewFetch(
                    purpose=Purpose.PRIOR,
                    study=prior.study,
                    peer=peer.name,
                    told_with=current.id,
                    because=f"prior {number} of {len(choice.priors)}: {prior.study}",
                ),
                again=True,
            )
        strangers = ""
        if choice.strangers:
            strangers = f"; {choice.strangers} left out, for they may be of another patient with the same ID"
        return f"{len(choice.priors)} of the studies of {peer.name} are priors{strangers}"

    def _check_patient(self, asked: FetchRecord) -> None:
        """Raise `NotThePatient` where what came is not of the patient of the study that it is a prior of."""
        assert asked.told_with is not None, "a prior is the prior of a study"
        ours = patient_of(self._headers(asked.told_with))
        came = self._ledger.study_by_uid(asked.study)
        if came is None:
            return
        for record in self._ledger.series_of(came.id):
            if because := another_patient(ours, patient_of(record.headers)):
                raise NotThePatient(f"what came is no prior, but of another patient, it seems: {because}")

    def _headers(self, study_id: StudyId) -> dict[str, str]:
        """Headers of a study that is here: of its first series."""
        series = self._ledger.series_of(study_id)
        if not series:
            raise NoPatient("its images are not here any more, and with them what they say of the patient")
        return dict(series[0].headers)


class NotAllCame(PeerError):
    """The peer ended a retrieval in order, and not all that it listed is here."""


class NotThere(WetreadError):
    """The peer does not know the study that is to be fetched from it."""


class NotThePatient(WetreadError):
    """What a peer gave as a prior says that it is of another patient."""


def backoff_s(attempt: int, settings: FetchSettings) -> float:
    """Seconds to wait after the `attempt`-th failure, from 1."""
    return min(settings.longest_s, settings.first_s * 2.0 ** min(attempt - 1, 60))


def ask_for_priors(ledger: Ledger, study: StudyRecord, answers: Iterable[RuleAnswer]) -> None:
    """Ask for the priors that rules want which take a series of the study; once for each rule's terms.

    Called before the study is closed: where the node dies in between, it is asked for again, which is once.
    """
    for rule in dict.fromkeys(answer.rule.name for answer in answers if answer.taken and answer.rule.priors):
        priors = next(answer.rule.priors for answer in answers if answer.rule.name == rule)
        assert priors is not None
        ledger.ask_fetch(
            NewFetch(
                purpose=Purpose.PRIORS,
                study=study.study,
                peer=priors.peer,
                told_with=study.id,
                because=f"rule {rule} wants {priors.number} of the patient's earlier studies",
                terms=priors.terms(),
            )
        )
