"""Who is let into the console, and to do what."""
