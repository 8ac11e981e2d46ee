"""`[telemetry]`: whether, and whom, we tell how each study went, step by step."""

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError, model_validator

from dicom_node.peers import PeerSettings
from dicom_node.web_peer import WebPeerSettings, is_this_machine


class TelemetryTls(BaseModel, frozen=True, extra="forbid"):
    """`[telemetry.tls]`: whom we trust, where that is not whom this machine trusts."""

    ca_file: Path  # Who vouches for the collector, in PEM.


class TelemetrySettings(BaseModel, frozen=True, extra="forbid"):
    """Traces of studies, as OTLP over HTTP. They name no patient. Needs `pip install wetread[telemetry]`."""

    # Where a collector takes traces, such as "http://127.0.0.1:4318/v1/traces". None: nobody is told.
    otlp_url: str | None = None
    otlp_token: str | None = Field(
        default=None, repr=False
    )  # Goes as `Authorization: Bearer …`, over https only.
    tls: TelemetryTls | None = None
    every_s: float = Field(default=10.0, gt=0)  # How often studies are looked for that are settled.
    deadline_s: float = Field(default=30.0, gt=0)  # One exchange with the collector.

    @model_validator(mode="after")
    def _can_be_told(self) -> Self:
        if self.otlp_url is None:
            return self
        try:
            self.peer()
        except ValidationError as error:
            words = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ValueError(f"otlp_url {words}") from None
        parts = urlsplit(self.otlp_url)
        if self.otlp_token and parts.scheme != "https" and not is_this_machine(parts.hostname or ""):
            raise ValueError("otlp_token over http would show it to everybody: https")
        return self

    def peer(self) -> PeerSettings:
        """The collector as a session over HTTP wants it."""
        assert self.otlp_url is not None
        web = WebPeerSettings(url=self.otlp_url, ca_file=self.tls and self.tls.ca_file)
        return PeerSettings(name="telemetry", web=web, deadline_s=self.deadline_s)

    def under(self, folder: Path) -> Self:
        """The same with relative file names seen from `folder`."""
        tls = self.tls and TelemetryTls(ca_file=folder / self.tls.ca_file)
        return self.model_copy(update={"tls": tls})
