"""What goes to the terminal: results to standard output, progress to standard error."""

from __future__ import annotations

import sys

from rich.console import Console

# Progress must not mix with results that are piped on.
progress = Console(stderr=True, highlight=False)


def result_console() -> Console:
    """Standard output; 200 columns wide when it is no terminal, so that a table in a log is not folded."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def number(value: float | None, form: str = ".2f", unit: str = "") -> str:
    """A number for a table; a dash where there is none."""
    return "-" if value is None else f"{value:{form}}{unit}"


def score(value: float | None, fraction: bool) -> str:
    """A metric's value: a fraction in percent, any other with four digits."""
    return percent(value) if fraction or value is None else f"{value:.4f}"


def percent(value: float | None) -> str:
    """A fraction as a percentage with two decimals."""
    return "-" if value is None else f"{value * 100:.2f}%"


def stored(size: int | None, shared: int | None) -> str:
    """A variant's size as megabytes, and what its network would take with its shared weights written only once."""
    return megabytes(size) + (f" ({megabytes(shared)} shared)" if shared is not None else "")


def megabytes(value: int | None) -> str:
    """Bytes as megabytes (10^6)."""
    return "-" if value is None else f"{value / 1e6:.2f}"
