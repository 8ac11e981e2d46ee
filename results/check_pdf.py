"""
Is the document a PDF whose text says what the model said?

The text of our documents is not compressed, so the strings that a reader shows stand in the file as they are
(ISO 32000-1 §9.4.3); they are read here without the library that wrote them.
"""

import re
from collections.abc import Sequence

from pydicom import Dataset

from ledger.result import Role
from results.asked import Asked
from results.check_page import check_values, check_words
from results.expect import expect, expect_equipment, expect_identity, expect_provenance, expect_uids
from results.key_pictures import key_pictures
from results.pdf import PAGES_MAXIMUM, title_of
from results.summary import variant_of

_WHAT = "document"
_SHOWN = re.compile(rb"\(((?:\\.|[^\\()])*)\) Tj", re.DOTALL)
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_PAGE = re.compile(rb"/Type /Page\b(?!s)")


def check(read: Sequence[Dataset], asked: Asked) -> None:
    """Raise `CheckFailed` unless there is one document, and it says what was found."""
    expect(len(read) == 1, f"{_WHAT}: {len(read)} documents, expected one")
    (dataset,) = read
    drawn = key_pictures(asked, 8, 8) is not None
    expect_identity(_WHAT, dataset, asked.source)
    expect_uids(_WHAT, dataset, asked, Role.DOCUMENT, variant_of(drawn=drawn))
    expect_provenance(_WHAT, dataset, asked.run)
    expect_equipment(_WHAT, dataset)
    expect(dataset.Modality == "DOC", f"{_WHAT}: Modality is {dataset.Modality}")
    expect(dataset.BurnedInAnnotation == "YES", f"{_WHAT}: it does not say that text is burned in")
    mime = str(dataset.MIMETypeOfEncapsulatedDocument)
    expect(mime == "application/pdf", f"{_WHAT}: its MIME type is {mime!r}")
    title = str(dataset.DocumentTitle)
    expect(title == title_of(asked), f"{_WHAT}: its title is {title!r}")
    flag = str(dataset.get("VerificationFlag", ""))
    expect(flag == "UNVERIFIED", f"{_WHAT}: its verification flag is {flag!r}")
    stored, length = bytes(dataset.EncapsulatedDocument), int(dataset.EncapsulatedDocumentLength)
    expect(
        len(stored) - length in (0, 1) and stored[length:] in (b"", b"\0"),
        f"{_WHAT}: its length is {length}, it has {len(stored)} bytes",
    )
    _check_pdf(stored[:length], asked)
    theirs = {str(image.SOPInstanceUID) for image in asked.source.datasets}
    ours = {str(item.ReferencedSOPInstanceUID) for item in dataset.SourceInstanceSequence}
    expect(ours == theirs, f"{_WHAT}: it does not refer to the images that were analysed")


def _check_pdf(pdf: bytes, asked: Asked) -> None:
    whole = pdf.startswith(b"%PDF-1.") and pdf.rstrip().endswith(b"%%EOF")
    expect(whole, f"{_WHAT}: it is no whole PDF")
    pages = len(_PAGE.findall(pdf))
    expect(0 < pages <= PAGES_MAXIMUM, f"{_WHAT}: it has {pages} pages")
    text = shown_text(pdf)
    expect(
        text.count("not verified, not for diagnosis") >= 2 * pages,
        f"{_WHAT}: the warning is not above and below each page",
    )
    check_words(_WHAT, text, asked, cut="more: see the report" in text)
    check_values(_WHAT, text, asked, all_of_them=False)


def shown_text(pdf: bytes) -> str:
    """The strings that are shown, in the order of drawing."""
    strings = (_ESCAPE.sub(_unescaped, found) for found in _SHOWN.findall(pdf))
    return " ".join(one.decode("cp1252", "replace") for one in strings)


def _unescaped(found: "re.Match[bytes]") -> bytes:
    code = found.group(1)
    if len(code) == 3:
        return bytes([int(code, 8)])
    return {b"n": b"\n", b"r": b"\r", b"t": b"\t"}.get(code, code)
