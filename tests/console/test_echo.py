"""C-ECHO from the command line: to a peer, and to ourselves."""

from pathlib import Path

import pytest

from console.echo import echo_ourselves
from console.settings import load_site
from tests.dicom_node.node_process import node_process, site_json
from tests.peers.loopback import free_port
