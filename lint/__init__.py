"""Finds what is wrong in a Triton model repository without starting a server: any repository, ours or written by
hand."""
