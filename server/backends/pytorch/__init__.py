"""Triton's backend of this name, in Python."""
