"""Whether our own node lives: asked over DICOM where it runs on this machine, told by its lock where not.

The ledger cannot know. A database that answers says nothing of a node that was stopped an hour ago.
"""

import socket

from console.alarms import Alarm
from console.settings import Site
from dicom_node.peers import IMPLICIT_LITTLE_ENDIAN, PeerSettings
from dicom_node.reach import Deadline
from dicom_node.requestor import AssociationRejected, associate
from dicom_node.spool import occupant
from dicom_node.upper_layer import ProposedContext
from ledger.errors import PeerError
from ledger.identifiers import AETitle, Uid

LOOK_S = 1.0  # A node that is well answers within milliseconds.
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read here, not bound
_VERIFICATION = Uid("1.2.840.10008.1.1")


def echo_ourselves(site: Site, deadline_s: float = 15.0, port: int | None = None) -> tuple[bool, str]:
    """Whether this site's own node answers DICOM, and the sentence to show. `port` is the node's own word
    where the settings leave it open.
    """
    node = site.node
    host = _ANYWHERE.get(node.plain_host, node.plain_host)
    port = port or node.port
    ourselves = PeerSettings(name="node", ae_title=node.ae_title, host=host, port=port)
    where = f"the node ({node.ae_title} at {host}:{port})"
    try:
        with associate(
            ourselves,
            calling=AETitle.parse(node.ae_title),
            contexts=[ProposedContext(_VERIFICATION, (Uid(IMPLICIT_LITTLE_ENDIAN),))],
            deadline=Deadline(deadline_s),
        ):
            return True, f"{where} answers."
    except AssociationRejected as error:
        # It speaks DICOM. That it knows no peer of its own name, or is full for now, is no illness.
        return True, f"{where} answers, by refusing: {error}."
    except PeerError as error:
        return False, f"{where} does not answer: {error}."


def node_alarms(site: Site) -> list[Alarm]:
    """Whether anything receives. Says nothing where the spool is not within sight: its node is not ours."""
    try:
        host = occupant(site.spool.path)
    except OSError:
        return []
    if host is None:
        return [Alarm("node down", "no node runs, so nothing is received: start `wetread serve`")]
    # On another host, or in another container, only the lock is within reach.
    if host == socket.gethostname() and site.node.port:
        well, words = echo_ourselves(site, LOOK_S)
        if not well:
            return [Alarm("node silent", f"{words} If that lasts: end its process and start `wetread serve`")]
    return []
