"""Fixtures that several modules share; one server serves them all."""

from tests.integration.client_fixtures import talking
from tests.integration.loadtest_fixtures import served

__all__ = ["served", "talking"]
