"""What of a profile the objects show: their series numbers, and what of it is part of their UIDs."""

from collections.abc import Mapping

from ledger.profile import DEFAULT, PROFILES, Profile
from ledger.result import Role

__all__ = ["DEFAULT", "PROFILES", "Profile", "series_number", "wording"]

#: After the profile's base: (of the first object of a role, of the second one). Far above what scanners count
#: to, so that results stand at the end of a study's list, and always the same.
_PLACES: Mapping[Role, tuple[int, int]] = {
    Role.SEGMENTATION: (1, 61),
    Role.REPORT: (2, 2),
    Role.MARKS: (3, 3),
    Role.STRUCTURE_SET: (4, 41),
    Role.PRESENTATION: (5, 51),
    Role.BLENDING: (6, 91),
    Role.OVERLAY: (7, 81),
    Role.SUMMARY: (8, 86),
    Role.DOCUMENT: (9, 89),
    Role.KEY_IMAGES: (10, 13),
    Role.PARAMETRIC_MAP: (31, 32),
}


def series_number(profile: Profile, role: Role, index: int = 0) -> int:
    """Series Number (0020,0011) of the object `index` of its role, from 0: each is alone in its series."""
    first, second = _PLACES[role]
    return profile.series_number + (first if index == 0 else second + index - 1)


def wording(profile: Profile) -> str:
    """What of `profile` stands in every object, for the UIDs that derive: empty where it is as by default."""
    own = (profile.series_description, profile.series_number, profile.segment_label)
    usual = (DEFAULT.series_description, DEFAULT.series_number, DEFAULT.segment_label)
    return "" if own == usual else " | ".join(str(one) for one in own)
