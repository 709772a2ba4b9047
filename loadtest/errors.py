"""What can go wrong with a load test.

LoadTestError (core)
 +-- PlanError          the plan cannot be carried out as it is written
 +-- GeneratorError     the load test's own process failed
 +-- RecordingError     the raw requests cannot be written
"""

from __future__ import annotations

from core.errors import LoadTestError


class PlanError(LoadTestError):
    """The plan, or the sample pack and the models that it names, do not go together."""


class GeneratorError(LoadTestError):
    """The load test's own process failed. The text holds the last lines that it wrote."""


class RecordingError(LoadTestError):
    """The raw requests cannot be written, so there would be nothing to check the figures by."""
