"""What an operator should know of the models here: what is broken, and what nobody vouches for."""

from console.alarms import Alarm
from console.settings import Site
from models.contract import BrokenModel, UnknownModel
from models.registry import broken, every_found, find
from models.trust import Level, LicenceKeyMissing, NotTrusted, check


def model_alarms(site: Site) -> list[Alarm]:
    """Rules whose model cannot be opened, models that are none, and code without a signature."""
    settings = site.models_settings()
    found = []
    for rule in site.rules:
        if ":" in rule.model:
            continue
        try:
            one = find(rule.model, settings)
            check(one.manifest, one.trust, settings)
        except UnknownModel:  # It may be installed where the workers are; `wetread serve` has looked.
            continue
        except (BrokenModel, NotTrusted, LicenceKeyMissing) as error:
            found.append(Alarm("model", f"rule {rule.name!r} cannot be followed: {error}", about=rule.name))
    found += [
        Alarm(
            "model broken",
            f"{place.identity} is installed and cannot be used: {wrong}",
            False,
            place.identity,
        )
        for place, wrong in broken(settings)
    ]
    unsigned = [
        one.manifest.identity for one in every_found(settings) if one.trust.level is Level.UNSIGNED_CODE
    ]
    if unsigned and settings.allow_unsigned:
        words = f"allow_unsigned is set, and {', '.join(unsigned)} is code that no trusted key vouches for"
        found.append(Alarm("unsigned model", words, False))
    return found
