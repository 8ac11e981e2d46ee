"""Breast area and percent density on a mammogram, estimated without weights: thresholds and shape."""
