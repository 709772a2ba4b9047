"""What can keep the server from being found, started or kept alive.

ServerError (core)
 +-- InstallationError    this machine or environment cannot run the server
 |    +-- PlatformError, WheelMissingError, PythonUnsupportedError, NumpyTooNewError, LibpythonMissingError
 +-- PortError            an address that was asked for cannot be had
 +-- NothingToServeError  the repository holds no model, or not the one that was asked for
 +-- StartError           the server ended, or did not answer in time
 +-- GaveUpError          it died too often
 +-- AnswerError          it refused one of our own requests
 +-- NoAnswerError        it did not answer one of our own requests
"""

from __future__ import annotations

from core.errors import ServerError


class InstallationError(ServerError):
    """This machine or Python environment cannot run the server."""


class PlatformError(InstallationError):
    """Not Linux on x86-64 with a glibc that is new enough."""


class WheelMissingError(InstallationError):
    """The package that carries the server is not installed, or not whole."""


class PythonUnsupportedError(InstallationError):
    """The server has no interpreter stub for this Python."""


class NumpyTooNewError(InstallationError):
    """numpy 2 in a stub empties every output, silently."""


class LibpythonMissingError(InstallationError):
    """The shared library of this Python is not installed."""


class PortError(ServerError):
    """An address that was asked for is in use, or not this machine's."""


class NothingToServeError(ServerError):
    """The repository holds no model, or not the one that was asked for."""


class StartError(ServerError):
    """The server ended while starting, did not answer in time, or could load no model."""


class GaveUpError(ServerError):
    """The server died too often to be started once more."""


class AnswerError(ServerError):
    """The server refused a request. `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NoAnswerError(ServerError):
    """The server could not be reached, or did not answer in time."""
