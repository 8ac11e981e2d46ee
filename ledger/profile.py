"""
What a destination can show, and so what it is sent: kinds of objects, their form, and the words on them.

A viewer shows what its makers have built, not what the standard allows. So a destination names a profile, and
a run makes the objects of each profile that its destinations have. A profile never asks for pictures alone:
the report, which machines read, goes to everybody.

What is said of viewers was seen in them or read in what their makers say (`docs/results/index.md`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from types import MappingProxyType
from typing import Literal

from ledger.result import Role

SegmentationType = Literal["binary", "labelmap", "fractional"]
TransferSyntax = Literal["explicit", "rle"]
ReportTitle = Literal["imaging", "oncology"]
#: What goes in place of a kind of object that is refused: the same as another SOP class, or nothing.
Instead = Literal["binary", "comprehensive", "enhanced", "nothing"]

#: What goes without a word more where it is refused: it repeats what the report says, or is only seen.
COMPANIONS = frozenset(
    {
        Role.PARAMETRIC_MAP,
        Role.STRUCTURE_SET,
        Role.PRESENTATION,
        Role.BLENDING,
        Role.OVERLAY,
        Role.SUMMARY,
        Role.DOCUMENT,
        Role.KEY_IMAGES,
        Role.MARKS,
    }
)
#: The kinds that a profile can name: a rejection note and an older form of the report are made when due.
KINDS = COMPANIONS | {Role.SEGMENTATION, Role.REPORT}

#: A list of series shows its first twenty letters or so: what everybody has to see comes first.
DESCRIPTION = "AI {status}: {what}, {model} {version}"


def _instead(**more: tuple[Instead, ...]) -> dict[Role, tuple[Instead, ...]]:
    given = {Role(role.replace("_", " ")): forms for role, forms in more.items()}
    return {**dict.fromkeys(COMPANIONS, ("nothing",)), **given}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a destination is sent."""

    name: str
    kinds: frozenset[Role]
    segmentation: SegmentationType = "binary"
    frame_limit: int | None = None  #: frames in one segmentation object; more go into further objects
    transfer_syntax: TransferSyntax = "explicit"  #: "rle": of label maps, fractions and colour overlays
    #: By kind: what goes in its place where it is refused, in the order of trying. Nothing named: it waits
    #: for an operator.
    instead: Mapping[Role, tuple[Instead, ...]] = field(default_factory=_instead)
    report_title: ReportTitle = "oncology"  #: (126001, DCM); "imaging": (126000, DCM)
    series_description: str = DESCRIPTION
    series_number: int = 9100  #: the objects count from here
    segment_label: str = "{label}"

    @property
    def form(self) -> tuple[object, ...]:
        """What decides which objects are made: two profiles of one form have all objects in common."""
        return (
            self.kinds,
            self.segmentation,
            self.frame_limit,
            self.transfer_syntax,
            self.report_title,
            self.series_description,
            self.series_number,
            self.segment_label,
        )


_MACHINE_READABLE = frozenset({Role.SEGMENTATION, Role.PARAMETRIC_MAP, Role.REPORT})

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        one.name: one
        for one in (
            # Text under 126001, shapes under 126000 in a document of their own, maps in floating point.
            Profile(name="ohif", kinds=_MACHINE_READABLE | {Role.MARKS}),
            # Builds before summer 2026 mislabel label maps; planar shapes are read since October 2025.
            Profile(name="slicer", kinds=_MACHINE_READABLE | {Role.MARKS}, report_title="imaging"),
            # 4.6 opens no segmentation of more than 400 frames; marks are drawn from presentation states.
            Profile(
                name="weasis",
                kinds=_MACHINE_READABLE | {Role.PRESENTATION, Role.KEY_IMAGES},
                frame_limit=400,
            ),
            # Shows images and pages; what it cannot show goes all the same, for whoever reads it there.
            Profile(
                name="plain-pacs",
                kinds=_MACHINE_READABLE | {Role.OVERLAY, Role.SUMMARY, Role.DOCUMENT},
                instead=_instead(segmentation=("nothing",), report=("comprehensive", "enhanced")),
            ),
            # IHE AI Results: everything that machines read, and no pictures.
            Profile(
                name="air",
                kinds=_MACHINE_READABLE | {Role.MARKS, Role.KEY_IMAGES},
                report_title="imaging",
            ),
        )
    }
)
DEFAULT = PROFILES["ohif"]

#: What a template of series descriptions may speak of.
DESCRIPTION_FIELDS = ("model", "version", "what", "status")
#: Series Description is of VR LO (PS3.5 §6.2), and so is Segment Label.
LO_LONGEST = 64
#: What a template can be filled with at the least: the longest status, and of everything else no fewer
#: characters than it is shortened to.
SHORTENED_TO = 8
EXPLAINING = "not verified, not diagnostic"
_LONGEST = {**dict.fromkeys(("model", "version", "what"), "m" * SHORTENED_TO), "status": EXPLAINING}
_PICTURES = frozenset({Role.OVERLAY, Role.SUMMARY, Role.DOCUMENT, Role.PRESENTATION, Role.BLENDING})


def complaint(profile: Profile) -> str:
    """What is wrong with `profile`, in a sentence; empty where nothing is."""
    return next(filter(None, _complaints(profile)), "")


def _complaints(profile: Profile) -> Iterator[str]:
    if Role.REPORT not in profile.kinds:
        yield "the report cannot be left out: it is what everything else is reached from"
    if unknown := sorted(profile.kinds - KINDS):
        yield f"'{unknown[0]}' is no kind that a destination can be sent"
    pictures = sorted(profile.kinds & _PICTURES)
    if pictures and Role.SEGMENTATION not in profile.kinds:
        yield (
            f"'{pictures[0]}' without 'segmentation' would send a picture of what machines cannot read: "
            "segmentations go too, unless the archive refuses them"
        )
    compressible = profile.segmentation != "binary" or Role.OVERLAY in profile.kinds
    if profile.transfer_syntax == "rle" and not compressible:
        yield (
            'transfer_syntax = "rle" compresses label maps, fractions and overlays, of which this has none: '
            'viewers do not read binary segmentations in RLE; take segmentation = "labelmap"'
        )
    if profile.frame_limit is not None and profile.frame_limit < 1:
        yield f"frame_limit = {profile.frame_limit} leaves no room for a frame"
    yield from _wrong_instead(profile)
    yield _wrong_description(profile.series_description)
    yield _wrong_label(profile.segment_label)


def _wrong_instead(profile: Profile) -> Iterator[str]:
    for role, forms in profile.instead.items():
        known: tuple[Instead, ...] = ("nothing",)
        if role is Role.REPORT:
            known = ("comprehensive", "enhanced")
        elif role is Role.SEGMENTATION and profile.segmentation == "labelmap":
            known = ("binary", "nothing")
        for form in forms:
            if form not in known:
                offer = " or ".join(repr(one) for one in known)
                kind = f"{profile.segmentation} segmentation" if role is Role.SEGMENTATION else str(role)
                yield f"instead of a {kind} that is refused there can be {offer}, not {form!r}"
        if "nothing" in forms[:-1]:
            yield f"after 'nothing' nothing else is tried instead of a {role}"


def _wrong_description(template: str) -> str:
    if wrong := _wrong_fields("series_description", template, DESCRIPTION_FIELDS):
        return wrong
    if "AI" not in template.replace("{", " ").replace("}", " ").replace("(", " ").split():
        return 'series_description has to say "AI": a reader sees it before anything else'
    if "{status}" not in template and "not verified" not in template:
        return 'series_description has to say "not verified", or {status}, which says so'
    longest = len(template.format(**_LONGEST))
    if longest > LO_LONGEST:
        return (
            f"series_description would have {longest} characters for a short name of a model and the longest "
            f"status; {LO_LONGEST} are allowed (VR LO)"
        )
    return _wrong_text("series_description", template)


def _wrong_label(template: str) -> str:
    if wrong := _wrong_fields("segment_label", template, ("label",)):
        return wrong
    if "{label}" not in template:
        return "segment_label has to hold {label}: two segments never have one label"
    if len(template) > 24 + len("{label}"):
        return "segment_label adds more than 24 characters to each label, which may have 64 in all"
    return _wrong_text("segment_label", template)


def _wrong_fields(key: str, template: str, known: Sequence[str]) -> str:
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        return f"{key} = {template!r} is no template: {error}"
    for _, name, spec, conversion in parts:
        if name is not None and (name not in known or spec or conversion):
            return f"{key}: {{{name}}} is not known; there are {', '.join(f'{{{one}}}' for one in known)}"
    return ""


def _wrong_text(key: str, template: str) -> str:
    if not template.isascii() or not template.isprintable() or "\\" in template:
        return f"{key} = {template!r} is not printable ASCII without backslash"
    return ""
