"""The console in a browser: what is happening, why, and what can be done about it."""
