"""The pages: one chapter each, which asks the ledger, and renders what it made of the answers."""
