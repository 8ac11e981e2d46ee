"""How good a photograph of a fundus is, and how much of it is vessel. No grade and no diagnosis."""
