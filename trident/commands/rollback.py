"""`trident rollback`: an older version of a model back into service."""

from __future__ import annotations

import argparse
import time

from builder.live import roll_back
from builder.repository import Repository
from trident.commands.publish import show_change
from trident.live import wait_until_served


def run(options: argparse.Namespace) -> int:
    """Rolls back; with a supervisor's address also waits until the version serves."""
    since_s = time.time()
    change = roll_back(Repository.at(options.repository), options.model, options.to)
    seconds = None
    if options.server:
        seconds = wait_until_served(options.server, change.model, change.version, since_s, options.timeout)
    served = "" if seconds is None else f"; it does, {seconds:.1f} s later"
    words = f"{change.model} is to serve version {change.version} in place of {change.before}{served}"
    show_change(change, seconds, words, options.json)
    return 0
