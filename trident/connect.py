"""From the command line's options to a client."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from client import InferenceClient, Settings, Tls
from core.errors import UsageError


def connect(options: argparse.Namespace, timeout_s: float | None = None) -> InferenceClient:
    """A client of the servers that the options name. Raises UsageError, InputError or InferenceError for what cannot
    be."""
    if options.timeout <= 0:
        raise UsageError(f"--timeout {options.timeout:g} is no time to wait; give seconds above 0")
    files = (options.ca, options.cert, options.key)
    tls = Tls(*files) if any(files) else None
    settings = Settings(tls=tls, token=_token(options.token_file), observers=())
    return InferenceClient(options.url, options.protocol, timeout_s or options.timeout, settings)


def _token(path: Path | None) -> str | None:
    """From a file or the environment: on the command line everybody on the machine could read it."""
    if path is None:
        return os.environ.get("TRIDENT_TOKEN") or None
    try:
        return path.read_text().strip()
    except OSError as error:
        raise UsageError(f"the token in {path} cannot be read: {error.strerror}") from error
