"""A PACS that says what it is told to say about how many instances it has."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt

from dicom_node.peers import PeerSettings
from dicom_node.query import STUDY_ROOT_FIND

_OF_STUDY, _OF_SERIES = 0x00201208, 0x00201209


@dataclass
class CountingPacs:
    """Change `whole` and `series` while it runs; `asked` says what was asked."""

    study: str
    whole: str | None = None  #: Number of Study Related Instances, as text; None: it does not know the study
    series: dict[str, str] = field(default_factory=dict)  #: of each series, as text
    asked: list[tuple[str, str]] = field(default_factory=list)  #: (level, Study Instance UID)
    port: int = 0

    @property
    def settings(self) -> PeerSettings:
        return PeerSettings(name="PACS", ae_title="PACS", host="127.0.0.1", port=self.port, count="find")

    def matches(self, level: str, study: str) -> Iterator[Dataset]:
        self.asked.append((level, study))
        if study != self.study or self.whole is None:
            return
        if level == "STUDY":
            yield _match(study, _OF_STUDY, self.whole)
        for uid, number in self.series.items() if level == "SERIES" else ():
            match = _match(study, _OF_SERIES, number)
            match.SeriesInstanceUID = uid
            yield match


def _match(study: str, tag: int, number: str) -> Dataset:
    match = Dataset()
    match.StudyInstanceUID = study
    # In implicit VR nobody sees that this is no integer string: it may say anything.
    match.add(DataElement(tag, "LO", number))
    return match


@contextmanager
def counting_pacs(study: str, whole: str | None = None, **series: str) -> Iterator[CountingPacs]:
    """A running one on loopback. Keywords are series: `_1="7"` says 7 of series `study`.1."""
    pacs = CountingPacs(
        study, whole, {study + name.replace("_", "."): number for name, number in series.items()}
    )

    def on_find(event: evt.Event) -> object:
        asked = event.identifier
        for match in pacs.matches(asked.QueryRetrieveLevel, asked.StudyInstanceUID):
            yield 0xFF00, match
        yield 0x0000, None

    ae = AE("PACS")
    ae.add_supported_context(str(STUDY_ROOT_FIND), ImplicitVRLittleEndian)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, on_find)])
    pacs.port = server.server_address[1]
    try:
        yield pacs
    finally:
        server.shutdown()
