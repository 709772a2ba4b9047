"""`trident rollback`: an older version of a model back into service."""

from __future__ import annotations

import argparse
import json
import time

from builder.live import roll_back
from builder.repository import Repository
from trident.commands.publish import print_change
from trident.live import wait_until_served


def run(options: argparse.Namespace) -> int:
    """Rolls back; with a supervisor's address also waits until the version serves."""
    since_s = time.time()
    change = roll_back(Repository.at(options.repository), options.model, options.to)
    seconds = None
    if options.server:
        seconds = wait_until_served(options.server, change.model, change.version, since_s, options.timeout)
    if options.json:
        body = {"model": change.model, "version": change.version, "before": change.before, "served_after_s": seconds}
        print(json.dumps(body))
        return 0
    served = "" if seconds is None else f", and the server has done so since {seconds:.1f} s after"
    print_change(f"{change.model} is to serve version {change.version} in place of {change.before}{served}")
    return 0
