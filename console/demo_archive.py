"""An archive for the demo: a real DICOM storage SCP in a process of its own that keeps what it receives.

    python -m console.demo_archive FOLDER PORT AE_TITLE

It answers C-ECHO and C-STORE, on loopback only, and prints `ready PORT`. It is there so that the demo needs
nothing but Python; it is no archive for anything else.
"""

import signal
import sys
import threading
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE, AllStoragePresentationContexts, VerificationPresentationContexts, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event

SUCCESS = 0x0000
CANNOT_UNDERSTAND = 0xC000  # PS3.4 §B.2.3


class DemoArchive:
    """Keeps each SOP Instance as `SEG-1.dcm`, `SR-1.dcm`, …: a person looks into this folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kept: dict[str, Path] = {}
        self._lock = threading.Lock()

    def keep(self, event: Event) -> int:
        """Store one instance as it was sent; the same SOP Instance again replaces itself."""
        request = event.request
        assert isinstance(request, C_STORE)
        modality = str(event.dataset.get("Modality", ""))
        if not (modality.isascii() and modality.isalpha()):
            return CANNOT_UNDERSTAND
        with self._lock:
            uid = str(request.AffectedSOPInstanceUID)
            number = 1 + sum(path.name.startswith(f"{modality}-") for path in self._kept.values())
            path = self._kept.get(uid, self.folder / f"{modality}-{number}.dcm")
            temporary = path.with_suffix(".part")
            temporary.write_bytes(event.encoded_dataset())
            temporary.rename(path)
            self._kept[uid] = path
        return SUCCESS


def received(folder: Path) -> dict[str, Path]:
    """The files that the archive at `folder` keeps, by SOP Instance UID."""
    return {
        str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID): path
        for path in folder.glob("*.dcm")
    }


def main() -> None:
    """Serve until SIGTERM."""
    folder, port, title = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    folder.mkdir(parents=True, exist_ok=True)
    archive = DemoArchive(folder)
    ae = AE(ae_title=title)
    ae.supported_contexts = [*AllStoragePresentationContexts, *VerificationPresentationContexts]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, archive.keep)])
    assert server is not None
    sys.stdout.write(f"ready {server.server_address[1]}\n")
    sys.stdout.flush()
    stop.wait()
    server.shutdown()


if __name__ == "__main__":
    main()
