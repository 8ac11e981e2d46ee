"""C-ECHO to a peer, or a question over the web, in the words of whoever has to mend it."""

from console.doctor import known_peer
from console.settings import Site
from dicom_node import send
from dicom_node.send import EchoAnswer
from dicom_node.web_query import echo_web
from ledger.identifiers import AETitle

_DEADLINE_S = 15.0  # A person waits.


def echo(site: Site, name: str) -> tuple[bool, str]:
    """Whether the peer called `name` answers, and the sentence to show. Raises `SettingsRefused` for an
    unknown one.
    """
    peer = known_peer(site, name)
    told = []
    if peer.speaks_dicom:
        answer = send.echo(peer, AETitle.parse(site.node.ae_title), _DEADLINE_S)
        where = f"{peer.name} ({peer.ae_title} at {peer.host}:{peer.port})"
        told.append((answer.reached, _sentence(where, "C-ECHO was answered", answer)))
    if peer.web is not None:
        answer = echo_web(peer, _DEADLINE_S)
        where = f"{peer.name} ({peer.web.qido_url or peer.web.url})"
        told.append((answer.reached, _sentence(where, "QIDO-RS was answered", answer)))
    return all(reached for reached, _ in told), "\n".join(sentence for _, sentence in told)


def _sentence(where: str, what: str, answer: EchoAnswer) -> str:
    if answer.reached:
        return f"{where} hears us: {what} in {answer.took_s * 1000:.0f} ms."
    return f"{where} does not hear us: {answer.because}."
