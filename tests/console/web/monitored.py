"""A site in which everything that is counted has happened, to patients whose names must be nowhere."""

from pathlib import Path

from console.settings import Site, load_site
from ledger.alarm import SeenAlarm
from ledger.delivery import DeliveryEvent
from ledger.identifiers import AETitle, Digest, JobId
from ledger.job import JobEvent
from ledger.notification import NewNotification, NotificationEvent
from ledger.result import Role
from ledger.store.ledger import Ledger
from ledger.study import Arrival
from ledger.usage import Gauges, Usage, WorkerReport
from tests.ledger.site import claim, close, finish, new_job, send, slice_of

#: Whoever finds one of these in a figure has found a patient, or a stranger.
CANARIES = ("KANARIE", "8675309", "19470102", "1.2.777", "2.25.777", "Kanarienvogel", "OUTSIDER", "203.0.113")
#: What the device may be called is no secret.
GPU = "NVIDIA H100"

SETTINGS = """
[spool]
reserve_bytes = 0
soft_percent = 100
hard_percent = 100
resume_percent = 100

[[peer]]
name = "CT-1"
ae_title = "SCANNER"
host = "127.0.0.1"
port = 1
send = false

[[peer]]
name = "PACS"
ae_title = "PACS"
host = "127.0.0.1"
port = 1
receive = false

[[peer]]
name = "RESEARCH"
ae_title = "RESEARCH"
host = "127.0.0.1"
port = 1
receive = false

[[rule]]
name = "lungs"
model = "lung_ct"
modality = "CT"
deliver_to = ["PACS", "RESEARCH"]

[[notify]]
name = "RIS"
kind = "hl7v2"
archive = "PACS"
[notify.to]
url = "mllp://127.0.0.1:1"
"""


def settings(folder: Path, more: str = "") -> Path:
    """A settings file in `folder`, with a spool beside it."""
    (folder / "wetread-data" / "spool").mkdir(parents=True, exist_ok=True)
    path = folder / "wetread.toml"
    path.write_text(SETTINGS + more)
    return path


def monitored_site(folder: Path, more: str = "") -> Site:
    """The site whose names the figures may say."""
    return load_site(settings(folder, more))


def canary_slice(number: int, *, instance: int = 1, calling: str = "SCANNER") -> Arrival:
    """A slice of a patient who must not be told of."""
    one = slice_of(
        f"1.2.777.{number}",
        instance,
        PatientName=f"KANARIE^Patient{number}",
        PatientID=f"8675309-{number}",
        PatientBirthDate="19470102",
        AccessionNumber=f"8675309{number}",
        StudyDescription="Thorax Kanarienvogel",
    )
    fields = {name: getattr(one, name) for name in one.__dataclass_fields__}
    return Arrival(**{**fields, "calling": AETitle(calling), "address": "203.0.113.9"})


def received(ledger: Ledger, number: int, *, calling: str = "SCANNER") -> JobId:
    """A study that was received and closed, with its job."""
    arrivals = [canary_slice(number, instance=one, calling=calling) for one in (1, 2, 3)]
    study_id = ledger.record_arrivals(arrivals)[0].study_id
    opened = close(ledger, study_id, [new_job(ledger, study_id, to=("PACS", "RESEARCH"))])
    assert opened
    return opened[0]


def happen(ledger: Ledger, begin: int = 1) -> None:
    """Everything that is counted happens at least once. `begin`: the number of the first patient."""
    job_id = received(ledger, begin)
    deliveries = finish(ledger, claim(ledger, job_id, owner="host-1/7/x"), of=f"2.25.777{begin}")
    by = {(one.peer, one.result.role): one.id for one in ledger.deliveries_of(job_id)}
    assert len(deliveries) == 4
    for role in (Role.SEGMENTATION, Role.REPORT):
        send(ledger, by["PACS", role])
        ledger.confirm_delivery(by["PACS", role], "found there")
    send(ledger, by["RESEARCH", Role.SEGMENTATION], DeliveryEvent.POSTPONED, retry_in_s=600.0)
    ledger.record_usage(
        job_id,
        "lung_ct",
        Usage(model="lung_ct@1.0.0", device=GPU, voxels=9, host_peak=1 << 30, device_peak=3 << 30),
    )
    parked = received(ledger, begin + 1)
    held = claim(ledger, parked)
    ledger.return_job(held, JobEvent.CRASHED, because="it died", retry_in_s=0.0, attempts_max=3)
    ledger.park_job(claim(ledger, parked), "KANARIE: its own words")
    received(ledger, begin + 2, calling="OUTSIDER")  # It waits in the queue.
    claim(ledger, received(ledger, begin + 3))  # It runs.
    ledger.record_arrivals([canary_slice(begin + 4)])  # It is open.
    ledger.record_arrivals([canary_slice(begin + 4)])  # The same again.
    ledger.record_event(
        "node",
        "association_rejected",
        because="OUTSIDER is not known here",
        detail={"count": 3, "calling": "OUTSIDER", "address": "203.0.113.9"},
    )
    ledger.record_quarantine(
        sop_instance=f"1.2.777.{begin}.666",
        digest=Digest(f"{begin:064x}"),
        path=f"quarantine/KANARIE-{begin}.dcm",
        because="KANARIE: it is no DICOM",
        calling="OUTSIDER",
        address="203.0.113.9",
        study_id=None,
    )
    ledger.report_worker(
        WorkerReport(
            owner="host-1/7/x",
            device=GPU,
            models=("lung_ct",),
            budget_bytes=64 << 30,
            taken_bytes=2 << 30,
            gauges=Gauges(used_bytes=5 << 30, total_bytes=80 << 30, temperature_c=41.0),
        )
    )
    ledger.keep_alarms([SeenAlarm(kind="peer away", about="RESEARCH", words="RESEARCH is away", urgent=True)])


def told(ledger: Ledger, site: Site) -> None:
    """The RIS took one message, and could not be reached for another."""
    wish = site.receivers[0].wish
    for number, one in enumerate(ledger.owed_notifications([wish])):
        opened = ledger.open_notification(
            one, NewNotification(control_id=f"W{number}", body="PID|8675309|KANARIE")
        )
        assert opened is not None
        held = ledger.claim_notification(opened, owner="sender-1", lease_s=60)
        assert held is not None
        ledger.record_notification(
            held, NotificationEvent.POSTPONED, because="nobody listens", retry_in_s=0.0
        )
        held = ledger.claim_notification(opened, owner="sender-1", lease_s=60)
        assert held is not None
        ledger.record_notification(held, NotificationEvent.ACCEPTED, because="it answered AA")
