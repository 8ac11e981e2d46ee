"""A profile as a site writes it: one of the named ones, or what a destination has otherwise than one of them.

[[peer]]
profile = "weasis"

[peer.profile]
like = "ohif"
with = ["summary"]
segmentation = "labelmap"
[peer.profile.instead]
report = ["comprehensive", "enhanced"]
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag, model_validator

from ledger.profile import (
    KINDS,
    PROFILES,
    Instead,
    Profile,
    ReportTitle,
    SegmentationType,
    TransferSyntax,
    complaint,
)
from ledger.result import Role

ProfileName = Literal["ohif", "slicer", "weasis", "plain-pacs", "air"]

#: What earlier versions asked of a peer in keys of their own, and how it is said now.
OUTDATED: Mapping[str, str] = {
    "report_instead": 'write [peer.profile.instead] with report = ["comprehensive", "enhanced"]',
    "without_segmentation": 'write [peer.profile.instead] with segmentation = ["nothing"]',
    "without_maps": "write [peer.profile.instead] with parametric-map = [] to have refused maps wait",
}


def _kind(text: object) -> object:
    """TOML keys have no spaces, and not every role is sent by choice."""
    role = text.replace("-", " ").replace("_", " ") if isinstance(text, str) else text
    if role not in {str(one) for one in KINDS}:
        there_are = ", ".join(sorted(one.replace(" ", "-") for one in KINDS))
        raise ValueError(f"{text!r} is no kind; there are {there_are}")
    return role


Kind = Annotated[Role, BeforeValidator(_kind)]


class ProfileSettings(BaseModel, frozen=True, extra="forbid", populate_by_name=True):
    """A `[peer.profile]`: what is left out is as in the profile that it is `like`."""

    like: ProfileName = "ohif"
    # The kinds that it is sent, instead of those of the other profile. The report always goes.
    kinds: tuple[Kind, ...] | None = None
    # Kinds beside those, and kinds that it is not sent: "segmentation", "parametric-map", "structure-set",
    # "presentation-state", "blending", "overlay", "summary", "document", "key-images", "marks".
    with_: tuple[Kind, ...] = Field(default=(), alias="with")
    without: tuple[Kind, ...] = ()
    # "binary": every viewer that shows segmentations shows it. "labelmap": one object however many segments,
    # for viewers of 2026 and later. "fractional": probabilities, which hardly any viewer shows.
    segmentation: SegmentationType | None = None
    # Frames in one segmentation object; what has more becomes several objects. None: as many as there are.
    frame_limit: int | None = Field(default=None, ge=1)
    # "rle": label maps, fractions and overlays are compressed without loss.
    transfer_syntax: TransferSyntax | None = None
    # What goes where a kind is refused, in the order of trying: instead of a report "comprehensive" or
    # "enhanced", of a labelmap "binary", of everything but the report "nothing". An empty list: it waits for
    # an operator.
    instead: Mapping[Kind, tuple[Instead, ...]] = Field(default_factory=dict)
    # "imaging": Imaging Measurement Report; "oncology": Oncology Measurement Report, text in OHIF.
    report_title: ReportTitle | None = None
    # Series Description, at most 64 characters: {model}, {version}, {what} (segmentation, report ...) and
    # {status} (not verified; nothing found, not verified; NOT ANALYSED). It has to say AI and not verified.
    series_description: str | None = None
    # Series Numbers count from here: the segmentation is the first after it, the report the second.
    series_number: int | None = Field(default=None, ge=1, le=2_000_000_000)
    # Segment Label: "{label}", or more than that: "AI {label}".
    segment_label: str | None = None

    @property
    def profile(self) -> Profile:
        """What it comes to."""
        like = PROFILES[self.like]
        kinds = like.kinds if self.kinds is None else frozenset(self.kinds) | {Role.REPORT}
        forms = {key: getattr(self, key) for key in _FORMS if getattr(self, key) is not None}
        segmentation = self.segmentation or like.segmentation
        instead = dict(like.instead)
        if segmentation == "labelmap":
            instead[Role.SEGMENTATION] = ("binary", *instead.get(Role.SEGMENTATION, ()))
        return replace(
            like,
            name=f"like {self.like}",
            kinds=(kinds | frozenset(self.with_)) - frozenset(self.without),
            instead={**instead, **self.instead},
            **forms,
        )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        both = sorted(frozenset(self.with_) & frozenset(self.without))
        if both:
            raise ValueError(f"'{both[0]}' is both in with and in without")
        if wrong := complaint(self.profile):
            raise ValueError(wrong)
        return self


#: What `profile` of a `[[peer]]` may be; each is judged by its own rules alone.
NamedOrTable = Annotated[
    Annotated[ProfileName, Tag("name")] | Annotated[ProfileSettings, Tag("table")],
    Discriminator(lambda given: "name" if isinstance(given, str) else "table"),
]

_FORMS = (
    "segmentation",
    "frame_limit",
    "transfer_syntax",
    "report_title",
    "series_description",
    "series_number",
    "segment_label",
)
