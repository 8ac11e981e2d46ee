"""Media types: what a client accepts (RFC 9110 §12.5.1, PS3.18 §8.7), and what an answer says it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from dicom_node.dicomweb.refusals import BadRequest

_HEADER_MAXIMUM = 4096  # characters of one Accept
_RANGES_MAXIMUM = 32

DICOM, OCTETS, JSON = "application/dicom", "application/octet-stream", "application/dicom+json"
MULTIPART = "multipart/related"


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One thing that a client accepts. `type` is that of the parts where it wants them in a multipart."""

    type: str  #: lower case, "*/*" or "image/*" included
    multipart: bool
    parameters: dict[str, str] = field(default_factory=dict)  #: lower-case names
    quality: float = 1.0

    def takes(self, type: str) -> bool:
        """Whether `type` is in the range."""
        major, _, minor = self.type.partition("/")
        return self.type in ("*/*", type) or (minor == "*" and type.startswith(f"{major}/"))

    @property
    def transfer_syntax(self) -> str | None:
        """The UID that it asks for, "*" for whatever it is stored in, None where it does not say."""
        return self.parameters.get("transfer-syntax")


def accepted(header: str | None) -> Sequence[MediaRange]:
    """What `header` accepts, the best first; without a header everything. Raises `BadRequest`."""
    if header is None or not header.strip():
        return [MediaRange("*/*", multipart=False)]
    if len(header) > _HEADER_MAXIMUM:
        raise BadRequest(f"the Accept header is longer than {_HEADER_MAXIMUM} characters")
    ranges = [_range(text) for text in split(header, ",") if text.strip()]
    if not 0 < len(ranges) <= _RANGES_MAXIMUM:
        raise BadRequest(f"the Accept header has to name 1 to {_RANGES_MAXIMUM} media types")
    return sorted((each for each in ranges if each.quality > 0), key=lambda each: -each.quality)


def parse(text: str) -> tuple[str, dict[str, str]]:
    """A media type and its parameters, names in lower case, values without quotes. Raises `BadRequest`."""
    first, *rest = split(text, ";")
    type = first.strip().lower()
    major, slash, minor = type.partition("/")
    if not slash or not major or not minor:
        raise BadRequest("a media type has the form type/subtype")
    parameters = {}
    for each in rest:
        name, equals, value = each.partition("=")
        if equals:
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
            parameters[name.strip().lower()] = value
    return type, parameters


def split(text: str, separator: str) -> list[str]:
    """Split where the separator is not within quotes."""
    parts, quoted, begin, position = [], False, 0, 0
    while position < len(text):
        character = text[position]
        if quoted and character == "\\":
            position += 1
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            parts.append(text[begin:position])
            begin = position + 1
        position += 1
    return [*parts, text[begin:]]


def _range(text: str) -> MediaRange:
    type, parameters = parse(text)
    try:
        quality = float(parameters.pop("q", "1"))
    except ValueError as error:
        raise BadRequest("the quality (q) of a media type is a number") from error
    if type == MULTIPART:
        inner = parameters.pop("type", "*/*").lower()
        # Some clients forget the quotes and lose the parameters of the type; nothing else can be meant.
        return MediaRange(inner, True, parameters, quality)
    return MediaRange(type, False, parameters, quality)
