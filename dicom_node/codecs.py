"""Who decodes what, always by pydicom's decoders: what else happens to be installed changes nothing.

    RLE Lossless                                pydicom
    JPEG Baseline, Lossless, Lossless SV1       gdcm
    JPEG Extended                               gdcm, 8 bits only
    JPEG-LS Lossless, Near-Lossless             CharLS (pyjpegls)
    JPEG 2000, HTJ2K                            OpenJPEG (pylibjpeg-openjpeg)

Nothing else is read: no MPEG, no JPIP, no JPEG XL, no retired hierarchical or progressive JPEG. Whoever
decodes does it in a process of its own, that is limited and can be killed.
"""

from collections.abc import Mapping

from pydicom import uid

#: Transfer syntax → pydicom's name of the plugin
PLUGINS: Mapping[str, str] = {
    uid.RLELossless: "pydicom",
    uid.JPEGBaseline8Bit: "gdcm",
    uid.JPEGExtended12Bit: "gdcm",
    uid.JPEGLossless: "gdcm",
    uid.JPEGLosslessSV1: "gdcm",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.HTJ2KLossless: "pylibjpeg",
    uid.HTJ2KLosslessRPCL: "pylibjpeg",
    uid.HTJ2K: "pylibjpeg",
}


def is_lossy_12_bit(transfer_syntax: str, bits_stored: int | None) -> bool:
    """Whether it is JPEG Extended with another number of bits than 8, which is not read."""
    return transfer_syntax == uid.JPEGExtended12Bit and bits_stored != 8
