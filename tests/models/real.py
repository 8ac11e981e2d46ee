"""Real images that are not part of the repository: skipped with a reason where they are absent."""

from pathlib import Path

import highdicom as hd
import pydicom
import pytest

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def folder(name: str) -> Path:
    """The folder `name` of the real images."""
    path = DATA / name
    if not path.is_dir():
        pytest.skip(f"the real images {name} are not here")
    return path


def series(name: str) -> tuple[hd.Volume, dict[str, str]]:
    """The CT series in folder `name` as a volume, and its headers."""
    instances = [pydicom.dcmread(path) for path in sorted(folder(name).rglob("*.dcm"))]
    first = instances[0]
    wanted = ("Modality", "ConvolutionKernel", "SliceThickness", "ContrastBolusAgent")
    headers = {keyword: str(first[keyword].value or "") for keyword in wanted if keyword in first}
    return hd.get_volume_from_series(instances), headers
