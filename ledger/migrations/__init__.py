"""How the tables became what `ledger.schema` says. Run from `ledger.store.migrate`."""
