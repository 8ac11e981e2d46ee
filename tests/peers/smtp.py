"""A mail server (RFC 5321) that takes, refuses or falls silent as a test tells it, and keeps every mail."""

import base64
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default

from tests.patience import patient


@dataclass
class Mailbox:
    """One that runs. `refuse` says what is answered instead: to a command, a recipient, or what was sent."""

    port: int = 0
    mails: list[bytes] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)
    login: str = ""  #: user:password that it asks for; empty: it asks for none
    encrypted: list[bool] = field(default_factory=list)  #: of every mail
    commands: list[str] = field(default_factory=list)
    hang: threading.Event | None = None  #: once it is asked for anything, it waits for this

    def read(self, number: int = -1) -> EmailMessage:
        """A mail as a program of mail shows it."""
        message = BytesParser(policy=default).parsebytes(self.mails[number])
        assert isinstance(message, EmailMessage)
        return message


@contextmanager
def mailbox(
    *, tls: ssl.SSLContext | None = None, implicit: bool = False, login: str = ""
) -> Iterator[Mailbox]:
    """One on loopback, until the block ends; with `tls` it offers STARTTLS, or speaks it at once."""
    box = Mailbox(login=login)

    class Talk(socketserver.StreamRequestHandler):
        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def setup(self) -> None:
            self.secured = False
            if implicit:
                assert tls is not None
                self.request = tls.wrap_socket(self.request, server_side=True)
                self.secured = True
            self.request.settimeout(patient(10))
            super().setup()

        def handle(self) -> None:  # noqa: PLR0912  One branch for each command.
            self.say(box.refuse.get("CONNECT", "220 mail.example ESMTP"))
            recipients: list[str] = []
            admitted = not box.login
            while line := self.rfile.readline().decode("ascii", "replace").strip():
                if box.hang is not None:
                    box.hang.wait(patient(20))
                    return
                word = line.split(" ")[0].upper()
                box.commands.append(word)
                if word in box.refuse:
                    self.say(box.refuse[word])
                elif word == "EHLO":
                    offers = ["mail.example"]
                    offers += ["STARTTLS"] if tls is not None and not self.secured else []
                    offers += ["AUTH PLAIN"] if box.login else []
                    for offer in offers[:-1]:
                        self.say(f"250-{offer}")
                    self.say(f"250 {offers[-1]}")
                elif word == "STARTTLS":
                    assert tls is not None
                    self.say("220 go ahead")
                    self.request = tls.wrap_socket(self.request, server_side=True)
                    self.secured = True
                    self.rfile = self.request.makefile("rb")
                    self.wfile = self.request.makefile("wb", buffering=0)
                elif word == "AUTH":
                    _, user, password = base64.b64decode(line.split(" ")[2]).decode().split("\0")
                    admitted = f"{user}:{password}" == box.login
                    self.say("235 welcome" if admitted else "535 KANARIE: wrong password")
                elif word == "MAIL":
                    self.say("250 ok" if admitted else "530 who are you?")
                elif word == "RCPT":
                    refusal = box.refuse.get(line.split("<")[1].split(">")[0])
                    if refusal is None:
                        recipients.append(line.split("<")[1].split(">")[0])
                    self.say(refusal or "250 ok")
                elif word == "DATA":
                    self.say("354 go on")
                    lines = []
                    while (text := self.rfile.readline()) not in (b".\r\n", b""):
                        lines.append(text[1:] if text.startswith(b"..") else text)
                    if "taken" in box.refuse:
                        self.say(box.refuse["taken"])
                        continue
                    box.mails.append(b"".join(lines))
                    box.recipients.append(recipients)
                    box.encrypted.append(self.secured)
                    self.say("250 queued")
                elif word == "QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 ok")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, *_: object) -> None:
            """What a test breaks is looked at from the other side."""

    with Server(("127.0.0.1", 0), Talk) as server:
        box.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield box
        finally:
            if box.hang is not None:
                box.hang.set()
            server.shutdown()
            thread.join(patient(5))
