"""A link to the feedback page of one result that a report or a mail may carry.

It names a job and a day on which it ends, and is signed, so that nobody can count through the results of a
site by trying numbers. It opens nothing by itself: whoever follows it has to sign in.
"""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256

from ledger.errors import WetreadError
from ledger.identifiers import JobId

#: How long a link is good for, in seconds. Reports are read for weeks, and looked at again for months.
VALID_S = 180 * 86400.0

_TOKEN = re.compile(r"([1-9][0-9]{0,17})\.([1-9][0-9]{0,11})\.([A-Za-z0-9_-]{43})", re.ASCII)


class LinkRefused(WetreadError):
    """A feedback link is not one of ours, or is over."""


def link_token(key: bytes, job: JobId, until: float) -> str:
    """What a link to the result of `job` carries; good up to `until`, in seconds since 1970-01-01 UTC."""
    end = int(until)
    return f"{int(job)}.{end}.{_seal(key, f'{int(job)}.{end}')}"


def link_path(key: bytes, job: JobId, until: float) -> str:
    """Where in the console a link to the result of `job` leads, good up to `until` as in `link_token`."""
    return f"/feedback/link/{link_token(key, job, until)}"


def read_link(key: bytes, token: str, now: float) -> JobId:
    """The job that a link names. Raises `LinkRefused` where it was not made with `key`, or ended before
    `now`.
    """
    parts = _TOKEN.fullmatch(token)
    if parts is None:
        raise LinkRefused("this is no feedback link of this site: it is cut off or was changed on its way")
    job, end, seal = parts.groups()
    if not hmac.compare_digest(seal, _seal(key, f"{job}.{end}")):
        raise LinkRefused("this is no feedback link of this site: it is cut off or was changed on its way")
    if int(end) < now:
        raise LinkRefused(
            "this feedback link is over; find the result by its accession number under Studies instead"
        )
    return JobId(int(job))


def new_key(random: bytes) -> str:
    """How a key of 32 random bytes is kept."""
    if len(random) != 32:
        raise ValueError("a key has 32 random bytes")
    return urlsafe_b64encode(random).decode()


def key_of(kept: str) -> bytes:
    """The key that was kept so."""
    return urlsafe_b64decode(kept)


def _seal(key: bytes, text: str) -> str:
    # The purpose is part of it: a key that signs something else some day makes no feedback link.
    digest = hmac.new(key, f"wetread feedback {text}".encode(), sha256).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()
