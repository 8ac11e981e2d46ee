"""A certificate authority of the tests: made by the `openssl` program, gone with its folder."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from dicom_node.certificate import read_certificate
from tests.patience import patient
from tests.peers.programs import find

_ELLIPTIC = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")  # made in no time, unlike RSA


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, each in PEM."""

    certificate: Path
    key: Path

    @property
    def together(self) -> Path:
        """Both in one file, as Orthanc wants them."""
        path = self.certificate.with_suffix(".both.pem")
        path.write_bytes(self.certificate.read_bytes() + self.key.read_bytes())
        return path

    @property
    def fingerprint(self) -> str:
        """SHA-256, as settings want it."""
        return read_certificate(self.certificate).fingerprint


@dataclass(frozen=True)
class Authority:
    """Whoever trusts `ca` trusts what it signs."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def sign(
        self,
        name: str,
        *,
        days: int = 2,
        names: str = "IP:127.0.0.1,DNS:localhost",
        password: str | None = None,
        rsa_bits: int | None = None,
    ) -> Pair:
        """A certificate for `name`; one that has expired where `days` is negative."""
        key, request, certificate = (self.folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\n")
        kind = (f"rsa:{rsa_bits}",) if rsa_bits else _ELLIPTIC
        lock = ("-nodes",) if password is None else ("-passout", f"pass:{password}")
        _openssl("req", "-newkey", *kind, *lock, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        _openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.folder / "ca.key",
                 "-days", days, "-CAcreateserial", "-extfile", extensions, "-out", certificate)  # fmt: skip
        return Pair(certificate, key)


def authority(folder: Path) -> Authority:
    """A new one, whose files lie in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _openssl("req", "-x509", "-newkey", *_ELLIPTIC, "-nodes", "-keyout", folder / "ca.key", "-out",
             folder / "ca.pem", "-days", "2", "-subj", "/CN=Test CA")  # fmt: skip
    return Authority(folder)


def _openssl(*arguments: object) -> None:
    subprocess.run(
        [find("openssl"), *map(str, arguments)], check=True, capture_output=True, timeout=patient(60)
    )
