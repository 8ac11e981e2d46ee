"""Functional groups written as bytes are what pydicom would have written, and read like any other."""

import io

import pydicom
import pytest
from pydicom.dataelem import RawDataElement

from results.grid import grid_of
from results.segmentation import build
from results.write import write
from tests.results.forms import FORMS, with_probabilities
from tests.results.images import image_findings, image_source
from tests.results.made import asked
from tests.results.series import KINDS, findings, source

PER_FRAME = 0x52009230


def encoded_again(dataset: pydicom.Dataset) -> bytes:
    """The sequence as pydicom writes it, once every item is a data set."""
    holder = pydicom.Dataset()
    holder.PerFrameFunctionalGroupsSequence = [
        _rebuilt(item) for item in dataset.PerFrameFunctionalGroupsSequence
    ]
    out = io.BytesIO()
    pydicom.dcmwrite(out, holder, implicit_vr=False, little_endian=True)
    return out.getvalue()[12:]


def _rebuilt(item: pydicom.Dataset) -> pydicom.Dataset:
    new = pydicom.Dataset()
    for element in item:
        value = [_rebuilt(child) for child in element.value] if element.VR == "SQ" else element.value
        new.add_new(element.tag, element.VR, value)
    return new


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["axial CT", "oblique CT", "enhanced MR"])
def test_the_bytes_are_those_of_pydicom(kind: str, form: str) -> None:
    said = with_probabilities(kind)
    for dataset in build(asked(said, source(KINDS[kind]), profile=FORMS[form])):
        element = dataset.get_item(PER_FRAME)
        assert isinstance(element, RawDataElement)
        assert element.value == encoded_again(dataset)


@pytest.mark.parametrize("form", ["ohif", "label map"])
def test_so_they_are_of_an_image_without_a_place(form: str) -> None:
    of = image_source("US cine")
    (dataset,) = build(asked(image_findings(), of, profile=FORMS[form]))
    element = dataset.get_item(PER_FRAME)
    assert element.value == encoded_again(dataset)


def test_a_file_is_the_same_whether_or_not_somebody_looked_at_the_frames(tmp_path) -> None:
    wanted = asked(findings(), source())
    (untouched,), (seen,) = build(wanted), build(wanted)
    assert int(seen.NumberOfFrames) == len(seen.PerFrameFunctionalGroupsSequence)
    assert [element.tag for element in seen][-1] == 0x7FE00010
    write(untouched, tmp_path / "untouched")
    write(seen, tmp_path / "seen")
    assert (tmp_path / "untouched").read_bytes() == (tmp_path / "seen").read_bytes()


def test_a_name_in_another_alphabet_survives_beside_encoded_frames(tmp_path) -> None:
    of = source(charset=["", "ISO 2022 IR 87"], name="Yamada^Tarou=山田^太郎=やまだ^たろう")
    (dataset,) = build(asked(findings(), of))
    write(dataset, tmp_path / "seg")
    assert pydicom.dcmread(tmp_path / "seg").PatientName == of.first.PatientName


def test_planes_of_one_grid_keep_the_sources_own_digits() -> None:
    grid = grid_of(source())
    (dataset,) = build(asked(findings(), source()))
    said = {
        str(group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID): [
            str(v) for v in group.PlanePositionSequence[0].ImagePositionPatient
        ]
        for group in dataset.PerFrameFunctionalGroupsSequence
    }
    meant = {one.sop_instance: [str(v) for v in one.position or ()] for one in grid.planes}
    assert said.items() <= meant.items()
