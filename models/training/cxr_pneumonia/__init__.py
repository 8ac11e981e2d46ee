"""How the weights of `cxr_pneumonia` were made: `python -m models.training.cxr_pneumonia`."""
