"""What of a peer's list of work this site performs: `[peer.worklist]`."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field


def _code(text: str) -> str:
    value, separator, scheme = text.partition("^")
    if not (value and separator and scheme) or "^" in scheme:
        raise ValueError(f"{text!r} is no code: it is written value^scheme, as in 113106^DCM")
    return text


CodeText = Annotated[str, AfterValidator(_code)]


class WorklistSettings(BaseModel, frozen=True, extra="forbid"):
    """The workitems (UPS) of a task manager that this site takes, and what it does for them."""

    # Scheduled Workitem Code, as value^scheme → name of the [[rule]] whose results it waits for. Workitems
    # with other codes are left to others.
    rules: dict[CodeText, str] = Field(min_length=1)
    # Code value of the Scheduled Station Name whose workitems are ours; empty: anybody's.
    station: str = ""
    every_s: float = Field(default=10.0, ge=1)  # How often the list is looked at.
    # The [[peer]] with `retrieve` that images are fetched from where they are not here; empty: they are sent.
    fetch_from: str = ""
    images_within_s: float = Field(default=86_400.0, gt=0)  # Without images by then it is given up.
