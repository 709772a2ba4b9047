"""The part of `make bench-compress` that lets `trident optimize` search."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Final

from benchmarks.claims import counted
from benchmarks.demo import TRIDENT
from benchmarks.in_process import points, write_spec
from core.comparison import Claim
from core.machine import cores
from core.optimize_results import OptimizeReport
from trident.commands.optimize import NOTHING_FOUND

WISHES: Final = ("--max-size", "0.5MB", "--max-latency", "1ms", "--max-drop", "1pt", "--budget", "25min")
ABSURD: Final = ("--max-size", "1kB", "--max-latency", "0.001ms", "--max-drop", "0.1pt", "--budget", "1min")


def optimized(folder: Path) -> tuple[Claim, ...]:
    """A search on the example with nothing known before: how long it took, and of what it chose the quickest. Then
    targets that no network keeps to: what it answers, and that it publishes nothing."""
    path = write_spec("wardrobe", ("torch_fp32",), folder, {})
    minutes, report = _search(path, WISHES, folder, "repository")
    _, absurd = _search(path, ABSURD, folder, "none")
    left = len(list((folder / "none").iterdir())) if (folder / "none").exists() else 0
    found = ", ".join(report.chosen) or "nothing"
    words = (
        f"minutes of trident optimize {' '.join(WISHES)} on {cores()} core{'s' * (cores() != 1)}, which found {found}"
    )
    return (
        counted("optimize_minutes", minutes, words, 30.0, "lower"),
        counted("optimize_found", len(report.chosen), "variants that keep to all targets", 1, "higher"),
        *_quickest(report),
        counted(
            "optimize_absurd", left, f"variants published for {' '.join(ABSURD)}: {' '.join(absurd.answer)}", 0, "lower"
        ),
    )


def _quickest(report: OptimizeReport) -> list[Claim]:
    chosen = {row.variant: row.measured for row in report.rows if row.variant in report.chosen and row.measured}
    if not chosen:
        return []
    name, figures = min(chosen.items(), key=lambda item: item[1].time_ms)
    does = next(row.does for row in report.rows if row.variant == name)
    assert figures.drop is not None and figures.drop_ci95
    drop = (figures.drop, *figures.drop_ci95)
    return [
        counted("optimize_size_mb", figures.size_bytes / 1e6, f"MB, {name}: {does}", 0.5, "lower"),
        counted("optimize_time_ms", figures.time_ms, f"ms at batch 1, {name}", 1.0, "lower"),
        points("optimize_drop_pt", drop, f"of top1, {name}, {report.original.samples} samples", 1.0),
    ]


def _search(path: Path, wishes: tuple[str, ...], folder: Path, repository: str) -> tuple[float, OptimizeReport]:
    """Runs the command; the minutes that it took, and its report."""
    places = ["--repository", str(folder / repository), "--artifacts", str(folder / "artifacts")]
    started = time.monotonic()
    done = subprocess.run([*TRIDENT, "optimize", str(path), *wishes, *places], stdout=subprocess.DEVNULL, check=False)
    minutes = (time.monotonic() - started) / 60
    report = OptimizeReport.model_validate_json((folder / "artifacts/wardrobe/optimize.json").read_bytes())
    assert done.returncode == (0 if report.found else NOTHING_FOUND), done.returncode
    return minutes, report
