"""The answer of `trident optimize` as a page: the Pareto front in a picture, and what became of every candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from core.files import write_atomically
from core.optimize_results import CandidateRow, Figures, OptimizeReport
from trident.charts import family
from trident.charts_figures import Bar, Point, bars, scatter
from trident.console import megabytes, number, score

COLUMNS: Final = ("Verdict", "Accuracy", "Loss (pt), 95%", "Time (ms)", "Size (MB)", "Speed-up", "Why")


def write(path: Path, report: OptimizeReport) -> None:
    """Renders and writes the page, whole or not at all. Raises OSError."""
    write_atomically(path, render(report).encode())


def render(report: OptimizeReport) -> str:
    """The page's HTML."""
    environment = Environment(
        loader=PackageLoader("trident", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    shown = [row for row in report.rows if row.measured]
    index = {row.variant: place for place, row in enumerate(shown, 1)}
    return environment.get_template("optimize.html.j2").render(
        report=report, shown=shown, index=index, family=family, figures=_pictures(report, shown, index),
        columns=COLUMNS, rows=[(row, _cells(row, report)) for row in report.rows], targets=_targets(report),
    )  # fmt: skip


def _pictures(
    report: OptimizeReport, shown: list[CandidateRow], index: dict[str, int]
) -> list[tuple[str, str, Markup]]:
    """Accuracy against time, and sizes, of all that was measured."""
    points = [
        Point(
            index[row.variant], row.variant, family(row.variant), figures.time_ms, figures.accuracy,
            figures.size_bytes, noise=_noise(figures),
        )
        for row in shown
        if (figures := row.measured) and figures.accuracy is not None
    ]  # fmt: skip
    if not points:
        return []
    sign = -1 if report.original.higher_is_better else 1
    least = report.original.value + sign * report.targets.drop
    ahead = ", ".join(row.variant for row in shown if row.on_front)
    words = (
        f"Area is file size, dashed lines are the targets; the line joins what no quicker one equals in accuracy, "
        f"differences within the noise of these samples left out. By accuracy, time and size no other beats {ahead}."
    )
    picture = scatter(points, report.original, least, "time in process", report.targets.time_ms)
    heavy = [
        Bar(
            index[row.variant], row.variant, (("", row.measured.size_bytes / 1e6),),
            f"{megabytes(row.measured.size_bytes)} MB", row.verdict != "kept",
        )
        for row in shown
        if row.measured
    ]  # fmt: skip
    limit = report.targets.size_bytes
    allowed = f"{limit / 1e6:.3g} MB are allowed." if limit else "No limit was given."
    return [
        ("The Pareto front", words, picture),
        ("File size", f"{allowed} Paler: what does not keep to all targets.", bars(heavy, "File size", "MB", ("s1",))),
    ]


def _noise(figures: Figures) -> float:
    low, high = figures.drop_ci95 or (0.0, 0.0)
    return (high - low) / 2


def _targets(report: OptimizeReport) -> str:
    targets = report.targets
    found = [f"at most {targets.size_bytes / 1e6:.3g} MB"] if targets.size_bytes is not None else []
    found += [f"at most {targets.time_ms:.3g} ms"] if targets.time_ms is not None else []
    return ", ".join([*found, f"a loss of at most {targets.drop_given} of {report.original.name}"])


def _cells(row: CandidateRow, report: OptimizeReport) -> list[str]:
    """The table's cells; what was only estimated stands in brackets."""
    verdict = f"{row.verdict}, published" if row.published else row.verdict
    why = "; ".join(words for words in (row.does, row.reason) if words)
    figures = row.measured or row.estimated
    if figures is None:
        return [verdict, "-", "-", "-", "-", "-", why]
    cells = [number(figures.time_ms, ".3f"), megabytes(figures.size_bytes), number(figures.speedup, ".2f", "x")]
    if row.measured is None:
        cells = [f"({cell})" for cell in cells]
    lost = "-"
    if figures.drop is not None and figures.drop_ci95 is not None:
        low, high = figures.drop_ci95
        lost = f"{100 * figures.drop:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
    return [verdict, score(figures.accuracy, report.original.fraction), lost, *cells, why]
