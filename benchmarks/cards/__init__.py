"""What is measured of each built-in model: see `benchmarks.measured`."""
