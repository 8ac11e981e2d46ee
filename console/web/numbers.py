"""Numbers of ours as they stand in addresses and forms: none that a ledger could not hold."""

from typing import Annotated

from fastapi import Path

MOST = 2**53  #: What JSON and JavaScript carry exactly; an integer of the ledger holds more.

#: Of a thing in the ledger, in the address. What cannot be one is answered with 422.
Number = Annotated[int, Path(ge=1, le=MOST)]

VERSION_MOST = 2**31 - 1  #: The ledger counts versions of the rules in 32 bits.
#: Of a version of the rules, in the address.
Version = Annotated[int, Path(ge=1, le=VERSION_MOST)]
