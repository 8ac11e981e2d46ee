"""
Whose fault is it, and what happens next?

    WetreadError
    ├── PeerError    the other system refused or went away   → try again later
    ├── StudyError   these images cannot be used             → nobody retries; the result says why
    ├── ModelError   this model version misbehaved           → park; tell its owner
    └── SiteError    our disk, our settings, our licence     → stop, and say what to change

Concrete errors live beside the code that raises them and inherit one of the four,
so a Celery task and the console both decide by `isinstance`, never by message.
Names are facts (`SpoolFull`, `NotAVolume`); messages are sentences with the identifiers in them.
"""


class WetreadError(Exception):
    """Everything that this product raises on purpose."""


class PeerError(WetreadError):
    """The other system refused, or went away. Try again later."""


class StudyError(WetreadError):
    """These images cannot be used. Trying again would end the same way."""


class ModelError(WetreadError):
    """A model version misbehaved. Its owner has to look at it."""


class SiteError(WetreadError):
    """Something on this site has to be changed first: disk, settings, licence."""
