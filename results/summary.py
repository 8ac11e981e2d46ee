"""
The page as an image, Secondary Capture (PS3.3 §A.8.1): what still shows where nothing else does.

Wide enough for a telephone held upright and for a monitor, and no higher than its content. What stands on it
stands in Image Comments as well, for whoever cannot see it and for programs that look for words.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw
from pydicom import Dataset

from ledger.job import Outcome
from ledger.result import Role
from results import codes
from results.asked import Asked
from results.capture import captured, pixels_of
from results.headers import result_headers
from results.key_pictures import KeyPicture, key_pictures
from results.lettering import font, line_height, shortened, wrapped
from results.overlay import SECONDARY_CAPTURE
from results.page import TITLE, Page, Row, page_of
from results.strip import BACKGROUND, TEXT, WARNING
from results.words import DISCLAIMER, plain, series_description

WIDTH = 1080
_HIGHEST = 2400
_MARGIN, _GAP = 36, 18
_BODY, _SMALL, _HEAD = 28, 24, 48
_QUIET, _RULE = (165, 170, 178), (60, 64, 72)
_COLUMNS = (0.40, 0.78)  # where the second and the third column of the table begin
#: Of one picture or two; of more, so that the words stay on the page.
_PICTURE, _PICTURE_OF_MANY = (WIDTH - 2 * _MARGIN - _GAP) // 2, 380
#: Image Comments is LT: at most 10240 characters.
_COMMENTS_MAXIMUM = 10_240

_Draw = Callable[[ImageDraw.ImageDraw, int], None]
_Block = tuple[int, _Draw]  # its height, and how it is drawn at a row


def build(asked: Asked) -> list[Dataset]:
    """The page, without file meta information. Raises `NotEncodable` where findings do not fit the source."""
    pictures = key_pictures(asked, _PICTURE, _PICTURE_OF_MANY)
    page = page_of(asked, drawn=pictures is not None)
    dataset = result_headers(
        asked,
        Role.SUMMARY,
        sop_class=SECONDARY_CAPTURE,
        series_description=series_description(asked, "summary"),
        variant=variant_of(drawn=pictures is not None),
    )
    captured(dataset, asked)
    dataset.PatientOrientation = None  # Type 2C: a page has no sides of a patient
    dataset.DerivationDescription = plain(f"A page that says what was found. {DISCLAIMER}", 1024)
    dataset.ImageComments = page.text_within(_COMMENTS_MAXIMUM)
    dataset.SourceImageSequence = source_images(asked, [one.plane for one in pictures or ()])
    image = drawn_page(page, pictures or (), asked.findings.outcome)
    pixels_of(dataset, [np.asarray(image)], 1, rle=False)
    codes.identify_schemes(dataset, asked.run.provenance.schemes)
    return [dataset]


def variant_of(*, drawn: bool) -> str:
    """What else is part of the UIDs: a page without pictures has other bytes."""
    return "" if drawn else "without pictures"


def source_images(asked: Asked, planes: Sequence[int]) -> list[Dataset]:
    """The images that are shown; where none is, the first of the series stands for all."""
    source, items = asked.source, []
    for plane in planes or [0]:
        image = source.first if source.frames is not None else source.datasets[plane]
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        if source.frames is not None:
            item.ReferencedFrameNumber = source.frames[plane]
        item.PurposeOfReferenceCodeSequence = [codes.coded(codes.SOURCE_IMAGE)]
        items.append(item)
    return items


def drawn_page(page: Page, pictures: Sequence[KeyPicture], outcome: Outcome) -> Image.Image:
    """The page in pixels."""
    above = [
        _band(),
        *_text(page.headline, _HEAD, TEXT if outcome is not Outcome.REFUSED else WARNING),
        *_text(page.because, _BODY, TEXT),
        *(block for fact in page.facts for block in _text(fact, _SMALL, _QUIET)),
        _space(),
        *_pictures(pictures),
    ]
    below = [
        *_section("Recommended by the model, not agreed by anybody", page.recommendations, TEXT),
        *_section("Please note", page.cautions, WARNING),
        _space(),
        _band(),
    ]
    said = [block for line in page.lines for block in _text(line, _BODY, TEXT)]
    if said and page.rows:
        last, draw = said[-1]
        said[-1] = last + _GAP, draw  # so that the table does not cross out the last sentence
    rows = [_row(row) for row in page.rows]
    blocks = [*above, *_fitting(said, rows, _HIGHEST - sum(h for h, _ in (*above, *below))), *below]
    image = Image.new("RGB", (WIDTH, sum(height for height, _ in blocks)), BACKGROUND)
    pen, y = ImageDraw.Draw(image), 0
    for height, draw in blocks:
        draw(pen, y)
        y += height
    _paste(image, pictures, sum(height for height, _ in above) - _pictures_height(pictures))
    return image


def _fitting(said: Sequence[_Block], rows: Sequence[_Block], room: int) -> Iterator[_Block]:
    """As many sentences and rows as there is room for, and how many there are besides."""
    more = line_height(_BODY) + _GAP
    left, shown = room - more, 0
    for block in (*said, *rows):
        if left < block[0]:
            break
        left -= block[0]
        shown += 1
        yield block
    beyond = len(said) + len(rows) - shown
    if beyond:
        yield from _text(f"and {beyond} more lines: see the report.", _BODY, WARNING)
    yield _space()


def _band() -> _Block:
    size = 38

    def draw(pen: ImageDraw.ImageDraw, y: int) -> None:
        pen.rectangle((0, y, WIDTH, y + 67), fill=WARNING)
        pen.text((WIDTH / 2, y + 34), TITLE, (0, 0, 0), font=font(size), anchor="mm")

    return 68 + _GAP, draw


def _space() -> _Block:
    return _GAP, lambda pen, y: None


def _text(text: str, size: int, colour: tuple[int, int, int], indent: int = 0) -> list[_Block]:
    def drawing(line: str) -> _Draw:
        return lambda pen, y: pen.text((_MARGIN + indent, y), line, colour, font=font(size))

    lines = wrapped(text, size, WIDTH - 2 * _MARGIN - indent)
    return [(line_height(size), drawing(line)) for line in lines]


def _section(title: str, lines: Sequence[str], colour: tuple[int, int, int]) -> Iterator[_Block]:
    if lines:
        yield _space()
        yield from _text(title, _SMALL, _QUIET)
        for line in lines:
            yield from _text(f"- {line}", _BODY, colour)


def _row(row: Row) -> _Block:
    inner = WIDTH - 2 * _MARGIN
    ends = (0.0, *_COLUMNS, 1.0)
    indent = _BODY + 8
    cells = [
        wrapped(text, _BODY, round((end - start) * inner) - 12 - (indent if k == 0 else 0))
        for k, (text, start, end) in enumerate(
            zip((row.finding, row.quantity, row.value), ends, ends[1:], strict=False)
        )
    ]
    height = max(1, *(len(cell) for cell in cells)) * line_height(_BODY) + 8

    def draw(pen: ImageDraw.ImageDraw, y: int) -> None:
        pen.line((_MARGIN, y + 1, WIDTH - _MARGIN, y + 1), fill=_RULE)
        if row.colour is not None:
            pen.rectangle((_MARGIN, y + 9, _MARGIN + _BODY - 6, y + _BODY + 3), fill=row.colour)
        for k, (cell, start) in enumerate(zip(cells, ends, strict=False)):
            x = _MARGIN + round(start * inner) + (indent if k == 0 else 0)
            for n, line in enumerate(cell):
                pen.text((x, y + 4 + n * line_height(_BODY)), line, TEXT, font=font(_BODY))

    return height, draw


def _pictures(pictures: Sequence[KeyPicture]) -> list[_Block]:
    height = _pictures_height(pictures)
    return [(height, lambda pen, y: None)] if height else []


def _heights(pictures: Sequence[KeyPicture]) -> list[int]:
    """Of each line of two pictures, with its captions."""
    pairs = [pictures[k : k + 2] for k in range(0, len(pictures), 2)]
    return [max(one.image.height for one in pair) + line_height(_SMALL) + _GAP for pair in pairs]


def _pictures_height(pictures: Sequence[KeyPicture]) -> int:
    return sum(_heights(pictures))


def _paste(page: Image.Image, pictures: Sequence[KeyPicture], y: int) -> None:
    pen, face, small = ImageDraw.Draw(page), font(_SMALL), font(_BODY)
    for line, height in enumerate(_heights(pictures)):
        for column, one in enumerate(pictures[2 * line : 2 * line + 2]):
            x = _MARGIN + column * (_PICTURE + _GAP)
            left, width, tall = x, one.image.width, one.image.height
            page.paste(one.image, (left, y))
            for text, place, anchor in (
                (one.sides.left, (left + 6, y + tall / 2), "lm"),
                (one.sides.right, (left + width - 6, y + tall / 2), "rm"),
                (one.sides.top, (left + width / 2, y + 4), "ma"),
                (one.sides.bottom, (left + width / 2, y + tall - 4), "md"),
            ):
                pen.text(place, text, TEXT, font=small, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
            pen.text((x, y + tall + 4), shortened(one.caption, _SMALL, _PICTURE), TEXT, font=face)
        y += height
