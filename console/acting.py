"""Who acts on the command line: the user of the operating system, who could as well change the ledger."""

import getpass

from ledger.account import Role
from ledger.audit import Actor

#: Where a command comes from, as the audit trail has it.
HERE = "this machine"


def at_the_terminal() -> Actor:
    """Who typed the command that runs."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # A container may run as a number that has no name.
        name = "somebody"
    return Actor(name, Role.ADMINISTRATOR, HERE)
