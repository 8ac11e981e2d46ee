"""A map lies in colour over its own images, in the right place of the right objects."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from ledger.job import Outcome
from ledger.result import Role
from results import blending
from results.findings import Findings
from tests.results.companions import EVERYTHING, companions, image_companions
from tests.results.dciodvfy import complaints
from tests.results.everything import everything, maps
from tests.results.made import Made, asked, make
from tests.results.series import SHAPE, findings, source


def _blendings(made: Made) -> list[Dataset]:
    made.check()
    return made.of(Role.BLENDING)


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["axial CT", "enhanced MR"])
def test_dciodvfy_finds_nothing(kind: str, tmp_path: Path) -> None:
    made = companions(tmp_path, kind, WindowCenter="40", WindowWidth="400")
    assert len(_blendings(made)) == 2
    for role, path in made.written:
        if role is Role.BLENDING:
            assert complaints(path, "AdvancedBlendingSoftcopyPresentationState") == []


def test_each_map_has_one_in_a_series_of_its_own(tmp_path: Path) -> None:
    made = companions(tmp_path)
    found = _blendings(made)
    above = [one.AdvancedBlendingSequence[1] for one in found]
    assert [one.ReferencedImageSequence[0].ReferencedSOPInstanceUID for one in above] == [
        one.SOPInstanceUID for one in made.of(Role.PARAMETRIC_MAP)
    ]
    assert len({one.SeriesInstanceUID for one in found}) == 2
    assert len({one.SeriesNumber for one in found}) == 2
    assert found[1].SeriesDescription.startswith("AI not verified, not diagnostic: blend Grad-CAM")
    assert "not verified" in found[0].SeriesDescription


def test_the_images_come_first_by_their_own_window(tmp_path: Path) -> None:
    made = make(
        tmp_path, of=source(WindowCenter="-600", WindowWidth="1500"), said=everything(), profile=EVERYTHING
    )
    below, _ = _blendings(made)[0].AdvancedBlendingSequence
    ((window),) = below.SoftcopyVOILUTSequence
    assert (float(window.WindowCenter), float(window.WindowWidth)) == (-600, 1500)
    assert len(below.ReferencedImageSequence) == SHAPE[0]
    # The images' own Modality LUT is applied, for this kind of object has none (PS3.3 §C.11.33).
    assert "RescaleSlope" not in below


def test_the_colours_get_lighter_from_the_lowest_value_to_the_highest(tmp_path: Path) -> None:
    palette = (
        _blendings(companions(tmp_path))[0].AdvancedBlendingSequence[1].PaletteColorLookupTableSequence[0]
    )
    red, green, blue = (
        np.frombuffer(palette[f"{one}PaletteColorLookupTableData"].value, "<u2")
        for one in ("Red", "Green", "Blue")
    )
    assert (red[0], green[0], blue[0]) == (0, 0, 0)
    assert (red[-1], green[-1], blue[-1]) == (65535, 65535, 65535)
    assert (red[85], green[85], blue[85]) == (65535, 0, 0)
    assert (red[170], green[170], blue[170]) == (65535, 65535, 0)


def test_a_map_that_is_the_same_everywhere_has_a_window_all_the_same(tmp_path: Path) -> None:
    one = replace(maps(SHAPE)[0], values=np.full(SHAPE, 0.25, np.float32))
    made = make(tmp_path, said=Findings(outcome=Outcome.FOUND, maps=(one,)), profile=EVERYTHING)
    assert len(_blendings(made)) == 1


def test_without_a_map_there_is_nothing_to_blend(tmp_path: Path) -> None:
    assert blending.build(asked(findings(), source())) == []
    assert _blendings(image_companions(tmp_path)) == []  # A map of an image without a place is not kept.


def test_the_same_run_writes_the_same_bytes(tmp_path: Path) -> None:
    first, second = companions(tmp_path / "a"), companions(tmp_path / "b")
    for one, other in zip(first.files, second.files, strict=True):
        assert one.read_bytes() == other.read_bytes()
