"""Which time zone this machine keeps, by its name in the IANA database."""

from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_LOCALTIME = Path("/etc/localtime")


def local_zone(told: str | None, localtime: Path = _LOCALTIME) -> str:
    """The zone's name: `told` (the environment's TZ) where it is one, else what `localtime` links to.

    UTC where neither has a name, as in most containers: the settings can say better.
    """
    linked = str(localtime.resolve()).partition("/zoneinfo/")[2]
    return next((name for name in ((told or "").removeprefix(":"), linked) if is_zone(name)), "UTC")


def is_zone(name: str) -> bool:
    """Whether this machine knows a zone of that name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
