"""What can be wrong with pictures and pages of the lungs: that they are said to be what they are not."""

from pydicom import Dataset

from ledger.result import Role
from tests.results.mutants.mutant import table


def nothing_burned_in(dataset: Dataset) -> None:
    dataset.BurnedInAnnotation = "NO"


def an_original(dataset: Dataset) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]


def an_inverted_picture(dataset: Dataset) -> None:
    dataset.PixelData = bytes(255 - value for value in dataset.PixelData)


def length_of_the_padded_value(dataset: Dataset) -> None:
    dataset.EncapsulatedDocumentLength = len(dataset.EncapsulatedDocument) + 2


def no_document(dataset: Dataset) -> None:
    dataset.MIMETypeOfEncapsulatedDocument = "text/xml"


def a_verified_document(dataset: Dataset) -> None:
    dataset.VerificationFlag = "VERIFIED"


_BURNED_IN = "does not say that text is burned in"

MUTANTS = (
    *table(
        Role.OVERLAY,
        "everything",
        (nothing_burned_in, _BURNED_IN),
        (an_original, "its Image Type is"),
        (an_inverted_picture, "overlay"),
    ),
    *table(
        Role.SUMMARY,
        "everything",
        (nothing_burned_in, _BURNED_IN),
        (an_original, "its Image Type is"),
        (an_inverted_picture, "summary"),
    ),
    *table(
        Role.DOCUMENT,
        "everything",
        (nothing_burned_in, _BURNED_IN),
        (length_of_the_padded_value, "its length is"),
        (no_document, "its MIME type is"),
        (a_verified_document, "its verification flag is"),
    ),
)
