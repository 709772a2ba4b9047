"""What can go wrong between a checkpoint and a published variant."""

from __future__ import annotations

from core.errors import BuildError, InputError, RepositoryError


class SpecError(InputError):
    """A spec has a mistake; the text names file, line and remedy."""


class CheckpointError(InputError):
    """A checkpoint is missing, does not fit its factory, or is not safe to load."""


class DataError(InputError):
    """Calibration or evaluation data cannot be used."""


class StepError(BuildError):
    """A step failed or broke its promise. The text names the step and those done before it."""


class BatchAxisError(BuildError):
    """A variant answers differently, or not at all, at some batch size."""


class SignatureChangedError(BuildError):
    """A version with other inputs or outputs than the published ones is not published beside them."""


class PublishError(RepositoryError):
    """A version could not be published; the repository is as it was before."""
