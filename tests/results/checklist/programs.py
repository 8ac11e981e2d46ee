"""What other people's programs say of our files."""

import subprocess
from collections.abc import Collection, Iterable
from pathlib import Path

from pydicom import dcmread

from tests.patience import patient
from tests.peers.programs import find


def run(program: str, *arguments: object, may_end: Collection[int] = (0,)) -> str:
    """What `program` printed; fails unless it ended with 0, or as it may."""
    command = [str(find(program)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=patient(60))
    said = (done.stdout + done.stderr).decode("latin-1")
    assert done.returncode in may_end, f"{program} ended with {done.returncode}:\n{said}"
    return said


def news(lines: Iterable[str], known: Iterable[str]) -> list[str]:
    """Errors and warnings that are none of the `known` ones."""
    known = tuple(known)
    return [
        line for line in lines
        if line.startswith(("Error", "Warning")) and not any(one in line for one in known)
    ]  # fmt: skip


def consistent(files: Iterable[Path]) -> list[str]:
    """What dcentvfy has to say of files that belong to one study."""
    files = list(files)
    # In an SR, Accession Number is also an attribute of the series' request: dcentvfy compares the two.
    known = ["Element=<AccessionNumber> IE <Series> versus <Study>"]
    # A structure set refers to its study as to an instance (PS3.3 §C.8.8.5), and dcentvfy looks for that.
    for study in {dcmread(one, specific_tags=["StudyInstanceUID"]).StudyInstanceUID for one in files}:
        known.append(f"Missing SOPInstanceUID that was referenced - {study} for file")
    return news(run("dcentvfy", *files, may_end=(0, 1)).splitlines(), known)
