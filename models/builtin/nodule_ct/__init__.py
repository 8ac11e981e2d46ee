"""Lung nodules on CT, found without weights: round bright spots, rules that can be read, and measurements."""
