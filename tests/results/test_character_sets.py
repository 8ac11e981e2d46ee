"""A name in any script goes through every kind of result, and through an archive, without losing a byte."""

import io
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.datadict import keyword_for_tag
from pydicom.valuerep import PersonName

from results.making import ENCODERS
from results.source import Source
from tests.patience import patient
from tests.peers.orthanc import Orthanc, orthanc
from tests.results.everything import everything
from tests.results.made import Made, make
from tests.results.pictured import PLAIN, Ramp
from tests.results.series import KINDS, a_run, source, with_pixels
from worker.files import read_image_file

#: Specific Character Set, a name, a description, an institution. Some characters hold the byte 5C, which is a
#: backslash elsewhere: 本 in ISO 2022 IR 87, 乗 in GB18030 and GBK (PS3.5 §6.1.2.3).
SETS = {
    "Unicode": ("ISO_IR 192", "Ôçéañ^Ünïcode=王^小东", "山本 胸部", "Кардиология"),
    "GB18030": ("GB18030", "Wang^XiaoDong=王^小东", "乗 胸部平扫 𠀀", "北京协和医院"),
    "GBK": ("GBK", "Wang^XiaoDong=王^乗", "乗 胸部", "北京"),
    "Japanese": (["", "ISO 2022 IR 87"], "Yamamoto^Tarou=山本^太郎=やまもと^たろう", "山本 胸部", "山本病院"),
    "half-width Japanese": (
        ["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾓﾄ^ﾀﾛｳ=山本^太郎=やまもと^たろう", "胸部", "山本病院",
    ),
    "Korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", "흉부", "서울대학교병원"),
    "Arabic": ("ISO_IR 127", "قباني^لنزار", "صدر", "مستشفى"),
}  # fmt: skip

THEIRS = frozenset(
    {"PatientName", "ReferringPhysicianName", "OtherPatientNames", "StudyDescription", "InstitutionName"}
)
#: All kinds of objects that there are encoders for.
EVERY_KIND = replace(PLAIN, name="every kind", kinds=frozenset(ENCODERS))


def _source(charset: str) -> Source:
    encoding, name, described, institution = SETS[charset]
    return source(
        charset=encoding,
        name=name,
        ReferringPhysicianName=name,
        StudyDescription=described,
        SeriesDescription=described,
        InstitutionName=institution,
        OtherPatientNames=name,
    )


def _received(of: Source, folder: Path) -> Source:
    """The same as the worker has it: out of files, nothing decoded."""
    folder.mkdir(parents=True, exist_ok=True)
    datasets = []
    for index, image in enumerate(of.datasets):
        path = folder / f"image{index}.dcm"
        with_pixels(image).save_as(path, enforce_file_format=True)
        datasets.append(read_image_file(path).dataset)
    return replace(of, datasets=tuple(datasets))


def _made(charset: str, folder: Path) -> Made:
    of = _received(_source(charset), folder / "images")
    # An archive keeps the first of two with one name: every character set has a time of its own.
    run = a_run(of, at=datetime(2026, 1, 2, 12, list(SETS).index(charset), tzinfo=UTC))
    pictures = Ramp(KINDS["axial CT"].shape)
    made = make(folder, of=of, said=everything(), run=run, profile=EVERY_KIND, pictures=pictures)
    made.check()
    return made


def _texts(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Every text of the object, however deep."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _texts(item)
        elif element.VR in ("LO", "SH", "ST", "LT", "PN", "UC", "UT") and element.value is not None:
            values = [element.value] if isinstance(element.value, str | PersonName) else element.value
            for value in values:
                yield keyword_for_tag(element.tag), str(value)


def _expect_same(dataset: Dataset, original: Dataset, charset: str) -> None:
    _, name, described, institution = SETS[charset]
    assert dataset.get("SpecificCharacterSet") == original.get("SpecificCharacterSet")
    for keyword in ("PatientName", "ReferringPhysicianName", "OtherPatientNames"):
        assert str(dataset[keyword].value) == name, keyword
        assert dataset[keyword].value.original_string == original[keyword].value.original_string, keyword
    assert dataset.StudyDescription == described
    scanner = dataset.ContributingEquipmentSequence[0]
    assert scanner.InstitutionName == institution
    assert str(dataset.PatientID) == "MRN-0815"
    encodings = convert_encodings(dataset.get("SpecificCharacterSet"))
    for keyword, text in _texts(dataset):
        assert "?" not in text.replace("(see the header)", ""), keyword
        assert "�" not in text, keyword
        # Ours is ASCII, theirs came in these encodings.
        assert text.isascii() or keyword in THEIRS, keyword
        PersonName(text, encodings).encode(encodings)


@pytest.fixture(scope="module", params=SETS)
def named(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Made, Dataset]:
    """A character set, all results of a patient with a name in it, and an image of theirs."""
    folder = tmp_path_factory.mktemp("named")
    made = _made(request.param, folder)
    return request.param, made, pydicom.dcmread(folder / "images" / "image0.dcm")


def test_point_03_every_kind_of_result_has_the_names_of_its_images(named: tuple[str, Made, Dataset]) -> None:
    charset, made, original = named
    roles = {role for role, _ in made.written}
    assert roles == EVERY_KIND.kinds
    for role, path in made.written:
        try:
            _expect_same(pydicom.dcmread(path), original, charset)
        except AssertionError as error:
            raise AssertionError(f"{role}: {error}") from error


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.mark.peer
def test_point_01_an_archive_gives_them_back_unchanged(
    named: tuple[str, Made, Dataset], archive: Orthanc
) -> None:
    charset, made, original = named
    for role, path in made.written:
        request = urllib.request.Request(f"{archive.url}/instances", data=path.read_bytes(), method="POST")
        with urllib.request.urlopen(request, timeout=patient(30)) as answer:
            assert answer.status == 200, role
        sent = pydicom.dcmread(path)
        wanted = {"Level": "Instance", "Query": {"SOPInstanceUID": str(sent.SOPInstanceUID)}}
        held = archive.post("/tools/find", wanted)
        assert len(held) == 1, role
        back = pydicom.dcmread(io.BytesIO(archive.file(held[0])))
        _expect_same(back, original, charset)
        assert back == sent, role
