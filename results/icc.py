"""
The colour space sRGB as an ICC profile, which whatever shows colours by a presentation state has to name.

Written out here (ICC.1:2010, version 4.2, a matrix and three curves), for a library would give another one
with every release, or the time of day in it: and equal UIDs are equal bytes.
"""

import struct

# Primaries and white of sRGB as seen under D50, adapted by the Bradford matrix (IEC 61966-2-1, ICC.1 annex
# E).
_D50 = (0.9642, 1.0, 0.8249)
_RED = (0.43607, 0.22249, 0.01392)
_GREEN = (0.38515, 0.71687, 0.09708)
_BLUE = (0.14307, 0.06061, 0.71410)
_BRADFORD = (1.04788, 0.02292, -0.05022, 0.02959, 0.99048, -0.01707, -0.00925, 0.01508, 0.75168)
#: Y = (aX + b) ** g for X >= d, else cX
_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def _fixed(*values: float) -> bytes:
    """s15Fixed16Number."""
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _text(said: str) -> bytes:
    """MultiLocalizedUnicodeType with one record, in American English."""
    encoded = said.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(encoded), 28) + encoded


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _profile() -> bytes:
    curve = b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + _fixed(*_CURVE)
    tags = {
        b"desc": _text("sRGB"),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": _xyz(*_D50),
        b"chad": b"sf32\0\0\0\0" + _fixed(*_BRADFORD),
        b"rXYZ": _xyz(*_RED),
        b"gXYZ": _xyz(*_GREEN),
        b"bXYZ": _xyz(*_BLUE),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    at = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += struct.pack(">4sII", name, at + len(data), len(value))
        data += value + b"\0" * (-len(value) % 4)
    header = struct.pack(
        ">I4sI4s4s4s6H4s4sI4s4sQI12s4s44x",
        at + len(data),
        b"\0" * 4,  # no particular engine
        0x04200000,
        b"mntr",  # a display
        b"RGB ",
        b"XYZ ",
        *(2020, 1, 1, 0, 0, 0),  # the day is no property of a colour space
        b"acsp",
        b"\0" * 4,
        0,
        b"\0" * 4,
        b"\0" * 4,
        0,
        0,  # perceptual
        _fixed(*_D50),
        b"\0" * 4,
    )
    return header + table + data


SRGB = _profile()
