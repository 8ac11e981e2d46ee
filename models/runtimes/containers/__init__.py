"""What a container is started with, what it is given, and what becomes of what it leaves."""
