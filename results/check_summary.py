"""Is the page an image that can be read, and does it say what the model said?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ledger.result import Role
from results.asked import Asked
from results.check_overlay import decoded, expect_picture
from results.check_page import check_values, check_words
from results.expect import expect, expect_equipment, expect_identity, expect_provenance, expect_uids
from results.key_pictures import key_pictures
from results.summary import variant_of

_WHAT = "summary"
_WARNING = (255, 196, 64)
_BAND_ROWS = 40
#: Rows with letters or lines in them, of all: a page is no empty sheet.
_INK_MINIMUM = 60
#: Image Comments is LT (PS3.5 §6.2): below so many characters there was room for another line.
_FULL = 8_000


def check(read: Sequence[Dataset], asked: Asked) -> None:
    """Raise `CheckFailed` unless there is one page, and it says what was found."""
    expect(len(read) == 1, f"{_WHAT}: {len(read)} pages, expected one")
    (dataset,) = read
    drawn = key_pictures(asked, 8, 8) is not None
    expect_identity(_WHAT, dataset, asked.source)
    expect_uids(_WHAT, dataset, asked, Role.SUMMARY, variant_of(drawn=drawn))
    expect_provenance(_WHAT, dataset, asked.run)
    expect_equipment(_WHAT, dataset)
    expect_picture(_WHAT, dataset)
    frames = list(decoded(dataset))
    expect(len(frames) == 1, f"{_WHAT}: {len(frames)} frames in its pixels, expected one")
    text = str(dataset.ImageComments)
    _check_pixels(frames[0])
    check_words(_WHAT, text, asked, cut=len(text) >= _FULL and "more lines: see the report" in text)
    check_values(_WHAT, text, asked, all_of_them=len(text) < _FULL)
    known = {str(image.SOPInstanceUID) for image in asked.source.datasets}
    shown = {str(item.ReferencedSOPInstanceUID) for item in dataset.SourceImageSequence}
    expect(shown <= known, f"{_WHAT}: it refers to an image that was not analysed")


def _check_pixels(page: NDArray[np.uint8]) -> None:
    """The warning above and below in full width, and letters between."""
    amber = (page == _WARNING).all(axis=-1).mean(axis=1) > 0.5
    for rows, where in ((amber[:_BAND_ROWS], "above"), (amber[-2 * _BAND_ROWS :], "below")):
        expect(int(rows.sum()) >= _BAND_ROWS // 2, f"{_WHAT}: the warning {where} is not there")
    ink = (page.max(axis=-1) > 120).any(axis=1) & ~amber
    expect(int(ink.sum()) >= _INK_MINIMUM, f"{_WHAT}: there is next to nothing on the page")
