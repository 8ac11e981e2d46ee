"""What a request can be refused with: a status of HTTP and a sentence that quotes nothing of the request."""

from http import HTTPStatus

from ledger.errors import WetreadError


class Refused(WetreadError):
    """The request is answered with an error status."""

    status = HTTPStatus.BAD_REQUEST


class BadRequest(Refused):
    """The request is not one that the standard describes."""


class NotHere(Refused):
    """Nothing is held under that name."""

    status = HTTPStatus.NOT_FOUND


class NotAcceptable(Refused):
    """Nothing that the client accepts can be made of what is held."""

    status = HTTPStatus.NOT_ACCEPTABLE


class TooLarge(Refused):
    """More bytes than this site takes."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class NotDicom(Refused):
    """The body is in a form that is not taken."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class NotNow(Refused):
    """The same request may succeed later."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
