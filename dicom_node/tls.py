"""TLS for DICOM: contexts of the profiles of PS3.15, built from a site's files.

§B.12 is BCP 195 (RFC 8996, RFC 9325): TLS 1.2 has to be there and 1.3 is preferred, nothing older is spoken,
no renegotiation, no compression, forward secrecy and authenticated encryption only. §B.13 is the same with a
closed list of algorithms. Of that list OpenSSL has no Camellia in GCM, and Python cannot switch on AES-CCM in
TLS 1.3; what is offered here is all permitted by it.

Sessions are never resumed: whoever comes again shows its certificate again, to the CA that counts then.
"""

import ssl
from pathlib import Path

from dicom_node.certificate import NoCertificate, read_certificate
from dicom_node.tls_settings import NodeTlsSettings, PeerTlsSettings, Profile, WebTlsSettings
from ledger.errors import SiteError

# Security level 2: RSA and DH of 2048 bits, curves of 224, no SHA-1 signatures (RFC 9325 §4.3 to §4.5).
_AES_GCM = (
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
    ":ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
)
_CIPHERS: dict[Profile, str] = {
    "B.12": f"{_AES_GCM}:@SECLEVEL=2",
    "B.13": f"{_AES_GCM}:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
    ":ECDHE-ECDSA-AES256-CCM:ECDHE-ECDSA-AES128-CCM:@SECLEVEL=2",
}


class TlsUnusable(SiteError):
    """Our certificate, its key or the CA cannot be used as they are; the message says which and why."""


def server_context(settings: NodeTlsSettings) -> ssl.SSLContext:
    """For connections that are made to us. Raises `TlsUnusable`."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, settings.profile)
    # Nothing to resume: see above. Tickets unread would also turn a quick goodbye into a reset.
    context.num_tickets = 0
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    show(context, settings.certificate_file, settings.key_file, settings.key_password_file)
    trust(context, settings.ca_file)
    required = settings.client_certificate == "required"
    context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def web_context(settings: WebTlsSettings) -> ssl.SSLContext:
    """For the DICOMweb server. Raises `TlsUnusable`."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, settings.profile)
    context.num_tickets = 0
    show(context, settings.certificate_file, settings.key_file, settings.key_password_file)
    if settings.ca_file is not None:
        trust(context, settings.ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(settings: PeerTlsSettings) -> ssl.SSLContext:
    """For connections that we make. Raises `TlsUnusable`."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, settings.profile)
    context.check_hostname = settings.check_name
    if settings.certificate_file is not None:
        show(context, settings.certificate_file, settings.key_file, settings.key_password_file)
    if settings.ca_file is None:
        raise TlsUnusable(
            "nobody is named who vouches for it: give ca_file in its [peer.tls] or in [node.tls]"
        )
    trust(context, settings.ca_file)
    return context


def _context(protocol: int, profile: Profile) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS[profile])
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    # The certificate of a single machine may stand in ca_file, whoever signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def show(context: ssl.SSLContext, certificate: Path, key: Path | None, password: Path | None) -> None:
    """Have `context` show a certificate. Raises `TlsUnusable` in words that say what to do."""
    try:
        read_certificate(certificate)
    except NoCertificate as error:
        raise TlsUnusable(str(error)) from None
    except OSError as error:
        raise TlsUnusable(f"the certificate {certificate} cannot be read: {error.strerror}") from error
    key = key or certificate
    try:
        secret = password.read_text(encoding="utf-8").strip() if password is not None else ""
    except (OSError, UnicodeDecodeError) as error:
        raise TlsUnusable(f"the password of the key cannot be read from {password}") from error
    asked = False

    def tell() -> str:  # Without this OpenSSL would ask at the terminal, and wait.
        nonlocal asked
        asked = True
        return secret

    try:
        context.load_cert_chain(certificate, key, password=tell)
    except ssl.SSLError as error:
        raise TlsUnusable(_why_not(error, certificate, key, password, asked=asked)) from None
    except OSError as error:
        raise TlsUnusable(f"the key {key} cannot be read: {error.strerror}") from error


def _why_not(error: ssl.SSLError, certificate: Path, key: Path, password: Path | None, *, asked: bool) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the key {key} does not belong to the certificate {certificate}: one of the two was exchanged"
    if asked and password is None:
        return f"the key {key} has a password: name a file that holds it as key_password_file"
    if asked:
        return f"the password in {password} does not open the key {key}"
    if error.reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
        return f"the certificate {certificate} is too weak: RSA needs 2048 bits, and a signature with SHA-256"
    return f"{key} holds no private key in PEM that belongs to {certificate}"


def trust(context: ssl.SSLContext, ca: Path) -> None:
    """Have `context` believe who is vouched for in the file `ca`. Raises `TlsUnusable`."""
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError:
        raise TlsUnusable(f"{ca} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)") from None
    except OSError as error:
        raise TlsUnusable(f"the CA file {ca} cannot be read: {error.strerror}") from error
