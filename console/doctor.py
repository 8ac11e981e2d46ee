"""`wetread doctor PEER`: everything that can be wrong between us and a peer, one sentence for each."""

import time
from collections.abc import Iterator
from difflib import get_close_matches

from rich.console import Console
from rich.text import Text

from console.complaints import SettingsRefused
from console.settings import Site
from dicom_node.checkup import DEADLINE_S, Check, Finding, check_up
from dicom_node.peers import PeerSettings, named
from ledger.identifiers import AETitle

_SIGNS = {
    Finding.WELL: ("✔", "green"),
    Finding.ATTENTION: ("!", "yellow"),
    Finding.ILL: ("✘", "red"),
    Finding.NOT_TRIED: ("–", "dim"),
}


def known_peer(site: Site, name: str) -> PeerSettings:
    """The peer called `name`. Raises `SettingsRefused`, with a guess what was meant."""
    peer = named(site.peers, name)
    if peer is None:
        known = [one.name for one in site.peers]
        close = get_close_matches(name, known, n=1)
        guess = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"
        raise SettingsRefused(f"there is no [[peer]] called {name!r}; {guess}")
    return peer


def examine(site: Site, name: str, deadline_s: float = DEADLINE_S) -> Iterator[Check]:
    """Every step with the peer called `name`, as soon as it is done. Raises `SettingsRefused`."""
    peer = known_peer(site, name)
    return check_up(peer, calling=AETitle.parse(site.node.ae_title), now=time.time(), deadline_s=deadline_s)


def print_examination(site: Site, name: str, console: Console) -> bool:
    """A line for each step; whether nothing is ill."""
    well = True
    for check in examine(site, name):
        well = well and check.finding is not Finding.ILL
        sign, colour = _SIGNS[check.finding]
        console.print(Text(f"{sign} {check.step:<12}", colour).append(check.words, "default"), soft_wrap=True)
    return well
