"""
`python -m worker compute|deliver|dispatch`: reads a `WorkerSite` as JSON from standard input, says `ready` on
standard output, and works until SIGTERM. This file composes the parts; it is the only one here that reads the
environment.
"""

import argparse
import os
import secrets
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial

import structlog
from celery import Celery, signals
from celery.exceptions import SecurityWarning
from pydantic import ValidationError

from dicom_node.peers import PeerSettings
from dicom_node.readback import find_instance
from dicom_node.spool import Spool
from dicom_node.web_query import find_instance as find_instance_by_web
from ledger import failpoint, journal
from ledger.delivery import DeliveryRecord
from ledger.errors import WetreadError
from ledger.identifiers import AETitle
from ledger.store.ledger import Ledger
from worker.app import DELIVER, JOB_QUEUES, application
from worker.attempt import Child
from worker.compute import Bench
from worker.deliver import Post
from worker.dispatch import Relay
from worker.notify import Messenger, Notices
from worker.perform import Performer
from worker.pool import WakingThreads, gated
from worker.proof import prove
from worker.reject import Rejections
from worker.settings import WorkerSite
from worker.stand_in import StandIns
from worker.sweep import sweep
from worker.tasks import open_to_deliveries, open_to_jobs, open_to_notifications
from worker.workplace import Workplace

log = structlog.get_logger()

# All that the child gets of our environment: where programs and libraries are, and which GPU is ours.
# Anything else may be a credential.
_CHILD_MAY_SEE = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME",
    "VIRTUAL_ENV", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "CUDA_PATH",
    "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "PYTORCH_CUDA_ALLOC_CONF", "SystemRoot",
)  # fmt: skip


# One job computes, one is read before it, two are encoded after it; `worker.seats` decides.
_HINTS_AT_ONCE = 4


def main() -> int:
    """Run one part until SIGTERM. The exit status is 0 after SIGTERM, 2 for settings that cannot be."""
    options = argparse.ArgumentParser(prog="python -m worker", description="One part of the worker.")
    options.add_argument("part", choices=["compute", "deliver", "dispatch"])
    options.add_argument("--log", choices=["json", "text"], default="json")
    options.add_argument("--level", default="info")
    asked = options.parse_args()

    journal.configure(json=asked.log == "json", level=asked.level)
    if point := os.environ.get("WETREAD_FAILPOINT"):
        failpoint.arm(point)
    try:
        site = WorkerSite.model_validate_json(sys.stdin.buffer.read())
    except ValidationError as error:
        for one in error.errors(include_input=False, include_url=False):
            print(f"{'.'.join(map(str, one['loc']))}: {one['msg']}", file=sys.stderr)  # noqa: T201
        return 2
    try:
        ledger = Ledger.open(site.ledger)
    except WetreadError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    owner = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
    parts: dict[str, Callable[[WorkerSite, Ledger, str], int]] = {
        "compute": partial(_compute, log_style=asked.log),
        "deliver": _deliver,
        "dispatch": _dispatch,
    }
    try:
        return parts[asked.part](site, ledger, owner)
    finally:
        ledger.close()


def _compute(site: WorkerSite, ledger: Ledger, owner: str, *, log_style: str) -> int:
    spool = Spool(site.spool)
    workplace = Workplace(spool.path / "work", owner.replace("/", "-"))
    child = Child(site.worker, _environment_of_child(os.environ), log=log_style)
    bench = Bench(
        ledger,
        spool,
        site.worker,
        child,
        owner=owner,
        workplace=workplace,
        time_zone=site.time_zone,
        models=site.models,
        peers=site.peers,
    )
    app = application(site.queue)
    open_to_jobs(app, bench.compute)
    child.start()  # Torch is imported while the queue is still being joined.
    bench.open()
    try:
        return _consume(
            "compute",
            app,
            JOB_QUEUES,
            owner,
            at_once=_HINTS_AT_ONCE,
            stop=bench.stop,
            stop_s=site.worker.stop_s,
            pool=gated(bench.seats),
        )
    finally:
        bench.close()
        child.kill()
        workplace.close()


def _deliver(site: WorkerSite, ledger: Ledger, owner: str) -> int:
    workplace = Workplace(site.spool.path / "work", owner.replace("/", "-"))
    post = Post(ledger, Spool(site.spool), site, workplace, owner=owner)
    messenger = Messenger(ledger, site, owner=owner)
    app = application(site.queue)
    open_to_deliveries(app, post.deliver)
    open_to_notifications(app, messenger.tell)

    def stop() -> None:
        post.stop()
        messenger.stop()

    def give_back() -> None:
        post.give_back()
        messenger.give_back()

    try:
        return _consume(
            "deliver",
            app,
            (DELIVER,),
            owner,
            at_once=site.delivery.at_once,
            stop=stop,
            stop_s=site.delivery.stop_s,
            give_back=give_back,
        )
    finally:
        workplace.close()


def _dispatch(site: WorkerSite, ledger: Ledger, owner: str) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    calling = AETitle.parse(site.node_ae_title)

    workplace = Workplace(site.spool.path / "work", owner.replace("/", "-"))
    spool = Spool(site.spool)
    rejections = Rejections(ledger, spool, site, workplace)
    stand_ins = StandIns(ledger, spool, site, workplace)
    notices = Notices(ledger, spool, site)
    performer = Performer(ledger, site)

    def found(peer: PeerSettings, sent: DeliveryRecord) -> bool:
        result, within_s = sent.result, peer.deadline_s
        named = {"study": result.study, "series": result.series, "sop_instance": result.sop_instance}
        if peer.web is not None:
            return find_instance_by_web(peer, **named, deadline_s=within_s)
        return find_instance(peer, calling=calling, **named, deadline_s=within_s)

    rounds = [
        _every(site.worker.sweep_s, stop, "sweep", lambda: sweep(ledger, site.worker)),
        _every(
            site.delivery.proof_s,
            stop,
            "proof",
            # Its own thread: a silent archive must not hold up the relay.
            lambda: prove(ledger, site, found),
        ),
        _every(site.delivery.proof_s, stop, "rejections", rejections.open),
        _every(site.delivery.proof_s, stop, "given up", stand_ins.open),
        _every(site.delivery.proof_s, stop, "notifications", notices.open),
        _every(site.delivery.proof_s, stop, "workitems", performer.round),
    ]
    log.info("worker.started", part="dispatch", owner=owner)
    _say_ready()
    Relay(ledger, application(site.queue)).run(stop, every_s=site.worker.relay_s)
    for one in rounds:
        one.join(site.worker.stop_s)
    workplace.close()
    return 0


def _consume(
    part: str,
    app: Celery,
    queues: tuple[str, ...],
    owner: str,
    *,
    at_once: int,
    stop: Callable[[], None],
    stop_s: float,
    give_back: Callable[[], None] = lambda: None,
    pool: type[WakingThreads] = WakingThreads,
) -> int:
    """Run a Celery worker until SIGTERM, and at most `stop_s` longer.

    Threads, and not processes: time limits and kills are the business of `worker.attempt`, whose child needs
    no second parent; a thread can be told to stop at once; and the main thread goes on answering Redis and
    signals.
    """

    def on_shutting_down(**_: object) -> None:
        stop()
        threading.Thread(target=_leave, args=(stop_s, give_back), daemon=True).start()

    def on_ready(**_: object) -> None:
        if not said_ready.is_set():  # It comes again after every lost connection.
            said_ready.set()
            log.info("worker.started", part=part, owner=owner)
            _say_ready()

    # Celery fears pickled messages under root. Ours are JSON, and the site decides who we are.
    warnings.simplefilter("ignore", SecurityWarning)
    said_ready = threading.Event()
    signals.setup_logging.connect(_leave_logging_alone)
    signals.worker_shutting_down.connect(on_shutting_down)
    signals.worker_ready.connect(on_ready)
    worker = app.Worker(
        hostname=f"{queues[0]}@{socket.gethostname()}-{os.getpid()}",
        pool=pool,
        concurrency=at_once,
        queues=list(queues),
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _leave(stop_s: float, give_back: Callable[[], None]) -> None:
    """The end of patience: what still runs is given back, or will be when its lease runs out."""
    time.sleep(stop_s)
    log.warning("worker.left_early", after_s=stop_s)
    try:
        give_back()
    finally:
        os._exit(0)


def _leave_logging_alone(**_: object) -> None:
    """Celery configures logging only if nobody listens to this signal; the journal has done so already."""


def _every(seconds: float, stop: threading.Event, name: str, act: Callable[[], None]) -> threading.Thread:
    def loop() -> None:
        while not stop.is_set():
            try:
                act()
            except Exception as error:  # the outermost loop of this thread: the next round comes
                log.error(f"{name}.failed", error=type(error).__name__)  # noqa: TRY400 no values of strangers in the log
            stop.wait(seconds)

    thread = threading.Thread(target=loop, name=name, daemon=True)
    thread.start()
    return thread


def _environment_of_child(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in _CHILD_MAY_SEE if name in environment}


def _say_ready() -> None:
    print("ready", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
