"""The operator's command line and pages, and the composition of everything else."""
