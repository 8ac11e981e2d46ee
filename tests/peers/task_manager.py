"""A task manager with a list of workitems, by pynetdicom: it keeps the rules of PS3.4 Annex CC."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import UnifiedProcedureStepPull

from tests.peers.loopback import free_port

_FINAL = ("COMPLETED", "CANCELED")


@dataclass
class TaskManager:
    """The list, and how often each workitem changed its state."""

    port: int = 0
    items: dict[str, Dataset] = field(default_factory=dict)
    locks: dict[str, str] = field(default_factory=dict)  #: workitem → the Transaction UID that locks it
    heard: list[tuple[str, str]] = field(default_factory=list)  #: (workitem, what was asked)

    def schedule(self, uid: str, study: str, code: str = "113106^DCM", station: str = "") -> None:
        """Put a workitem on the list."""
        item = Dataset()
        item.SOPClassUID, item.SOPInstanceUID = "1.2.840.10008.5.1.4.34.6.1", uid
        item.ProcedureStepState, item.InputReadinessState = "SCHEDULED", "READY"
        item.ScheduledWorkitemCodeSequence = [_code(*code.split("^"))]
        item.ScheduledStationNameCodeSequence = [_code(station, "99TEST")] if station else []
        images = Dataset()
        images.TypeOfInstances, images.StudyInstanceUID = "DICOM", study
        images.SeriesInstanceUID = f"{study}.1"
        item.InputInformationSequence = [images]
        self.items[uid] = item

    def state(self, uid: str) -> str:
        """Procedure Step State (0074,1000)."""
        return str(self.items[uid].ProcedureStepState)

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        stations = [str(one.CodeValue) for one in asked.get("ScheduledStationNameCodeSequence") or []]
        for item in self.items.values():
            for_stations = [str(one.CodeValue) for one in item.ScheduledStationNameCodeSequence]
            if item.ProcedureStepState == asked.ProcedureStepState and (
                not stations or stations == for_stations
            ):
                yield 0xFF00, item

    def act(self, event: evt.Event) -> tuple[int, Dataset | None]:
        uid, asked = str(event.request.RequestedSOPInstanceUID), event.action_information
        state, key = str(asked.ProcedureStepState), str(asked.TransactionUID)
        self.heard.append((uid, state))
        return self._change(uid, state, key), None

    def _change(self, uid: str, state: str, key: str) -> int:
        item = self.items.get(uid)
        now = "" if item is None else str(item.ProcedureStepState)
        unready = item is None or (state == "COMPLETED" and not _ready_to_complete(item))
        refusals = [
            (item is None, 0xC307),
            (state == "COMPLETED" == now, 0xB306),
            (state == "CANCELED" == now, 0xB304),
            (now in _FINAL, 0xC300),
            (state == now == "IN PROGRESS", 0xC302),
            (state != "IN PROGRESS" and now == "SCHEDULED", 0xC310),
            (state != "IN PROGRESS" and self.locks.get(uid) != key, 0xC301),
            (unready, 0xC304),
        ]
        for refused, status in refusals:
            if refused:
                return status
        self.locks[uid] = key
        self.items[uid].ProcedureStepState = state
        return 0x0000

    def set(self, event: evt.Event) -> tuple[int, Dataset | None]:
        uid, said = str(event.request.RequestedSOPInstanceUID), event.modification_list
        self.heard.append((uid, "N-SET"))
        item = self.items.get(uid)
        if item is None:
            return 0xC307, None
        if item.ProcedureStepState in _FINAL:
            return 0xC300, None
        if item.ProcedureStepState != "IN PROGRESS":
            return 0xC310, None
        if self.locks[uid] != str(said.get("TransactionUID")):
            return 0xC301, None
        del said.TransactionUID
        item.update(said)
        return 0x0000, None


def _ready_to_complete(item: Dataset) -> bool:
    """What the final state COMPLETED asks for (PS3.4 Table CC.2.5-3)."""
    [step] = item.get("UnifiedProcedureStepPerformedProcedureSequence") or [Dataset()]
    return all(
        step.get(keyword)
        for keyword in (
            "PerformedStationNameCodeSequence",
            "PerformedProcedureStepStartDateTime",
            "PerformedWorkitemCodeSequence",
            "PerformedProcedureStepEndDateTime",
        )
    )


def _code(value: str, scheme: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, value
    return code


@contextmanager
def task_manager(manager: TaskManager | None = None) -> Iterator[TaskManager]:
    """It runs until the block ends; `manager` with what it knew before where it was down meanwhile."""
    manager = manager or TaskManager()
    manager.port = manager.port or free_port()

    def found(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        return manager.find(event)  # as it is then: a test may change it

    application = AE("MANAGER")
    application.add_supported_context(UnifiedProcedureStepPull)
    server = application.start_server(
        ("127.0.0.1", manager.port),
        block=False,
        evt_handlers=[
            (evt.EVT_C_FIND, found),
            (evt.EVT_N_ACTION, manager.act),
            (evt.EVT_N_SET, manager.set),
        ],
    )
    try:
        yield manager
    finally:
        server.shutdown()
