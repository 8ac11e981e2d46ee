"""Who decides in tests."""

from ledger.account import Role
from ledger.audit import Actor

ANN = Actor("ann", Role.OPERATOR, "192.0.2.7")
BOB = Actor("bob", Role.OPERATOR, "192.0.2.8")
