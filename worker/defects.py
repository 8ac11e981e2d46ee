"""Why images cannot be used. These are facts about a study: nobody retries, and the report says which."""

from enum import StrEnum

from ledger.errors import StudyError


class Defect(StrEnum):
    """Why a series is no volume. Routing and console show the words."""

    TOO_FEW = "too few slices"
    MIXED_SERIES = "several series"
    MIXED_CLASS = "several SOP classes"
    MIXED_FRAME_OF_REFERENCE = "several frames of reference"
    MIXED_SIZE = "several image sizes"
    MIXED_SPACING = "several pixel spacings"
    MIXED_ORIENTATION = "several orientations"
    DUPLICATE = "several images at one position"
    GAP = "missing slice"
    UNEVEN = "uneven spacing"
    TILT = "gantry tilt"
    SHIFTED = "slices shifted sideways"
    NO_GEOMETRY = "no position or orientation"
    NOT_FINITE = "impossible numbers"
    LOCALIZER = "localizer"
    NO_PIXELS = "no pixel data"
    NOT_GREY = "not a grey-scale image"
    NO_UID = "missing UIDs"
    NOT_A_STACK = "multi-frame image that is not one stack"
    NO_UNITS = "values without units"


class Unusable(StudyError):
    """These images cannot be used; the message is a sentence with the numbers that show it."""

    def __init__(self, because: str) -> None:
        super().__init__(because[:1].upper() + because[1:])


class NotAVolume(Unusable):
    """These images do not make one regular grid; `defect` says which way, the message says where."""

    def __init__(self, defect: Defect, because: str) -> None:
        super().__init__(because)
        self.defect = defect

    def __reduce__(self) -> tuple[type["NotAVolume"], tuple[Defect, str]]:
        """Survive the way from one process to another, where an error is made anew from its arguments."""
        return (NotAVolume, (self.defect, str(self)))


class NotAnImage(Unusable):
    """What came is no single image that a model could be given; the message says why."""


class UnsafeInput(Unusable):
    """Decoding this would take more than any image needs, or its codestream contradicts its header."""


class CannotDecode(Unusable):
    """The pixel data is damaged, or in an encoding that nothing installed here reads."""
