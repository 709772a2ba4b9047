"""`trident publish`: a verified version out of one repository into another, and into service."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from builder.live import Change, publish_from, roll_back
from builder.repository import Repository
from trident.console import result_console
from trident.live import RefusedError, wait_until_served


def run(options: argparse.Namespace) -> int:
    """Publishes; with a supervisor's address waits until the version serves, and takes it back if it is refused."""
    since_s = time.time()
    change = publish_from(options.source, options.repository, options.keep, options.version)
    seconds = _into_service(options, change, since_s) if options.server else None
    served = "" if seconds is None else f"; the server serves it, {seconds:.1f} s later"
    words = f"{change.model} version {change.version} is published in {options.repository}{served}"
    show_change(change, seconds, words, options.json)
    return 0


def _into_service(options: argparse.Namespace, change: Change, since_s: float) -> float:
    try:
        return wait_until_served(options.server, change.model, change.version, since_s, options.timeout)
    except RefusedError as error:
        if not change.before or "://" in options.repository:
            raise RefusedError(f"{change.model} version {change.version} was refused by the server: {error}") from error
        roll_back(Repository.at(Path(options.repository)), change.model, change.before)
        raise RefusedError(
            f"{change.model} version {change.version} was refused by the server: {error}; version {change.before} "
            "serves on, and is what the repository asks for again"
        ) from error


def show_change(change: Change, served_after_s: float | None, words: str, as_json: bool) -> None:
    """A change on standard output, in words or as JSON."""
    if as_json:
        print(json.dumps(asdict(change) | {"served_after_s": served_after_s}))
    else:
        result_console().print(words, soft_wrap=True, markup=False)
