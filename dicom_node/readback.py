"""Does the archive have it? C-FIND by SOP Instance UID, for peers with `confirm = "find"` or "best".

An answer of Success says that the instance was taken. Some archives file it later, or lose it with the next
restart; being found by the archive's own query is the proof that a reader will find it too.
"""

from dicom_node.peers import PeerSettings
from dicom_node.query import STUDY_ROOT_FIND, Query, QueryRefused, uid_in
from ledger.identifiers import AETitle, Uid

__all__ = ["STUDY_ROOT_FIND", "QueryRefused", "find_instance"]


def find_instance(
    peer: PeerSettings, *, calling: AETitle, study: Uid, series: Uid, sop_instance: Uid, deadline_s: float
) -> bool:
    """Whether `peer` finds the instance where it belongs: in that series of that study.

    Raises `QueryRefused`, or another `PeerError` where the peer is away or silent: then nothing is known.
    """
    # All unique keys down to the level asked about: archives may refuse less (PS3.4 §C.4.1.3.1.1).
    keys: dict[tuple[int, int], Uid | str] = {
        (0x0008, 0x0018): sop_instance,
        (0x0020, 0x000D): study,
        (0x0020, 0x000E): series,
    }
    with Query.to(peer, calling=calling, deadline_s=deadline_s) as query:
        # Compared here, and to the end: an archive that ignores a key answers with whatever it has.
        return sop_instance in [uid_in(match, 0x0008, 0x0018) for match in query.find("IMAGE", keys)]
