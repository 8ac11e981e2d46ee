"""C-ECHO to a peer, in the words of whoever has to mend it."""

from difflib import get_close_matches

from console.complaints import SettingsRefused
from console.settings import Site
from dicom_node import send
from dicom_node.peers import named
from ledger.identifiers import AETitle

_DEADLINE_S = 15.0  # A person waits.


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
