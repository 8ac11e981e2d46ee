"""What may be stored here: every storage SOP class but video, in every transfer syntax but a few.

The node never decodes what it receives, so a transfer syntax costs nothing at this door; whether the pixels
can be read is asked later, by the worker that needs them. Left out on purpose:

- Deflated Explicit VR Little Endian: a few kilobytes may inflate to gigabytes, and headers cannot be read in
  place.
- Explicit VR Big Endian: retired (PS3.5-2016b), and no sender lacks a little endian alternative.
- MPEG, HEVC and the video SOP classes: nothing here reads video, and one object may be of any size.
- JPIP and other referenced pixel data: the pixels would not be ours when the reference dies.
"""

from typing import NamedTuple

from pynetdicom import AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext, build_context

VERIFICATION = "1.2.840.10008.1.1"  # C-ECHO (PS3.4 Annex A)
COMMITMENT = "1.2.840.10008.1.20.1"  # Storage Commitment Push Model (PS3.4 Annex J)


class TransferSyntax(NamedTuple):
    """One transfer syntax (PS3.5 §10, Annex A) as the header walker needs to know it."""

    uid: str
    name: str
    implicit_vr: bool = False


#: In the order in which we choose where one presentation context offers several: cheapest to read first.
TRANSFER_SYNTAXES: tuple[TransferSyntax, ...] = (
    TransferSyntax("1.2.840.10008.1.2.1", "Explicit VR Little Endian"),
    TransferSyntax("1.2.840.10008.1.2", "Implicit VR Little Endian", implicit_vr=True),
    TransferSyntax("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless"),
    TransferSyntax("1.2.840.10008.1.2.4.90", "JPEG 2000 Lossless"),
    TransferSyntax("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000 Lossless"),
    TransferSyntax("1.2.840.10008.1.2.4.202", "High-Throughput JPEG 2000 with RPCL Options Lossless"),
    TransferSyntax("1.2.840.10008.1.2.4.70", "JPEG Lossless, First-Order Prediction"),
    TransferSyntax("1.2.840.10008.1.2.4.57", "JPEG Lossless"),
    TransferSyntax("1.2.840.10008.1.2.5", "RLE Lossless"),
    TransferSyntax("1.2.840.10008.1.2.4.81", "JPEG-LS Near-Lossless"),
    TransferSyntax("1.2.840.10008.1.2.4.91", "JPEG 2000"),
    TransferSyntax("1.2.840.10008.1.2.4.203", "High-Throughput JPEG 2000"),
    TransferSyntax("1.2.840.10008.1.2.4.50", "JPEG Baseline"),
    TransferSyntax("1.2.840.10008.1.2.4.51", "JPEG Extended"),
)

_BY_UID = {syntax.uid: syntax for syntax in TRANSFER_SYNTAXES}

_VIDEO = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.77.1.1.1",  # Video Endoscopic Image Storage
        "1.2.840.10008.5.1.4.1.1.77.1.2.1",  # Video Microscopic Image Storage
        "1.2.840.10008.5.1.4.1.1.77.1.4.1",  # Video Photographic Image Storage
    }
)


def transfer_syntax(uid: str) -> TransferSyntax | None:
    """What we know of the transfer syntax `uid`; None where we do not take it."""
    return _BY_UID.get(uid)


def storage_sop_classes() -> tuple[str, ...]:
    """The SOP Class UIDs that may be stored here, in ascending order (PS3.4 Annex B)."""
    return tuple(
        sorted(
            str(context.abstract_syntax)
            for context in AllStoragePresentationContexts
            if context.abstract_syntax is not None and str(context.abstract_syntax) not in _VIDEO
        )
    )


def commitment_context() -> PresentationContext:
    """Storage commitment in both roles: others ask us, and archives that we asked report to us."""
    context = build_context(COMMITMENT, ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
    # An archive that calls us is the SCP of this service, and says so by role selection (PS3.4 §J.3.3).
    context.scu_role = context.scp_role = True
    return context


def supported_contexts() -> list[PresentationContext]:
    """The presentation contexts that our acceptor supports: verification, storage and its commitment."""
    syntaxes = [syntax.uid for syntax in TRANSFER_SYNTAXES]
    verification = build_context(VERIFICATION, ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
    storage = (build_context(sop_class, list(syntaxes)) for sop_class in storage_sop_classes())
    return [verification, *storage, commitment_context()]
