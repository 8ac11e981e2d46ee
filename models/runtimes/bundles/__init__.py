"""The chapters of `models.runtimes.monai_bundle`: from a bundle's configuration to findings."""
