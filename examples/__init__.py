"""Specs with real checkpoints and real labelled data. Not installed: run from the repository's root."""
