"""The base of every error that a user can meet, and the exit codes.

TridentError
 +-- UsageError          2   the command line is off
 +-- InputError          3   spec, checkpoint or data cannot be used
 +-- BuildError          4   a step or a variant went wrong
 +-- RepositoryError     5   the model repository could not be read or written
 +-- ServerError         6   the server could not be found, started or kept alive
 +-- InferenceError      7   a request was refused or failed
 +-- LoadTestError       8   a load test could not be run or judged
 +-- RegressionError     9   a figure became worse than is allowed

Each package's `errors.py` holds its own kinds, derived from one of these.
"""

from __future__ import annotations


class TridentError(Exception):
    """Something that the user can act on. The text says what failed, why, and what to do; it is shown as it is."""

    exit_code = 1


def one_line(error: object, most: int = 300) -> str:
    """What an error says, as part of a sentence of ours: others write whole pages, and some say nothing at all."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else f"{text[: most - 3]}..."


class UsageError(TridentError):
    """The command line asks for something that does not exist or cannot be combined."""

    exit_code = 2


class InputError(TridentError):
    """A spec, checkpoint or data file cannot be used."""

    exit_code = 3


class BuildError(TridentError):
    """A build step broke its promise, or at least one variant failed."""

    exit_code = 4


class RepositoryError(TridentError):
    """The model repository cannot be read or written."""

    exit_code = 5


class ServerError(TridentError):
    """The inference server cannot be found, started or kept alive."""

    exit_code = 6


class InferenceError(TridentError):
    """A request was refused before it was sent, or the server answered with an error."""

    exit_code = 7


class LoadTestError(TridentError):
    """A load test cannot be run, or its numbers cannot be trusted."""

    exit_code = 8


class RegressionError(TridentError):
    """A figure became worse than `--fail-on` allows."""

    exit_code = 9
