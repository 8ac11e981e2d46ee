"""What somebody typed into the search, as what the ledger is asked."""

import math
from dataclasses import dataclass
from datetime import date
from typing import Annotated

from fastapi import HTTPException, Query, Request

from console.web.numbers import MOST
from ledger.identifiers import StudyId
from ledger.job import JobState
from ledger.present import Search
from ledger.study import StudyState

_LONGEST = 128
_Text = Annotated[str, Query(max_length=_LONGEST)]


@dataclass(frozen=True, slots=True)
class Asked:
    """The fields of the form, as they were sent: FastAPI reads them from the query."""

    text: _Text = ""
    accession: _Text = ""
    since: _Text = ""
    until: _Text = ""
    calling: _Text = ""
    modality: _Text = ""
    state: _Text = ""
    after: _Text = ""

    def search(self, limit: int, *, patients: bool) -> Search:
        """What the ledger is asked: by patients, too, for who may see them. Raises `ValueError`, with a
        sentence, where a field is none.
        """
        return Search(
            text=self.text.strip(),
            patients=patients,
            accession=self.accession.strip(),
            since=_dicom_date(self.since),
            until=_dicom_date(self.until),
            calling=self.calling.strip(),
            modality=self.modality.strip().upper(),
            state=StudyState(self.state) if self.state in set(StudyState) else None,
            jobs=_jobs(self.state),
            before=_place(self.after),
            limit=limit,
        )


async def asked_on_page(request: Request) -> Asked:
    """The fields as a page sent them: in the body, for names are among them, and browsers keep addresses; in
    the address, where a link asks for a state. Raises 422.
    """
    sent = request.query_params if request.method == "GET" else await request.form()
    values = {name: str(sent.get(name, "")) for name in Asked.__dataclass_fields__}
    if any(len(value) > _LONGEST for value in values.values()):
        raise HTTPException(422, f"more than {_LONGEST} characters are no search")
    return Asked(**values)


def _dicom_date(text: str) -> str:
    plain = text.strip()
    if not plain:
        return ""
    try:
        return date.fromisoformat(plain).strftime("%Y%m%d")
    except ValueError:
        raise ValueError(f"{plain!r} is no date: write 2026-11-21") from None


def _jobs(state: str) -> JobState | None:
    if not state or state in set(StudyState):
        return None
    if state in set(JobState):
        return JobState(state)
    raise ValueError(f"{state!r} is no state of a study or a job")


def place(at: float, study_id: int) -> str:
    """Where a page of the list ended, for the next one."""
    return f"{at!r},{study_id}"


def _place(text: str) -> tuple[float, StudyId] | None:
    if not text:
        return None
    at, _, number = text.partition(",")
    try:
        place = float(at), StudyId(int(number))
    except ValueError:
        raise ValueError("that is no place in the list") from None
    if not (math.isfinite(place[0]) and 1 <= place[1] <= MOST):
        raise ValueError("that is no place in the list")
    return place
