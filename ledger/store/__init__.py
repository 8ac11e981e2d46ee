"""The only place that speaks SQL: one chapter for each kind of thing, bound together in `ledger.py`."""
