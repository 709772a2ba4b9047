"""Shared by all tests: the strict mode, in which a skipped test is a failed one.

A suite that skips looks as green as one that passes. With `TRIDENT_STRICT=1` (as in `.ci/run`) a skip is a failure with
its reason, except below OPTIONAL, whose tests need a machine that not even CI has.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

# ONNX Runtime's official builds report to their maker unless told not to, before they are first loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

OPTIONAL = Path(__file__).parent / "gpu"
STRICT = os.environ.get("TRIDENT_STRICT") == "1"


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport, path: Path) -> None:
    """Turn a skip into a failure, in place. An expected failure (xfail) is reported as skipped too, and left alone."""
    if not (STRICT and report.skipped) or hasattr(report, "wasxfail"):
        return
    if path.is_relative_to(OPTIONAL):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"TRIDENT_STRICT=1 allows no skip here. {reason}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """One test skipped, by a mark or from within."""
    report = yield
    _forbid_skip(report, item.path)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A whole module skipped while it was collected, as by importorskip."""
    report = yield
    _forbid_skip(report, collector.path)
    return report


def pytest_report_header() -> str:
    """Say which mode a log was made in."""
    return f"strict: {'yes, a skip outside tests/gpu fails' if STRICT else 'no (TRIDENT_STRICT=1)'}"
