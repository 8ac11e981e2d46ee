"""
Detached signatures over manifests: ed25519 (RFC 8032), one line for each in `manifest.sig`.

A manifest holds the digest of every file, so who signs it signs the model. A line is

    ed25519 <public key, base64> <signature, base64>

and counts if the site trusts that key. Lines of other keys, and what cannot be read, count for nothing.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

from models.shelf import manifest_path

FILE_NAME = "manifest.sig"
# So that a signature made for anything else cannot be passed off as one of a manifest.
_PURPOSE = b"wetread model manifest 1\n"
_LONGEST_BYTES = 1 << 16


def signed_by(folder: Path, manifest: bytes, trusted: Mapping[str, str]) -> str:
    """The name of a trusted key that signed `manifest`, whose signatures are in `folder`; empty: none did."""
    if not trusted:
        return ""
    try:
        with (folder / FILE_NAME).open("rb") as file:
            lines = file.read(_LONGEST_BYTES).decode("ascii", "replace").splitlines()
    except OSError:
        return ""
    message = _PURPOSE + manifest
    names = {key.strip(): name for name, key in trusted.items()}
    for line in lines:
        kind, _, rest = line.partition(" ")
        key, _, signature = rest.partition(" ")
        if kind == "ed25519" and key in names and _verified(key, signature.strip(), message):
            return names[key]
    return ""


def sign(folder: Path, private_pem: bytes) -> str:
    """Add a signature of the manifest in `folder`; the public key, base64. Raises `ValueError` for another
    kind of key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    private = load_pem_private_key(private_pem, password=None)
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError("not an ed25519 key")  # noqa: TRY004
    public = _text(private.public_key().public_bytes_raw())
    signature = _text(private.sign(_PURPOSE + manifest_path(folder).read_bytes()))
    path = folder / FILE_NAME
    others = [line for line in _lines(path) if line.split(" ")[1:2] != [public]]
    path.write_text("\n".join([*others, f"ed25519 {public} {signature}"]) + "\n", encoding="ascii")
    return public


def new_key() -> tuple[bytes, str]:
    """A new private key as PEM (PKCS #8), and its public key, base64."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem, _text(private.public_key().public_bytes_raw())


def is_public_key(text: str) -> bool:
    """Whether `text` is a public key as `new_key` gives it."""
    return len(_bytes(text.strip())) == 32


def _verified(key: str, signature: str, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        Ed25519PublicKey.from_public_bytes(_bytes(key)).verify(_bytes(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").splitlines() if path.exists() else []


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return b""
