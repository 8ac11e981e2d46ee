"""C-ECHO to a peer, in the words of whoever has to mend it."""

from difflib import get_close_matches

from console.complaints import SettingsRefused
from console.settings import Site
from dicom_node import send
from dicom_node.peers import IMPLICIT_LITTLE_ENDIAN, PeerSettings, named
from dicom_node.requestor import AssociationRejected, Deadline, associate
from dicom_node.upper_layer import ProposedContext
from ledger.errors import PeerError
from ledger.identifiers import AETitle, Uid

_DEADLINE_S = 15.0  # A person waits.
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read here, not bound


def echo(site: Site, name: str) -> tuple[bool, str]:
    """Whether the peer called `name` answers, and the sentence to show. Raises `SettingsRefused` for an
    unknown one.
    """
    peer = named(site.peers, name)
    if peer is None:
        known = [one.name for one in site.peers]
        close = get_close_matches(name, known, n=1)
        guess = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"
        raise SettingsRefused(f"there is no [[peer]] called {name!r}; {guess}")
    answer = send.echo(peer, AETitle.parse(site.node.ae_title), _DEADLINE_S)
    where = f"{peer.name} ({peer.ae_title} at {peer.host}:{peer.port})"
    if answer.reached:
        return True, f"{where} hears us: C-ECHO was answered in {answer.took_s * 1000:.0f} ms."
    return False, f"{where} does not hear us: {answer.because}."


def echo_ourselves(site: Site) -> tuple[bool, str]:
    """Whether this site's own node answers DICOM: what a health check asks."""
    node = site.node
    host = _ANYWHERE.get(node.host, node.host)
    ourselves = PeerSettings(name="node", ae_title=node.ae_title, host=host, port=node.port)
    where = f"the node ({node.ae_title} at {host}:{node.port})"
    verification = ProposedContext(send.VERIFICATION, (Uid(IMPLICIT_LITTLE_ENDIAN),))
    try:
        with associate(
            ourselves,
            calling=AETitle.parse(node.ae_title),
            contexts=[verification],
            deadline=Deadline(_DEADLINE_S),
        ):
            return True, f"{where} answers."
    except AssociationRejected as error:
        # It speaks DICOM. That it knows no peer of its own name, or is full for now, is no illness.
        return True, f"{where} answers, by refusing: {error}."
    except PeerError as error:
        return False, f"{where} does not answer: {error}."
