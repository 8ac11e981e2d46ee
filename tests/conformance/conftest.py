"""The results of every kind of source, made once, beside whole source images that other programs can read."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.results.made import Made, make
from tests.results.series import KINDS, findings, not_analysed, nothing_found, with_pixels


@dataclass(frozen=True)
class Exhibit:
    """A run on disk with its source."""

    name: str
    made: Made
    images: tuple[Path, ...]


def _exhibit(name: str, folder: Path) -> Exhibit:
    negative = {"nothing found": nothing_found(), "not analysed": not_analysed()}
    if name in negative:
        made = make(folder, said=negative[name])
    else:
        made = make(folder, name, said=findings(KINDS[name], cautions=("The lung bases are cut off.",)))
    paths = []
    for index, image in enumerate(made.source.datasets):
        path = folder / f"image{index}.dcm"
        with_pixels(image).save_as(path, enforce_file_format=True)
        paths.append(path)
    return Exhibit(name, made, tuple(paths))


@pytest.fixture(scope="session", params=[*KINDS, "nothing found", "not analysed"])
def exhibit(request, tmp_path_factory) -> Exhibit:
    return _exhibit(request.param, tmp_path_factory.mktemp(request.param.replace(" ", "-")))


@pytest.fixture(scope="session", params=list(KINDS))
def drawn(request, tmp_path_factory) -> Exhibit:
    """Only those with a segmentation."""
    return _exhibit(request.param, tmp_path_factory.mktemp(request.param.replace(" ", "-")))
