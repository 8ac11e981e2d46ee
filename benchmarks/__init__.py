"""Measurements: each prints what it measured, on what, next to a peer or the physical floor."""
