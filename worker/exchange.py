"""
What a worker and its child say to each other: four bytes of length, then JSON.

This module and all that it imports are free of torch, so that the parent stays small and able to kill. The
child says nothing that the parent would have to trust: every path is checked again before a file is kept.
"""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal, Self

from pydantic import BaseModel, Field, TypeAdapter

from ledger.completeness import Shortfall
from ledger.errors import SiteError, WetreadError
from ledger.identifiers import Digest, ResultId, Uid
from ledger.job import EARLIER, Claim, Outcome
from ledger.profile import DEFAULT, Profile
from ledger.result import NewResult, Role
from ledger.usage import Peak, Usage
from models.settings import ModelsSettings
from results.provenance import Predecessor

if TYPE_CHECKING:
    from pydicom import Dataset

_LENGTH = struct.Struct(">I")
#: Requests name thousands of files at most; anything longer is no message.
LONGEST_FRAME_BYTES = 16 << 20

#: "ready" and "computed" are waiting: for the model to be free, and for the encoder.
Stage = Literal["load", "ready", "open", "model", "computed", "encode", "check"]
WAITING: tuple[Stage, ...] = ("ready", "computed")


class BrokenFrame(WetreadError):
    """The other end of the pipe said something that is no message."""


class Crowded(SiteError):
    """A run has too little memory while the input of others lies in it; alone it may have enough."""


class Files(BaseModel, frozen=True, extra="forbid"):
    """The files of one input set, as absolute paths; each of them once."""

    inputs: tuple[str, ...] = ()  #: of the one series or image; of a timeline the examination itself
    named: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)  #: of several series, by their names
    earlier: tuple[tuple[str, ...], ...] = ()  #: of earlier examinations of the patient, the latest first
    earlier_asked: int | None = None  #: how many of those the rule asks for at most; None: for none


def files_of(claim: Claim, paths: Sequence[Path]) -> Files:
    """The files of a claimed job, sorted by what they are to its model; `paths` are those of its inputs."""
    groups: dict[str, list[str]] = {}
    for one, path in zip(claim.inputs, paths, strict=True):
        groups.setdefault(one.name, []).append(str(path))
    earlier = sorted((int(name.removeprefix(EARLIER)), name) for name in groups if name.startswith(EARLIER))
    return Files(
        inputs=tuple(groups.pop("", ())),
        earlier=tuple(tuple(groups.pop(name)) for _, name in earlier),
        named={name: tuple(files) for name, files in groups.items()},
        earlier_asked=claim.earlier_asked,
    )


class Plan(BaseModel, frozen=True, extra="forbid"):
    """The objects of one run that some of its destinations get: all of these get the same."""

    profile: Profile = DEFAULT
    peers: tuple[str, ...] | None = None  #: None: whoever there is, or only we
    predecessor: Predecessor | None = None  #: the report that theirs replaces


class RunRequest(Files, frozen=True, extra="forbid"):
    """One run of one model on one input set: all that the child knows of a job."""

    number: int = 0  #: what parent and child call this run; the parent numbers them (`worker.attempt`)
    urgent: bool = False  #: goes before others that wait in the child
    model: str  #: `name` or `name@version`, or `package.module:Class` where `allow_python_models`
    settings: Mapping[str, object] = Field(default_factory=dict)
    out: str  #: absolute path of an existing folder that nobody else writes to
    at: float  #: the run's time, seconds since 1970 UTC: the same inputs have the same
    time_zone: str = "UTC"  #: IANA name: the clock that results go by where the images name none
    device: str = "auto"
    allow_python_models: bool = False
    models: ModelsSettings = ModelsSettings()  #: where else than in Wetread models may be, and whom to trust
    shortfall: Shortfall | None = None  #: what was missing of the study when it was closed
    plans: tuple[Plan, ...] = Field(default=(Plan(),), min_length=1)  #: what its destinations get
    peaks: tuple[Peak, ...] = ()  #: what the model is known to take
    again: int = 0  #: how many runs of the same on the same were asked for before it


class Forget(BaseModel, frozen=True, extra="forbid"):
    """Nobody wants the answer of this run any more: it goes no further than the step that it is in."""

    forget: int


class ResultFile(BaseModel, frozen=True, extra="forbid"):
    """One object that the run wrote."""

    role: Role
    path: str  #: absolute
    sop_class: str
    sop_instance: str
    study: str
    series: str
    transfer_syntax: str
    peers: tuple[str, ...] | None = None  #: whom it is for, as in the plans

    @classmethod
    def of(cls, dataset: "Dataset", role: Role, path: Path) -> Self:
        """The object that `dataset` was written to `path` as."""
        return cls(
            role=role,
            path=str(path),
            sop_class=str(dataset.SOPClassUID),
            sop_instance=str(dataset.SOPInstanceUID),
            study=str(dataset.StudyInstanceUID),
            series=str(dataset.SeriesInstanceUID),
            transfer_syntax=str(dataset.file_meta.TransferSyntaxUID),
        )

    def kept(self, digest: Digest, size: int, path: str, *, instead_of: ResultId | None = None) -> NewResult:
        """For the ledger, once its file lies in the spool as `digest`, `size` and `path` say."""
        return NewResult(
            role=self.role,
            sop_class=Uid.parse(self.sop_class),
            sop_instance=Uid.parse(self.sop_instance),
            study=Uid.parse(self.study),
            series=Uid.parse(self.series),
            transfer_syntax=Uid.parse(self.transfer_syntax),
            digest=digest,
            size=size,
            path=path,
            peers=self.peers,
            instead_of=instead_of,
        )


class Finding(BaseModel, frozen=True, extra="forbid"):
    """One measured value, for people: the report has it in full."""

    label: str  #: of the segment, or empty for the series as a whole
    name: str
    value: float
    unit: str


class RunReply(BaseModel, frozen=True, extra="forbid"):
    """What a run came to."""

    outcome: Outcome
    because: str = ""
    model_identity: str  #: `name@version`
    trust: str = ""  #: who vouches for the model; empty: it came with Wetread
    files: tuple[ResultFile, ...]
    timings: Mapping[str, float]  #: seconds by stage
    findings: tuple[Finding, ...] = ()
    lines: tuple[str, ...] = ()  #: boxes, landmarks, verdicts and maps, each in one plain sentence
    cautions: tuple[str, ...] = ()
    usage: Usage | None = None  #: what it took; None: the model did not run


class Ready(BaseModel, frozen=True, extra="forbid"):
    """The child has imported everything and waits for work."""

    kind: Literal["ready"] = "ready"
    device: str = ""  #: what it computes on
    budget_bytes: int = 0  #: what models and runs may take of it
    gpu: str = ""  #: the UUID of the GPU; empty: it computes on a CPU, or torch does not know


class Entered(BaseModel, frozen=True, extra="forbid"):
    """A run enters a stage. `limit_s` is of the model's manifest; None: the site's own."""

    kind: Literal["entered"] = "entered"
    number: int = 0
    stage: Stage
    limit_s: float | None = None


class Admitted(BaseModel, frozen=True, extra="forbid"):
    """The model of a run is loaded, and the run is about to begin with what it may take."""

    kind: Literal["admitted"] = "admitted"
    number: int = 0
    usage: Usage
    spare: int  #: bytes of the host that it leaves for others
    held: int  #: bytes of its input
    kept: tuple[str, ...]  #: the models that are loaded now, by the names of rules
    taken_bytes: int  #: by them


class Progressed(BaseModel, frozen=True, extra="forbid"):
    """The model of a run says how far it is."""

    kind: Literal["progressed"] = "progressed"
    number: int = 0
    part: float = Field(ge=0, le=1)  #: of the model's work that is done


class Done(BaseModel, frozen=True, extra="forbid"):
    """A run ended; its files lie in the request's folder."""

    kind: Literal["done"] = "done"
    number: int = 0
    reply: RunReply


class Failed(BaseModel, frozen=True, extra="forbid"):
    """A run ended without an answer, and whose fault that is (see `ledger.errors`).

    "site" is a setting that somebody has to change; "disk" is one that was full or broken just now. "memory"
    ran out: the next attempt is allowed less. "crowded": others' input took it, so the run is to be tried
    alone, which counts as the same attempt. "crash" is everything that nobody raised on purpose: it may be
    chance, so it is tried again. "forgotten" is what the parent asked for.
    """

    kind: Literal["failed"] = "failed"
    number: int = 0
    fault: Literal["study", "model", "site", "disk", "memory", "crowded", "crash", "forgotten"]
    error: str  #: name of the exception's class
    because: str


FromChild = Ready | Entered | Admitted | Progressed | Done | Failed
_TO_CHILD: TypeAdapter[RunRequest | Forget] = TypeAdapter(RunRequest | Forget)
_FROM_CHILD: TypeAdapter[FromChild] = TypeAdapter(Annotated[FromChild, Field(discriminator="kind")])


def frame(message: BaseModel) -> bytes:
    """`message` as it goes through a pipe. Raises `BrokenFrame` if it is too long."""
    body = message.model_dump_json().encode()
    if len(body) > LONGEST_FRAME_BYTES:
        raise BrokenFrame(f"a message of {len(body)} bytes is longer than {LONGEST_FRAME_BYTES}")
    return _LENGTH.pack(len(body)) + body


def read_request(stream: BinaryIO) -> RunRequest | Forget | None:
    """The next word of the parent, waiting for it; None once it has closed the pipe. Raises `BrokenFrame`."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    length = _length(head)
    body = stream.read(length)
    return _TO_CHILD.validate_json(body) if len(body) == length else None


class Inbox:
    """Puts frames together from whatever pieces a non-blocking pipe gives."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, piece: bytes) -> None:
        self._bytes += piece

    def take(self) -> FromChild | None:
        """The next whole message, if there is one. Raises `BrokenFrame`."""
        if len(self._bytes) < _LENGTH.size:
            return None
        end = _LENGTH.size + _length(self._bytes)
        if len(self._bytes) < end:
            return None
        body = bytes(self._bytes[_LENGTH.size : end])
        del self._bytes[:end]
        try:
            return _FROM_CHILD.validate_json(body)
        except ValueError:
            # Not the body itself: it may hold anything, patient data included.
            raise BrokenFrame(f"the child sent {len(body)} bytes that are no message") from None


def _length(head: bytes | bytearray) -> int:
    (length,) = _LENGTH.unpack_from(head)
    if length > LONGEST_FRAME_BYTES:
        raise BrokenFrame(f"the other end announces a message of {length} bytes")
    return int(length)
