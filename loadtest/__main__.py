"""`python -m loadtest PLAN.json --out FOLDER`: runs a plan, telling its progress as JSON lines on standard output.

A process of its own, since importing Locust patches the whole process for gevent. Exit codes: see `core.errors`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from core.errors import TridentError
from loadtest.events import LoadEvent
from loadtest.plan import read_plan


def tell(event: LoadEvent) -> None:
    """Prints an event at once."""
    print(event.model_dump_json(), flush=True)


def main() -> int:
    """Runs the plan named on the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtest", description="Load-test the variants of one model.")
    parser.add_argument("plan", type=Path, metavar="PLAN.json", help="what to do (loadtest.LoadPlan)")
    parser.add_argument("--out", type=Path, required=True, help="folder for load.json and requests.parquet")
    arguments = parser.parse_args()
    # libev's usual backend waits in whole milliseconds, which would make every request of an open loop late by half
    # a one; `select` has microseconds (0.08 ms late at the median here, instead of 0.55).
    os.environ.setdefault("GEVENT_BACKEND", "select")
    try:
        plan = read_plan(arguments.plan)
        from loadtest.run import run  # imports Locust

        run(plan, arguments.out, tell)
    except TridentError as error:
        tell(LoadEvent(kind="failed", variant="", done=0, total=0, message=str(error)))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
