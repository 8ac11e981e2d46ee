"""What dciodvfy says of one of our files that is news."""

import subprocess
from pathlib import Path

from tests.patience import patient
from tests.peers.programs import find

#: Warnings that we know and mean; why: `tests/results/checklist/test_identity.py`.
_KNOWN = (
    "DeviceUID(0018,1002)> - Attribute is not present",
    "BodyPartExamined(0018,0015)> - Attribute is not present",
    "Standard Extended SOP Class",
    "99WETREAD",
    "CodingSchemeUID",
)


def complaints(path: Path, iod: str) -> list[str]:
    """Errors, and warnings that are news, of a file that dciodvfy takes for an `iod`."""
    done = subprocess.run(
        [find("dciodvfy"), "-new", path], capture_output=True, text=True, check=False, timeout=patient(60)
    )
    first, *lines = (done.stdout + done.stderr).splitlines()
    assert first == iod, first
    warnings = [
        line for line in lines if line.startswith("Warning") and not any(known in line for known in _KNOWN)
    ]
    return [*(line for line in lines if line.startswith("Error")), *warnings]
