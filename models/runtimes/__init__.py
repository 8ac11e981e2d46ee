"""One module for each form in which people have their models, all of them `models.contract.Model`."""
