"""What an encoder is asked for: what to say, of which images, to whom, and what has been made already."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydicom import Dataset

from ledger.identifiers import Uid
from ledger.profile import DEFAULT, Profile
from ledger.result import Role
from results.findings import Findings
from results.found import Found
from results.pictures import Pictures
from results.profile import wording
from results.provenance import Run
from results.source import Source
from results.uids import derived_uid


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Everything that the objects of one run for one profile are made of.

    An encoder is given what roles before its own have made; a check all that was made, as it was read back.
    """

    findings: Findings
    source: Source
    run: Run
    profile: Profile = DEFAULT
    pictures: Pictures | None = None  #: None: the images cannot be shown, so nothing is painted on them
    made: Mapping[Role, tuple[Dataset, ...]] = field(default_factory=dict)
    #: By Tracking UID. The check of the segmentations fills it, and those after it read it.
    found: dict[str, Found] = field(default_factory=dict)

    def of(self, role: Role) -> tuple[Dataset, ...]:
        """What was made of `role`."""
        return self.made.get(role, ())

    def uid(self, role: str, level: str, variant: str = "") -> Uid:
        """The UID that derives from the run, and from what of the profile stands in every object.

        `variant` names whatever else of the profile changes a byte of this one.
        """
        return derived_uid(
            self.run, role, level, "\n".join(one for one in (wording(self.profile), variant) if one)
        )

    def naming(self, *roles: Role) -> str:
        """The variant of an object that refers to all that was made of `roles`."""
        return " ".join(str(one.SOPInstanceUID) for role in roles for one in self.of(role))
