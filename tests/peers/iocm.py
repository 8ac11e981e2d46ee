"""An archive that obeys rejection notes (IHE RAD TF-3 §4.66.4), on pynetdicom: it hides what they reject.

No archive that obeys them comes as a Debian or Python package; this one does what dcm4chee-arc does by
default: it refuses a note about what it does not have, and hides a note that is titled 113039 as well.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

_KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
_RETENTION_EXPIRED = "113039"
_REJECTS = {"113001", "113037", "113038", _RETENTION_EXPIRED}
_SOP_CLASS_NOT_SUPPORTED = 0x0122
_DUPLICATE_NOTE, _NO_SUCH_INSTANCE, _STILL_RETAINED = 0xA770, 0xA772, 0xA776


@dataclass
class Archive:
    """What it was sent, in the order of arrival, and what it hides."""

    retains: bool = False  #: Retention of its studies has not yet expired.
    refuses: str = ""  #: a SOP class that it does not take
    port: int = 0
    received: dict[str, Dataset] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)

    def shown(self) -> set[str]:
        """The modalities of what it lists."""
        return {str(one.Modality) for uid, one in self.received.items() if uid not in self.hidden}

    def notes(self) -> list[Dataset]:
        return [one for one in self.received.values() if one.SOPClassUID == _KEY_OBJECTS]

    def on_store(self, event: evt.Event) -> int:
        dataset = event.dataset
        uid = str(dataset.SOPInstanceUID)
        if dataset.SOPClassUID == self.refuses:
            return _SOP_CLASS_NOT_SUPPORTED
        if dataset.SOPClassUID == _KEY_OBJECTS:
            if uid in self.received:
                return _DUPLICATE_NOTE
            title = dataset.ConceptNameCodeSequence[0].CodeValue
            named = {
                str(item.ReferencedSOPInstanceUID)
                for study in dataset.CurrentRequestedProcedureEvidenceSequence
                for series in study.ReferencedSeriesSequence
                for item in series.ReferencedSOPSequence
            }
            if title in _REJECTS and not named <= self.received.keys():
                return _NO_SUCH_INSTANCE
            if title == _RETENTION_EXPIRED:
                if self.retains:
                    return _STILL_RETAINED
                self.hidden.add(uid)
            if title in _REJECTS:
                self.hidden |= named
        self.received[uid] = dataset
        return 0x0000

    def on_find(self, event: evt.Event) -> Iterator[tuple[int, Any]]:
        asked = event.identifier
        for uid, one in list(self.received.items()):
            if uid == asked.SOPInstanceUID and uid not in self.hidden:
                match = Dataset()
                match.QueryRetrieveLevel = "IMAGE"
                for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                    setattr(match, keyword, one[keyword].value)
                yield 0xFF00, match


@contextmanager
def iocm_archive(*, retains: bool = False, refuses: str = "") -> Iterator[Archive]:
    """A running archive on loopback."""
    archive = Archive(retains=retains, refuses=refuses)
    ae = AE("PACS")
    ae.supported_contexts = AllStoragePresentationContexts
    for syntax in AllStoragePresentationContexts[0].transfer_syntax or []:
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind, syntax)
    handlers = [(evt.EVT_C_STORE, archive.on_store), (evt.EVT_C_FIND, archive.on_find)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    archive.port = server.server_address[1]
    try:
        yield archive
    finally:
        server.shutdown()
