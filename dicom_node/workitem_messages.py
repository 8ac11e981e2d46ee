"""What is said about workitems: Unified Procedure Step as data sets (PS3.4 Annex CC, PS3.3 §C.30).

Pure functions between data sets as bytes and values. What a task manager writes is never trusted: what cannot
be read is a `PeerConfused`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset
from pynetdicom.dsutils import encode

from dicom_node.headers import Headers, HeaderUnreadable, read_items
from dicom_node.peers import IMPLICIT_LITTLE_ENDIAN
from dicom_node.upper_layer import PeerConfused
from ledger.identifiers import Uid
from ledger.workitem import Output

#: The SOP class of every workitem, whatever it is asked by (PS3.4 §CC.3.1)
UPS_PUSH = Uid("1.2.840.10008.5.1.4.34.6.1")
#: What a performer negotiates: C-FIND, N-ACTION, N-SET, N-GET (PS3.4 Table CC.2.1-1)
UPS_PULL = Uid("1.2.840.10008.5.1.4.34.6.3")

CHANGE_STATE = 1  # Action Type ID of Change UPS State (PS3.4 §CC.2.1.2)

_OWN_SCHEME = "99WETREAD"
_WORK, _INPUT = "ScheduledWorkitemCodeSequence", "InputInformationSequence"
_READ = frozenset(
    {_WORK, _INPUT, "SOPInstanceUID", "StudyInstanceUID", "CodeValue", "CodingSchemeDesignator"}
)


@dataclass(frozen=True, slots=True)
class Listed:
    """One workitem of a list: what it is called, what is to be done, and to which study."""

    sop_instance: Uid
    study: Uid
    code: str  #: Scheduled Workitem Code, as "value^scheme"


def question(station: str) -> bytes:
    """The identifier that asks for what is scheduled and ready; of `station` alone, unless that is empty."""
    asked = Dataset()
    asked.SOPClassUID = asked.SOPInstanceUID = asked.StudyInstanceUID = ""
    asked.ProcedureStepState = "SCHEDULED"
    asked.InputReadinessState = "READY"
    asked.ScheduledWorkitemCodeSequence = [_code_keys()]
    asked.InputInformationSequence = [_input_keys()]
    if station:
        keys = _code_keys()
        keys.CodeValue = station
        asked.ScheduledStationNameCodeSequence = [keys]
    return _encoded(asked)


def listed(data: bytes) -> Listed:
    """One match. Raises `PeerConfused`, also where it names no study or nothing to be done."""
    items: dict[str, list[Headers]] = {_WORK: [], _INPUT: [], "": []}
    try:
        for sequence, said in read_items(data, Uid(IMPLICIT_LITTLE_ENDIAN), _READ):
            items[sequence].append(said)
        [code], [match] = items[_WORK], items[""]
        studies = {item["StudyInstanceUID"] for item in items[_INPUT]}
        [study] = studies | ({match["StudyInstanceUID"]} if match.get("StudyInstanceUID") else set())
        return Listed(
            Uid.parse(match["SOPInstanceUID"]),
            Uid.parse(study),
            f"{code['CodeValue']}^{code['CodingSchemeDesignator']}",
        )
    except HeaderUnreadable as error:
        raise PeerConfused(f"its workitem cannot be read: {error}") from None
    except (KeyError, ValueError) as error:
        raise PeerConfused(
            f"a workitem of it names no work or not one study ({type(error).__name__})"
        ) from None


def state_change(state: str, transaction: Uid) -> bytes:
    """Action Information of Change UPS State: "IN PROGRESS", "COMPLETED" or "CANCELED"."""
    asked = Dataset()
    asked.ProcedureStepState = state
    asked.TransactionUID = str(transaction)
    return _encoded(asked)


def progress(transaction: Uid, percent: int, words: str) -> bytes:
    """The Modification List that says how far it is (PS3.3 §C.30.2)."""
    said = Dataset()
    said.TransactionUID = str(transaction)
    said.ProcedureStepProgressInformationSequence = [_progress(percent, words)]
    return _encoded(said)


def cancellation(transaction: Uid, at: datetime, because: str) -> bytes:
    """The Modification List that says why nothing comes."""
    said = Dataset()
    said.TransactionUID = str(transaction)
    item = Dataset()
    item.ProcedureStepProgressDescription = "Given up"
    item.ProcedureStepCancellationDateTime = _time(at)
    item.ReasonForCancellation = because
    said.ProcedureStepProgressInformationSequence = [item]
    return _encoded(said)


def performed(
    transaction: Uid,
    *,
    code: str,
    station: str,
    began: datetime,
    ended: datetime,
    outputs: Sequence[Output],
    retrieve_from: str,
    words: str,
) -> bytes:
    """The Modification List that says what was done: what its final state asks for (PS3.4 Table CC.2.5-3).

    `outputs` are by study and series in Output Information, each retrievable from the AE `retrieve_from`.
    """
    value, _, scheme = code.partition("^")
    step = Dataset()
    step.PerformedStationNameCodeSequence = [_code(station, _OWN_SCHEME, station)]
    step.PerformedWorkitemCodeSequence = [_code(value, scheme, value)]
    step.PerformedProcedureStepStartDateTime = _time(began)
    step.PerformedProcedureStepEndDateTime = _time(ended)
    step.OutputInformationSequence = _outputs(outputs, retrieve_from)
    said = Dataset()
    said.TransactionUID = str(transaction)
    said.ProcedureStepProgressInformationSequence = [_progress(100, words)]
    said.UnifiedProcedureStepPerformedProcedureSequence = [step]
    return _encoded(said)


def _outputs(outputs: Sequence[Output], retrieve_from: str) -> list[Dataset]:
    items = []
    for study, series in dict.fromkeys((one.study, one.series) for one in outputs):
        item = Dataset()
        item.TypeOfInstances = "DICOM"
        item.StudyInstanceUID, item.SeriesInstanceUID = str(study), str(series)
        item.ReferencedSOPSequence = [
            _reference(one) for one in outputs if (one.study, one.series) == (study, series)
        ]
        place = Dataset()
        place.RetrieveAETitle = retrieve_from
        item.DICOMRetrievalSequence = [place]
        items.append(item)
    return items


def _reference(output: Output) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = str(output.sop_class)
    item.ReferencedSOPInstanceUID = str(output.sop_instance)
    return item


def _progress(percent: int, words: str) -> Dataset:
    item = Dataset()
    item.ProcedureStepProgress = str(percent)
    item.ProcedureStepProgressDescription = words
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _code_keys() -> Dataset:
    return _code("", "", "")


def _input_keys() -> Dataset:
    item = Dataset()
    item.TypeOfInstances = item.StudyInstanceUID = item.SeriesInstanceUID = ""
    return item


def _time(at: datetime) -> str:
    return at.strftime("%Y%m%d%H%M%S")


def _encoded(dataset: Dataset) -> bytes:
    data = encode(dataset, is_implicit_vr=True, is_little_endian=True)
    assert data is not None, "our own data set is well-formed"
    return data
