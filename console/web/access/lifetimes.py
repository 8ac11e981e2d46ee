"""How long what is let in stays in, in seconds, each with its reason."""

IDLE_S = 15 * 60.0  # Nobody asked for anything: the chair is empty, or somebody else sits in it.
ABSOLUTE_S = 8 * 3600.0  # A shift. However busy, one signs in again after it.
SECOND_FACTOR_S = 5 * 60.0  # Between the password and the code.
PROVIDER_S = 10 * 60.0  # Between going to the identity provider and coming back.
NAMES_S = 30 * 60.0  # Patients' names, once they were asked for.
TOKEN_LONGEST_DAYS = 366  # Of a program's token: somebody looks at least once a year whether it is needed.
