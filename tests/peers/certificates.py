"""A certificate authority for one test, by the openssl program: a server's certificate and clients'."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.peers.programs import find


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


@dataclass(frozen=True)
class Authority:
    """Whoever trusts `ca` trusts what it signs."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def sign(self, name: str) -> Pair:
        """A certificate for `name`, good for 127.0.0.1 and localhost."""
        key, request, certificate = (self.folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n")
        _openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}"
        )
        _openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.folder / "ca.key",
                 "-days", "2", "-CAcreateserial", "-extfile", extensions, "-out", certificate)  # fmt: skip
        return Pair(certificate, key)


def authority(folder: Path) -> Authority:
    """A new one, whose files lie in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "ca.key", "-out",
             folder / "ca.pem", "-days", "2", "-subj", "/CN=Test CA")  # fmt: skip
    return Authority(folder)


def _openssl(*arguments: object) -> None:
    subprocess.run([find("openssl"), *map(str, arguments)], check=True, capture_output=True, timeout=60)
