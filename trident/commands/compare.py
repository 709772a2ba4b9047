"""`trident compare`: two load tests beside each other, and limits to what may have become worse."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from core.changes import RunComparison
from core.errors import InputError, LoadTestError, RegressionError
from core.load_results import LoadReport
from loadtest.raw import read_scores
from trident.compare import compare, parse_limit
from trident.compare_words import describe_check, markdown


def run(options: argparse.Namespace) -> int:
    """Writes the comparison; 9 if a limit is broken, 8 if one cannot be judged or the runs cannot be compared."""
    limits = [parse_limit(text) for text in options.fail_on]
    before, after = (_read(folder) for folder in (options.before, options.after))
    scores = read_scores(options.before / "requests.parquet"), read_scores(options.after / "requests.parquet")
    found = compare(before, after, scores, limits)
    if options.json:
        sys.stdout.buffer.write(found.to_json())
    else:
        print(markdown(found))
    sys.stdout.flush()
    _judge(found)
    return 0


def _judge(found: RunComparison) -> None:
    """Raises RegressionError or LoadTestError unless every limit is kept by every variant."""
    broken = [describe_check(check).replace("**", "") for check in found.checks if check.outcome == "broken"]
    if broken:
        raise RegressionError(f"worse than allowed: {'; '.join(broken)}")
    open_ones = [describe_check(check).replace("**", "") for check in found.checks if check.outcome == "undecided"]
    if found.checks and found.missing:
        open_ones.append(f"{', '.join(found.missing)} was loaded in one of the two only")
    if open_ones:
        raise LoadTestError(f"it cannot be told whether the limits are kept: {'; '.join(open_ones)}")


def _read(folder: Path) -> LoadReport:
    path = folder / "load.json"
    try:
        return LoadReport.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); name the folder of a load test") from error
    except ValidationError as error:
        raise InputError(f"{path} is no load test of this version; run `trident loadtest` again") from error
