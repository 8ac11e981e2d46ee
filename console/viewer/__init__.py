"""OHIF, the viewer that Wetread serves: fetched, made ready, and found again. It is in no repository."""
