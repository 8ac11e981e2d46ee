"""
One mail to one server (SMTP, RFC 5321): handed over whole within one deadline, or not at all.

Over `smtp://` nothing is said before TLS stands (STARTTLS, RFC 3207): a server that does not offer it gets
neither our password nor the mail. Its certificate has to be good, as everywhere.
"""

import smtplib
import socket
import ssl
import threading
from contextlib import suppress
from urllib.parse import urlsplit

import structlog

from dicom_node.reach import Deadline, PeerAway, PeerSilent, PeerUntrusted, words
from dicom_node.receivers import ReceiverSettings
from dicom_node.requestor import PeerGone
from dicom_node.upper_layer import PeerConfused
from dicom_node.web_session import NotAdmitted, SecretMissing, secret, tls_context

log = structlog.get_logger()


def hand_over(receiver: ReceiverSettings, mail: bytes, deadline: Deadline) -> tuple[int, str]:
    """Hand `mail` over for all recipients: the server's code, and what it means in our words.

    4xx is for now, 5xx for good; what it takes for some of them only, it has taken. Its own words are
    repeated nowhere: they may quote the mail. Raises `PeerAway`, `PeerSilent`, `PeerGone`, `PeerConfused`,
    `PeerUntrusted`, `NotAdmitted` and `SecretMissing`.
    """
    talk: list[smtplib.SMTP] = []
    # smtplib's timeouts begin anew with every line; a server that says one a minute would hold a worker.
    end = threading.Timer(deadline.left("beginning"), _shut, [talk])
    end.daemon = True
    end.start()
    try:
        return _talked(receiver, mail, deadline, talk)
    except smtplib.SMTPAuthenticationError as error:
        raise NotAdmitted(
            f"it does not take our user and password ({error.smtp_code}): look into {receiver.to.login_file}"
        ) from None
    except smtplib.SMTPNotSupportedError:
        raise PeerConfused(
            "it offers no login, and auth is set: a relay that needs none, or another port"
        ) from None
    except smtplib.SMTPRecipientsRefused as error:
        codes = sorted({code for code, _ in error.recipients.values()})
        return codes[0], "it takes no mail for any of the recipients"
    except smtplib.SMTPSenderRefused as error:
        return error.smtp_code, "it takes no mail from our sender"
    except smtplib.SMTPResponseException as error:
        return error.smtp_code, "it does not take the mail"
    except ssl.SSLCertVerificationError as error:
        raise PeerUntrusted(
            f"its certificate is not trusted here ({error.verify_message}): name the file of whoever signed"
            ' it as "ca_file"'
        ) from error
    except ssl.SSLError as error:
        deadline.left("agreeing on TLS with it")
        raise PeerUntrusted(f"no TLS with it: {words(error)}") from error
    except (smtplib.SMTPServerDisconnected, ConnectionError) as error:
        deadline.left("talking to it")
        raise PeerGone("it closed the connection in the middle") from error
    except TimeoutError as error:
        deadline.left("waiting for its answer")
        raise PeerSilent("it said nothing more") from error
    except (smtplib.SMTPException, ValueError, OSError) as error:
        deadline.left("talking to it")
        raise PeerConfused(f"what it answers is no SMTP ({type(error).__name__})") from error
    finally:
        end.cancel()
        for one in talk:
            one.close()


def _talked(
    receiver: ReceiverSettings, mail: bytes, deadline: Deadline, talk: list[smtplib.SMTP]
) -> tuple[int, str]:
    to = receiver.to
    assert receiver.sender is not None
    scheme, host = urlsplit(to.url).scheme, urlsplit(to.url).hostname or ""
    context = tls_context(to.web()) if to.secure else None
    login = secret(to.login_file).partition(":") if to.login_file is not None else None
    if login is not None and not login[1]:
        raise SecretMissing(f"{to.login_file} has to hold one line: user:password")
    within = min(receiver.connect_s, deadline.left("connecting to it"))
    if scheme == "smtps":
        session: smtplib.SMTP = smtplib.SMTP_SSL(timeout=within, context=context)
    else:
        session = smtplib.SMTP(timeout=within)
    session._host = host  # type: ignore[attr-defined]
    talk.append(session)
    try:
        code, _ = session.connect(host, to.mail_port)
    except (smtplib.SMTPException, ssl.SSLError):
        raise
    except TimeoutError as error:
        raise PeerAway(f"nothing answered within {receiver.connect_s:g} s") from error
    except OSError as error:
        raise PeerAway(f"no connection to {host} port {to.mail_port}: {words(error)}") from error
    if code != 220:
        return code, "it does not serve us now"
    assert session.sock is not None
    session.sock.settimeout(deadline.left("talking to it"))
    if scheme == "smtp":
        session.ehlo()
        if not session.has_extn("starttls"):
            raise PeerUntrusted(
                "it offers no TLS (STARTTLS), so nothing was sent: use smtps://, or smtp+plain:// where"
                " anybody on the way may read it"
            )
        session.starttls(context=context)
        session.ehlo()
    if login is not None:
        session.login(login[0], login[2])
    refused = session.sendmail(receiver.sender, list(receiver.recipients), mail)
    # It has taken the mail: whatever goes wrong from here on is no reason to send it again.
    with suppress(smtplib.SMTPException, OSError):
        session.quit()
    if refused:
        # Again for these only would take a record of each; again for all is twice for the others.
        left_out = ", ".join(f"{one} (SMTP {code})" for one, (code, _) in sorted(refused.items()))
        many = f"{len(refused)} of {len(receiver.recipients)} recipients"
        log.warning("mail.left_out", receiver=receiver.name, because=f"{many}: {left_out}")
        return 250, f"it took it, but not for {many}: {left_out}"
    return 250, "it took it (250)"


def _shut(talk: list[smtplib.SMTP]) -> None:
    for session in talk:
        if session.sock is not None:
            with suppress(OSError):
                session.sock.shutdown(socket.SHUT_RDWR)
