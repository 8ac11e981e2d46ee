"""Whether a request that changes something was meant by whoever is signed in, and not by another site.

A browser sends its cookie with whatever any page makes it send. So an unsafe request has to come from a page
of ours, by the browser's own word (Origin, RFC 6454; Sec-Fetch-Site, W3C Fetch Metadata), and, where somebody
is signed in, to carry what only our pages know: a token of the session, as a header or as a field of the
form.
"""

import hmac
from hashlib import sha256

from fastapi import Request
from starlette.datastructures import Headers

from console.web.access.visitor import Visitor

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110 §9.2.1
HEADER = "x-csrf"
FIELD = "csrf"
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def csrf_token(cookie: str) -> str:
    """The token of the session whose cookie says `cookie`: nobody can know it who does not know that."""
    return hmac.new(cookie.encode(), b"wetread csrf", sha256).hexdigest()


async def meant(request: Request, visitor: Visitor) -> bool:
    """Whether the request carries the token of the visitor's session. A program with its own token has none,
    for no page can send that.
    """
    if visitor.session is None:
        return True
    sent = request.headers.get(HEADER)
    if sent is None and request.headers.get("content-type", "").startswith(_FORMS):
        field = (await request.form()).get(FIELD)
        sent = field if isinstance(field, str) else None
    return sent is not None and hmac.compare_digest(sent.encode(), visitor.csrf.encode())


def of_this_site(headers: Headers, origins: frozenset[str], *, unsafe: bool) -> bool:
    """Whether the browser says that one of our own pages asks.

    `origins` are ours. An unsafe request has to say something of it: every browser of these years does, and a
    program without one uses a token.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None and origin.lower() not in origins:
        return False
    if site is not None and site != "same-origin" and (unsafe or site != "none"):
        return False
    return not unsafe or origin is not None or site is not None
