"""What networks of every file format share: from what was imaged to a tensor, and from tensors to
findings.
"""
