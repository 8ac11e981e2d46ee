"""Lungs on CT, found without weights: thresholds, connectedness and shape."""
