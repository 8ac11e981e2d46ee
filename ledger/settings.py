"""Where the ledger is kept."""

import re
from pathlib import Path

from pydantic import BaseModel, Field, field_validator

_ADDRESS = re.compile(r"sqlite:////?.+|postgresql\+pg8000://.+", re.DOTALL)
_PASSWORD = re.compile(r"(?<=:)[^:/@]*(?=@)")


class LedgerSettings(BaseModel, frozen=True, extra="forbid"):
    """The address of the ledger's database.

    `sqlite:////var/lib/wetread/ledger.sqlite` is a file on this machine: enough for one machine, no server.
    `postgresql+pg8000://user:password@host:5432/wetread` is a server: for workers on several machines.
    """

    url: str = Field(repr=False)  # It may hold a password.

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str) -> str:
        if not _ADDRESS.fullmatch(url):
            raise ValueError(
                "the ledger's url is either sqlite:////absolute/path.sqlite or "
                "postgresql+pg8000://user:password@host:port/database"
            )
        return url

    @property
    def shown(self) -> str:
        """The address without its password, for messages."""
        return _PASSWORD.sub("***", self.url)

    @property
    def file(self) -> Path | None:
        """The file of an SQLite ledger; None where a server keeps it."""
        path = self.url.removeprefix("sqlite:///").partition("?")[0]
        return Path(path).absolute() if path != self.url.partition("?")[0] else None
