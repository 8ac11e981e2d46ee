"""Real viewers in a real browser look at what Wetread holds."""
