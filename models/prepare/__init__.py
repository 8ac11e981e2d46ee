"""Voxels made ready for a model, and its answer brought back to the source grid."""
