"""
How long a viewer waits: our DICOMweb server and Orthanc's, the same study, in one run.

    python -m benchmarks.dicomweb [--slices 300] [--rounds 3]

What is asked is what OHIF asks when a study is opened: the list of studies, the series of one, the metadata
of the images, and every frame, over six connections as a browser has them; and the whole series in one
answer, as VolView and dicomweb-client ask. Medians; compare within one run.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from benchmarks.load import write
from tests.dicom_node.dicomweb.test_web_process import web_process
from tests.dicom_node.node_process import node_process
from tests.peers.orthanc import orthanc
from tests.peers.programs import find

STUDY, SERIES = "2.25.7", "2.25.8"
GIVE_UP_S = 120.0  # No further round begins after this.
CONNECTIONS = 6  # of a browser to one server
JSON = {"Accept": "application/dicom+json"}
FRAME = {"Accept": 'multipart/related; type="application/octet-stream"; transfer-syntax=*'}
FILES = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}


def main() -> None:
    """Measure everything and print one table."""
    options = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    options.add_argument("--slices", type=int, default=300)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "in", given.slices)
        with (
            node_process(folder) as node,
            web_process(folder) as (_, ready),
            orthanc(folder / "orthanc") as archive,
        ):
            for port, called in ((node.port, "WETREAD"), (archive.dicom_port, archive.ae_title)):
                subprocess.run(
                    [find("dcmsend"), "-aec", called, "+sd", "127.0.0.1", str(port), folder / "in"],
                    check=True, timeout=180, capture_output=True,
                )  # fmt: skip
            servers = {
                "Wetread": f"http://127.0.0.1:{ready.split()[1]}/dicom-web",
                "Orthanc": f"{archive.url}/dicom-web",
            }
            found: dict[str, dict[str, list[float]]] = {}
            for _ in range(given.rounds):
                for server, url in servers.items():
                    if time.monotonic() - began > GIVE_UP_S:
                        break
                    for what, ask in questions(url, given.slices).items():
                        start = time.perf_counter()
                        ask()
                        found.setdefault(what, {}).setdefault(server, []).append(time.perf_counter() - start)
    print(f"{given.slices} slices of 512 x 512, 16 bits; seconds, median of {given.rounds}\n")
    print(f"{'':34}{'Wetread':>10}{'Orthanc':>10}{'ratio':>8}")
    for what, times in found.items():
        ours, theirs = (statistics.median(times[server]) for server in ("Wetread", "Orthanc"))
        print(f"{what:34}{ours:10.3f}{theirs:10.3f}{ours / theirs:8.2f}")


def questions(url: str, slices: int) -> dict[str, Callable[[], None]]:
    """What is asked, by what the table calls it. Each checks that it got all of it."""
    session = requests.Session()
    series = f"{url}/studies/{STUDY}/series/{SERIES}"

    def listed(path: str, count: int) -> None:
        answer = session.get(f"{url}/{path}", headers=JSON, timeout=60)
        assert len(json.loads(answer.content)) == count, answer.text[:300]

    def frames() -> None:
        def one(number: int) -> int:
            place = f"{series}/instances/2.25.1{number}/frames/1"
            return len(session.get(place, headers=FRAME, timeout=60).content)

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            assert all(size > 512 * 512 * 2 for size in pool.map(one, range(slices)))

    def whole() -> None:
        size = 0
        with session.get(series, headers=FILES, stream=True, timeout=60) as answer:
            for piece in answer.iter_content(1 << 20):
                size += len(piece)
        assert size > slices * 512 * 512 * 2

    return {
        "studies": lambda: listed("studies", 1),
        "series of the study": lambda: listed(f"studies/{STUDY}/series", 1),
        "metadata of the series": lambda: listed(f"studies/{STUDY}/series/{SERIES}/metadata", slices),
        f"all frames, {CONNECTIONS} connections": frames,
        "all files in one answer": whole,
    }


if __name__ == "__main__":
    main()
