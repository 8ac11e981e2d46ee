"""What we answer to a C-STORE, and what the sender may conclude from it (PS3.4 §B.2.3, PS3.7 Annex C).

Only `SUCCESS` promises that something will come of the instance, and `SET_ASIDE` that it is kept. Each of the
others says that the instance is the sender's to keep; in the 0xA7 range trying again later helps, in the
others it does not.
"""

from enum import IntEnum


class StoreStatus(IntEnum):
    """A C-STORE response status that this node gives."""

    SUCCESS = 0x0000  #: The bytes are synced, visible and recorded.
    #: A warning: the bytes are synced and recorded in quarantine, for their shape is dangerous to parsers.
    SET_ASIDE = 0xB007
    OUT_OF_RESOURCES = 0xA700  #: Disk or ledger cannot take it now: the same instance again, later.
    DOES_NOT_MATCH = (
        0xA900  #: Command and data set disagree, a UID is malformed, or the UID has other bytes here.
    )
    NOT_AUTHORIZED = 0x0124  #: We asked for something else: only that is taken on this association.
    CANNOT_UNDERSTAND = 0xC000  #: No study, series or instance can be read from it: kept in quarantine only.


class Rejection(IntEnum):
    """Why an association is refused (A-ASSOCIATE-RJ, PS3.8 §9.3.4): one byte each: result, source, reason."""

    CALLING_AE_TITLE_UNKNOWN = 0x010103  #: permanent, service user
    USER_UNKNOWN = 0x010101  #: permanent, service user, no reason given: the standard has none for users
    CALLED_AE_TITLE_UNKNOWN = 0x010107  #: permanent, service user
    CONGESTION = 0x020301  #: transient, presentation: no room on the disk
    TOO_MANY_ASSOCIATIONS = 0x020302  #: transient, presentation: local limit exceeded

    @property
    def parts(self) -> tuple[int, int, int]:
        """Result, source and reason, as pynetdicom wants them."""
        return self >> 16, self >> 8 & 0xFF, self & 0xFF
