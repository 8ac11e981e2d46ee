"""What headers say, as a model is given them: keyword → text."""

import math


def number(text: str) -> float:
    """The number in a Decimal String (PS3.5 §6.2), 0 where there is none."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0
