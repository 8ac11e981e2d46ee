"""How long is a study of this sender waited for, and who is asked about it?

`[closing]` says it for everybody; the `[[peer]]` that sends may say it otherwise for its own studies.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from dicom_node.peers import PeerSettings, named
from dicom_node.settings import ClosingSettings
from ledger.completeness import Witness
from ledger.identifiers import AETitle


def patience_with(
    sender: AETitle, peers: Iterable[PeerSettings], closing: ClosingSettings
) -> ClosingSettings:
    """What holds for studies of `sender`: `closing`, as far as its `[[peer]]` says nothing else.

    Of several peers with that AE title the first counts: the ledger does not say which of them it was.
    """
    peer = next((peer for peer in peers if peer.ae_title == sender.value), None)
    if peer is None:
        return closing
    own: dict[str, Any] = {
        "witnesses": peer.witnesses,
        "counted_at": peer.counted_at or (peer.name if peer.count != "none" else None),
        "quiet_s": peer.quiet_s,
        "quiet_open_s": peer.quiet_open_s,
        "longest_s": peer.longest_s,
    }
    return closing.model_copy(update={name: value for name, value in own.items() if value is not None})


def counting(patience: ClosingSettings, peers: Sequence[PeerSettings]) -> PeerSettings | None:
    """The peer that is asked how many instances there are; None where nobody is."""
    if patience.counted_at is None or Witness.COUNT not in patience.witnesses:
        return None
    return named(peers, patience.counted_at)
