"""Small architectures of our own, for weights in state dicts."""
