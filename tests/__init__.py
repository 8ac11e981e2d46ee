"""The tests: sentences about the domain, with real peers."""
