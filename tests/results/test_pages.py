"""The page says what was found, as an image and as a document; and nobody's name is burned into it."""

import io
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import ModuleType

import numpy as np
import pydicom
import pypdf
import pytest
from pydicom import Dataset

from ledger.identifiers import Uid
from results import check_pdf, check_summary, codes, pdf, summary
from results.asked import Asked
from results.expect import CheckFailed
from results.findings import Comparison, Measurement, Prior, Recommendation
from results.grid import grid_of
from results.lettering import shortened
from results.page import key_planes, page_of
from results.paint import Painter
from results.pictures import NOT_DRAWN
from results.write import write
from tests.results import dciodvfy
from tests.results.everything import BONE_AGES
from tests.results.images import IMAGES
from tests.results.pictured import Ramp, pictured
from tests.results.series import KINDS, findings, not_analysed, nothing_found, source
from tests.results.test_follow_up import followed

MONTHS = codes.Concept("mo", "UCUM", "month")
FOLLOW_UP = Recommendation(
    label="Follow-up",
    text="Low-dose CT in 6 months (the nodule is solid).",
    interval=Measurement(name=codes.VOLUME, value=6, unit=MONTHS),
)
GROWN = Comparison(
    about="Right lung",
    name=codes.VOLUME,
    unit=codes.MILLILITRE,
    now=12345.6,
    then=10000.0,
    prior=Prior(
        acquired=date(2025, 1, 2),
        study=Uid("1.2.3"),
        series=Uid("1.2.4"),
        images=((Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.5")),),
    ),
)


def _asked(kind: str = "axial CT") -> Asked:
    asked = pictured(kind)
    more = {"recommendations": (FOLLOW_UP,)}
    if kind == "axial CT":
        more["comparisons"] = (GROWN,)
    return replace(asked, findings=replace(asked.findings, **more))


def _read(module: ModuleType, asked: Asked, folder: Path) -> Dataset:
    (dataset,) = module.build(asked)
    write(dataset, folder / "page.dcm")
    return pydicom.dcmread(folder / "page.dcm")


def _pdf(dataset: Dataset) -> pypdf.PdfReader:
    data = dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength]
    return pypdf.PdfReader(io.BytesIO(data))


def _text(dataset: Dataset) -> str:
    return " ".join(" ".join(page.extract_text() for page in _pdf(dataset).pages).split())


SAID = {
    "everything": _asked,
    "nothing found": lambda: pictured(said=nothing_found()),
    "not analysed": lambda: pictured(said=not_analysed()),
    "two lungs": lambda: pictured(said=findings()),
}


@pytest.mark.parametrize("said", SAID)
def test_every_sentence_of_the_page_can_be_read_in_the_document(said: str, tmp_path: Path) -> None:
    asked = SAID[said]()
    read = _read(pdf, asked, tmp_path)
    check_pdf.check([read], asked)
    text = _text(read)
    for line in page_of(asked, drawn=True).text.splitlines():
        for part in line.split(": "):
            assert " ".join(part.split()) in text, part
    # An independent reader sees what our own check of the text sees.
    stored = read.EncapsulatedDocument[: read.EncapsulatedDocumentLength]
    assert sorted(check_pdf.shown_text(stored).split()) == sorted(text.split())


@pytest.mark.parametrize("said", SAID)
def test_the_summary_says_it_too(said: str, tmp_path: Path) -> None:
    asked = SAID[said]()
    read = _read(summary, asked, tmp_path)
    check_summary.check([read], asked)
    assert read.ImageComments == page_of(asked, drawn=True).text
    assert read.Rows <= 2400
    assert read.Columns == 1080
    assert (read.SOPClassUID, read.Modality) == ("1.2.840.10008.5.1.4.1.1.7", "OT")


def test_a_page_begins_with_the_outcome_and_gives_the_reason() -> None:
    refused = page_of(pictured(said=not_analysed()), drawn=True)
    assert refused.headline == "NOT ANALYSED"
    assert refused.because == "Slices are 7.5 mm apart; the model takes at most 3 mm."
    nothing = page_of(pictured(said=nothing_found()), drawn=True)
    assert (nothing.headline, nothing.because) == ("Nothing found", "No lung was found in the images.")


def test_values_stand_with_their_units_as_people_write_them() -> None:
    page = page_of(_asked(), drawn=True)
    said = {(one.finding, one.quantity): one.value for one in page.rows}
    assert said["Whole examination", "Bone age"] == "11.25 years"
    assert said["", "15th percentile of attenuation"].endswith(" HU")
    assert said["Right lung", "Volume, now and on 2025-01-02"] == "12346 and 10000 ml (+23 %)"
    assert page.recommendations == ("Follow-up: Low-dose CT in 6 months (the nodule is solid).",)
    assert "Pneumothorax: present, probability 93 % (calibrated; present from 30 %)." in page.lines


def test_what_no_finding_has_does_not_seem_to_be_of_the_one_above_it() -> None:
    asked = pictured(said=followed())
    whole = replace(asked.findings, measurements=BONE_AGES)
    rows = page_of(replace(asked, findings=whole), drawn=True).rows
    named = [one.finding for one in rows]
    for quantity in ("15th percentile of attenuation, now and on 2025-06-01", "Bone age"):
        (row,) = [one for one in rows if one.quantity == quantity]
        assert row.finding == "Whole examination"
    # Conclusions first: they are not what is left out where there is no room.
    assert named[:2] == ["Nodule risk", "Nodule 1"]
    assert rows[1].quantity == "Volume, now and on 2025-06-01"


def test_what_was_found_does_not_stand_below_what_is_recommended(tmp_path: Path) -> None:
    text = _text(_read(pdf, _asked(), tmp_path))
    places = [
        text.index(part)
        for part in (
            "Please note",
            "Recommended by the model, not agreed by anybody",
            "Follow-up: Low-dose CT in 6 months",
            "In detail",
            "Pneumothorax: present",
        )
    ]
    assert places == sorted(places)
    assert "In detail" not in _text(_read(pdf, pictured(said=nothing_found()), tmp_path))


def test_a_caption_that_is_cut_says_so(tmp_path: Path) -> None:
    asked = pictured(said=findings())
    long = tuple(
        replace(one, label=f"{one.label} with a name of very many words") for one in asked.findings.segments
    )
    read = _read(pdf, replace(asked, findings=replace(asked.findings, segments=long)), tmp_path)
    captions = re.findall(rb"\((Image [0-9]+: [^()]*)\) Tj", read.EncapsulatedDocument)
    assert captions
    assert all(one.endswith(b"...") for one in captions)
    assert shortened("Image 16: Nodule 1; Pleural effusion, left", 24, 200).endswith("...")
    assert shortened("Image 16: Nodule 1", 24, 500) == "Image 16: Nodule 1"


@pytest.mark.parametrize("module", [summary, pdf])
def test_no_patient_is_burned_into_a_page(module: ModuleType, tmp_path: Path) -> None:
    asked = _asked()
    read = _read(module, asked, tmp_path)
    text = _text(read) if module is pdf else str(read.ImageComments)
    for secret in ("Doe", "Jane", "MRN-0815", "1960", "0229", "Refers"):
        assert secret not in text
    # What tells two pages apart is there, and the header has the rest.
    for known in ("CT of 2026-01-02, accession ACC-1", "Series 3: Thorax 2.5 (10 images)", "lung_ct 1.0.0"):
        assert known in text
    assert str(read.PatientName) == "Doe^Jane"
    assert read.BurnedInAnnotation == "YES"


@pytest.mark.parametrize(
    ("charset", "described"),
    [
        ("GB18030", "胸部平扫"),
        (["", "ISO 2022 IR 87"], "山本病院"),
        (["", "ISO 2022 IR 149"], "흉부"),
        ("ISO_IR 127", "صدر"),
    ],
)
def test_text_in_another_script_is_left_to_the_header(
    charset: str | list[str], described: str, tmp_path: Path
) -> None:
    asked = pictured(of=source(charset=charset, name="Doe^Jane", SeriesDescription=described))
    for module in (summary, pdf):
        read = _read(module, asked, tmp_path)
        text = _text(read) if module is pdf else str(read.ImageComments)
        assert "Series 3: (see the header) (10 images)" in text
        assert "?" not in text


@pytest.mark.parametrize("kind", ["axial CT", "enhanced CT", "CR", "OP", "US cine"])
def test_point_09_dciodvfy_finds_no_error(kind: str, tmp_path: Path) -> None:
    for module, iod in ((summary, "SCImage"), (pdf, "EncapsulatedPDF")):
        _read(module, _asked(kind), tmp_path)
        assert dciodvfy.complaints(tmp_path / "page.dcm", iod) == []


@pytest.mark.parametrize("kind", [*KINDS, *IMAGES])
def test_every_kind_of_source_has_its_page(kind: str, tmp_path: Path) -> None:
    asked = _asked(kind)
    check_summary.check([_read(summary, asked, tmp_path)], asked)
    check_pdf.check([_read(pdf, asked, tmp_path)], asked)


def test_a_page_shows_at_most_four_pictures_and_names_their_images(tmp_path: Path) -> None:
    asked = _asked()
    planes = key_planes(asked, Painter(asked.findings, grid_of(asked.source)))
    read = _read(summary, asked, tmp_path)
    shown = [str(item.ReferencedSOPInstanceUID) for item in read.SourceImageSequence]
    assert 0 < len(shown) <= 4
    assert shown == [str(asked.source.datasets[k].SOPInstanceUID) for k in planes]
    assert sum(len(page.images) for page in _pdf(_read(pdf, asked, tmp_path)).pages) == len(shown)


@pytest.mark.parametrize("module", [summary, pdf])
def test_without_pictures_the_page_is_there_and_says_so(module: ModuleType, tmp_path: Path) -> None:
    asked = _asked()
    broken = replace(asked, pictures=Ramp(grid_of(asked.source).shape, broken_from=0))
    whole, bare = _read(module, asked, tmp_path), _read(module, broken, tmp_path)
    text = _text(bare) if module is pdf else str(bare.ImageComments)
    assert NOT_DRAWN in text
    assert whole.SOPInstanceUID != bare.SOPInstanceUID  # Other bytes, another name.
    (check_pdf if module is pdf else check_summary).check([bare], broken)


@pytest.mark.parametrize("module", [summary, pdf])
def test_point_05_made_again_it_is_the_same_to_the_byte(module: ModuleType, tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        _read(module, _asked(), tmp_path)
        made.append((tmp_path / "page.dcm").read_bytes())
    assert made[0] == made[1]


def test_a_long_table_ends_with_how_much_is_left_out(tmp_path: Path) -> None:
    asked = pictured(said=findings())
    many = tuple(
        Measurement(
            name=codes.Concept(f"N{k}", codes.PRIVATE_SCHEME, f"Number {k}"), value=k, unit=codes.PERCENT
        )
        for k in range(300)
    )
    asked = replace(asked, findings=replace(asked.findings, measurements=many))
    read = _read(pdf, asked, tmp_path)
    check_pdf.check([read], asked)
    assert len(_pdf(read).pages) == 2
    assert "more lines: see the report." in _text(read)
    page = _read(summary, asked, tmp_path)
    check_summary.check([page], asked)
    assert page.Rows <= 2400


@pytest.mark.parametrize(("module", "check"), [(summary, check_summary), (pdf, check_pdf)])
def test_a_hundred_organs_with_values_stop_nothing(
    module: ModuleType, check: ModuleType, tmp_path: Path
) -> None:
    """A page that has no room for all of it says so; a run whose page failed its check would be parked."""
    asked = pictured(said=findings())
    first = asked.findings.segments[0]
    many = tuple(
        Measurement(
            name=codes.Concept(f"N{k}", codes.PRIVATE_SCHEME, f"A quantity with a long name, number {k}"),
            value=k,
            unit=codes.PERCENT,
        )
        for k in range(400)
    )
    said = replace(
        asked.findings,
        segments=(replace(first, measurements=many), *asked.findings.segments[1:]),
        recommendations=(FOLLOW_UP,),
        cautions=("The lung bases are cut off.",),
    )
    asked = replace(asked, findings=said)
    read = _read(module, asked, tmp_path)
    check.check([read], asked)
    text = _text(read) if module is pdf else str(read.ImageComments)
    assert len(text) <= 10_240
    assert "more lines: see the report." in text
    for one in ("The lung bases are cut off.", "Low-dose CT in 6 months (the nodule is solid)."):
        assert one in text


@pytest.mark.parametrize(("module", "check"), [(summary, check_summary), (pdf, check_pdf)])
def test_cautions_without_end_stop_nothing_either(
    module: ModuleType, check: ModuleType, tmp_path: Path
) -> None:
    asked = pictured(said=findings())
    cautions = tuple(f"Caution {k}: " + "something is not as it should be, " * 20 for k in range(20))
    asked = replace(asked, findings=replace(asked.findings, cautions=cautions))
    read = _read(module, asked, tmp_path)
    check.check([read], asked)
    text = _text(read) if module is pdf else str(read.ImageComments)
    assert "see the report." in text


def test_point_46_a_page_says_that_text_is_burned_in_and_how_long_it_is(tmp_path: Path) -> None:
    for said in SAID.values():
        read = _read(pdf, said(), tmp_path)
        assert read.MIMETypeOfEncapsulatedDocument == "application/pdf"
        assert read.EncapsulatedDocument[: read.EncapsulatedDocumentLength].endswith(b"%%EOF\n")
        assert len(read.EncapsulatedDocument) % 2 == 0
        assert read.VerificationFlag == "UNVERIFIED"
        assert len(read.SourceInstanceSequence) == 10


def _with_text(stored: bytes, old: bytes, new: bytes) -> bytes:
    assert old in stored
    return stored.replace(old, new)


@pytest.mark.parametrize(
    "mutant",
    [
        "a value",
        "a name",
        "warning",
        "length",
        "mime",
        "truncated",
        "patient",
        "images",
        "title",
        "flag",
        "outcome",
    ],
)
def test_a_wrong_document_does_not_leave(mutant: str, tmp_path: Path) -> None:
    asked = _asked()
    read = _read(pdf, asked, tmp_path)
    stored = bytes(read.EncapsulatedDocument)
    match mutant:
        case "a value":
            stored = _with_text(stored, b"(11.25 years) Tj", b"(12.25 years) Tj")
        case "a name":
            stored = _with_text(stored, b"Left lung", b"Late lung")
        case "warning":
            stored = stored.replace(b"not verified, not for diagnosis", b"verified, fit for a diagnosis  ")
        case "outcome":
            stored = _with_text(stored, b"(Findings) Tj", b"(Nothings) Tj")
        case "truncated":
            stored = stored[:-40]
            read.EncapsulatedDocumentLength = len(stored)
        case "patient":
            stored = _with_text(stored, b"accession ACC-1", b"of MRN-0815 ACC-1")
            read.EncapsulatedDocumentLength = len(stored)
        case "length":
            read.EncapsulatedDocumentLength += 7
        case "mime":
            read.MIMETypeOfEncapsulatedDocument = "text/plain"
        case "images":
            read.SourceInstanceSequence = read.SourceInstanceSequence[1:]
        case "title":
            read.DocumentTitle = "Radiology report"
        case "flag":
            read.VerificationFlag = "VERIFIED"
    read.EncapsulatedDocument = stored
    with pytest.raises(CheckFailed):
        check_pdf.check([read], asked)


@pytest.mark.parametrize("mutant", ["no warning", "blank", "words", "burned in", "image", "none", "two"])
def test_a_wrong_summary_does_not_leave(mutant: str, tmp_path: Path) -> None:
    asked = _asked()
    read = _read(summary, asked, tmp_path)
    page = np.frombuffer(read.PixelData, np.uint8)[: read.Rows * read.Columns * 3]
    page = page.reshape(read.Rows, read.Columns, 3).copy()
    pages: Sequence[Dataset] = [read]
    match mutant:
        case "no warning":
            page[:90] = 0
        case "blank":
            page[100:-100] = 16
        case "words":
            read.ImageComments = read.ImageComments.replace("11.25", "12.25")
        case "burned in":
            read.BurnedInAnnotation = "NO"
        case "image":
            read.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
        case "none":
            pages = []
        case "two":
            pages = [read, read]
    read.PixelData = page.tobytes()
    with pytest.raises(CheckFailed):
        check_summary.check(pages, asked)


def test_names_that_the_letters_cannot_spell_are_no_question_marks(tmp_path: Path) -> None:
    asked = pictured(said=findings())
    first, *others = asked.findings.segments
    advice = Recommendation(label="Follow-up", text="六个月后复查")
    said = replace(
        asked.findings, segments=(replace(first, label="右肺"), *others), recommendations=(advice,)
    )
    asked = replace(asked, findings=said)
    for module, check in ((summary, check_summary), (pdf, check_pdf)):
        read = _read(module, asked, tmp_path)
        check.check([read], asked)
        text = _text(read) if module is pdf else str(read.ImageComments)
        assert "?" not in text
        assert "(see the header)" in text
