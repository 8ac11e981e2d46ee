"""
The page as a document to print, Encapsulated PDF (PS3.3 §A.45.1): the same content as text to be selected.

One page of A4, or two. Letters are those of the fonts that every reader of PDF has, and the text is not
compressed, so that a check can read it as it stands. No clock and no chance goes into the bytes.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader, simpleSplit
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from ledger.identifiers import Uid
from ledger.result import Role
from results import codes
from results.asked import Asked
from results.headers import result_headers
from results.key_pictures import KeyPicture, key_pictures
from results.observer import PRODUCT
from results.page import TITLE, Page, Row, page_of
from results.provenance import MANUFACTURER
from results.summary import variant_of
from results.words import long_string, plain, series_description

ENCAPSULATED_PDF = Uid("1.2.840.10008.5.1.4.1.1.104.1")
PAGES_MAXIMUM = 2
_WIDTH, _HEIGHT = A4
_MARGIN, _BAND = 42.0, 24.0
_BODY, _SMALL, _HEAD = 10.0, 9.0, 18.0
_REGULAR, _BOLD = "Helvetica", "Helvetica-Bold"
_AMBER, _BLACK, _QUIET = (1.0, 0.77, 0.25), (0.0, 0.0, 0.0), (0.35, 0.35, 0.35)
_COLUMNS = (0.0, 0.38, 0.76, 1.0)
_PICTURE = 480  # pixels of a key picture's longer side


def build(asked: Asked) -> list[Dataset]:
    """The document, without file meta information. Raises `NotEncodable`."""
    pictures = key_pictures(asked, _PICTURE, _PICTURE)
    page = page_of(asked, drawn=pictures is not None)
    dataset = result_headers(
        asked,
        Role.DOCUMENT,
        sop_class=ENCAPSULATED_PDF,
        series_description=series_description(asked, "document"),
        variant=variant_of(drawn=pictures is not None),
    )
    dataset.ConversionType = "WSD"
    dataset.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    dataset.SecondaryCaptureDeviceManufacturerModelName = PRODUCT
    dataset.SecondaryCaptureDeviceSoftwareVersions = long_string(asked.run.software_version)
    dataset.AcquisitionDateTime = None  # Type 2
    dataset.BurnedInAnnotation = "YES"
    dataset.RecognizableVisualFeatures = "NO"
    dataset.SourceInstanceSequence = [_reference(image) for image in asked.source.datasets]
    dataset.DocumentTitle = title_of(asked)
    dataset.ConceptNameCodeSequence = [codes.coded(codes.DRAWN_TITLE)]
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    data = printed(page, pictures or (), title_of(asked))
    dataset.EncapsulatedDocumentLength = len(data)  # without the byte that makes it even
    dataset.EncapsulatedDocument = data + b"\0" * (len(data) % 2)
    codes.identify_schemes(dataset, asked.run.provenance.schemes)
    return [dataset]


def title_of(asked: Asked) -> str:
    """Document Title (0042,0010)."""
    provenance = asked.run.provenance
    return plain(f"AI result of {provenance.name} {provenance.version}, not verified", 1024)


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return item


def printed(page: Page, pictures: Sequence[KeyPicture], title: str) -> bytes:
    """The page as PDF."""
    paper = io.BytesIO()
    # Invariant: no time of now, no number by chance.
    canvas = Canvas(paper, pagesize=A4, invariant=1, pageCompression=0)
    canvas.setTitle(title)
    canvas.setAuthor(f"{MANUFACTURER} (AI, not verified)")
    canvas.setSubject(TITLE)
    sheet = _Sheet(canvas)
    sheet.band()
    sheet.text(page.headline, _BOLD, _HEAD)
    sheet.text(page.because, _REGULAR, _BODY)
    for fact in page.facts:
        sheet.text(fact, _REGULAR, _SMALL, _QUIET)
    sheet.pictures(pictures)
    # Recommendations and cautions go before the values: there may be too many of those.
    if page.cautions:
        sheet.section("Please note", page.cautions)
    if page.recommendations:
        sheet.section("Recommended by the model, not agreed by anybody", page.recommendations)
    values: list[str | Row] = [*page.lines, *page.rows]
    if values and (page.cautions or page.recommendations):
        # What was found is neither of these.
        sheet.section("In detail", [])
    for position, one in enumerate(values):
        fits = sheet.text(one, _REGULAR, _BODY) if isinstance(one, str) else sheet.row(one)
        if not fits:
            sheet.last_line(f"and {len(values) - position} more lines: see the report.")
            break
    canvas.showPage()
    canvas.save()
    return paper.getvalue()


@dataclass(slots=True)
class _Sheet:
    """A pen that goes down the paper and, once, to the next."""

    canvas: Canvas
    y: float = 0.0
    number: int = 0
    in_table: bool = False

    def band(self) -> None:
        """Begin a page with the warning above and below."""
        if self.number:
            self.canvas.showPage()
        self.number += 1
        for y in (_HEIGHT - _BAND, 0.0):
            self.canvas.setFillColorRGB(*_AMBER)
            self.canvas.rect(0, y, _WIDTH, _BAND, stroke=0, fill=1)
            self.canvas.setFillColorRGB(*_BLACK)
            self.canvas.setFont(_BOLD, 12)
            self.canvas.drawCentredString(_WIDTH / 2, y + 8, TITLE)
        self.canvas.setFont(_REGULAR, _SMALL)
        self.canvas.drawRightString(_WIDTH - _MARGIN, _BAND + 6, f"Page {self.number}")
        self.y = _HEIGHT - _BAND - 14

    def room(self, height: float) -> bool:
        """Whether `height` more fits, on the next page if it may be begun."""
        if self.y - height < _BAND + 34:
            if self.number == PAGES_MAXIMUM:
                return False
            self.band()
        return True

    def text(self, text: str, face: str, size: float, colour: tuple[float, float, float] = _BLACK) -> bool:
        """A paragraph; False where there is no room for it."""
        lines = simpleSplit(text, face, size, _WIDTH - 2 * _MARGIN)
        if not self.room(len(lines) * size * 1.3):
            return False
        for line in lines:
            self.y -= size * 1.3
            self._line(_MARGIN, line, face, size, colour)
        return True

    def section(self, title: str, lines: Sequence[str]) -> None:
        """A heading and its paragraphs."""
        self.y -= 6
        self.text(title, _BOLD, _BODY)
        for position, line in enumerate(lines):
            if not self.text(line, _REGULAR, _BODY):
                self.last_line(f"and {len(lines) - position} more: see the report.")
                return

    def row(self, row: Row) -> bool:
        """A line of the table; False where there is no room for it."""
        inner = _WIDTH - 2 * _MARGIN
        cells = [
            simpleSplit(text, _REGULAR, _BODY, (end - start) * inner - (16 if k == 0 else 6))
            for k, (text, start, end) in enumerate(
                zip((row.finding, row.quantity, row.value), _COLUMNS, _COLUMNS[1:], strict=False)
            )
        ]
        height = max(1, *(len(cell) for cell in cells)) * _BODY * 1.3 + 3
        if not self.room(height + 4):
            return False
        if not self.in_table:
            self.y -= 4  # so that its first line does not cross out what stands above
            self.in_table = True
        top = self.y
        self.canvas.setStrokeColorRGB(0.8, 0.8, 0.8)
        self.canvas.line(_MARGIN, top - 1, _WIDTH - _MARGIN, top - 1)
        if row.colour is not None:
            self.canvas.setFillColorRGB(*(part / 255 for part in row.colour))
            self.canvas.rect(_MARGIN, top - 12, 8, 8, stroke=0, fill=1)
        for k, (cell, start) in enumerate(zip(cells, _COLUMNS, strict=False)):
            self.y = top
            for line in cell:
                self.y -= _BODY * 1.3
                self._line(_MARGIN + start * inner + (12 if k == 0 else 0), line, _REGULAR, _BODY, _BLACK)
        self.y = top - height
        return True

    def pictures(self, pictures: Sequence[KeyPicture]) -> None:
        """Two in a line, each with its caption."""
        side = (_WIDTH - 2 * _MARGIN - 12) / 2
        if len(pictures) > 2:
            side *= 0.8
        for k in range(0, len(pictures), 2):
            pair = pictures[k : k + 2]
            scales = [side / max(one.image.size) for one in pair]
            height = max(one.image.height * scale for one, scale in zip(pair, scales, strict=True))
            if not self.room(height + 22):
                return
            self.y -= height + 6
            for column, (one, scale) in enumerate(zip(pair, scales, strict=True)):
                x = _MARGIN + column * ((_WIDTH - 2 * _MARGIN) / 2 + 6)
                self._picture(one, x, scale)
            self.y -= 14

    def _picture(self, one: KeyPicture, x: float, scale: float) -> None:
        width, height = one.image.width * scale, one.image.height * scale
        self.canvas.drawImage(ImageReader(one.image), x, self.y, width, height)
        for text, left, bottom in (
            (one.sides.left, x + 3, self.y + height / 2),
            (
                one.sides.right,
                x + width - 3 - stringWidth(one.sides.right, _BOLD, _BODY),
                self.y + height / 2,
            ),
            (one.sides.top, x + width / 2, self.y + height - 11),
            (one.sides.bottom, x + width / 2, self.y + 4),
        ):
            if text:
                self._line(left, text, _BOLD, _BODY, _AMBER, bottom)
        caption = one.caption
        while stringWidth(caption, _REGULAR, _SMALL) > _WIDTH / 2 - _MARGIN:
            caption = caption.removesuffix("...")[:-1].rstrip() + "..."
        self._line(x, caption, _REGULAR, _SMALL, _BLACK, self.y - 10)

    def last_line(self, text: str) -> None:
        """What is said where the room ends."""
        self._line(_MARGIN, text, _BOLD, _BODY, _BLACK, _BAND + 20)

    def _line(  # noqa: PLR0917 - where, what, and how it looks
        self,
        x: float,
        text: str,
        face: str,
        size: float,
        colour: tuple[float, float, float],
        y: float | None = None,
    ) -> None:
        self.canvas.setFillColorRGB(*colour)
        self.canvas.setFont(face, size)
        self.canvas.drawString(x, self.y if y is None else y, text)
