"""`trident optimize`: searches compressions under targets, publishes what keeps to them, says how near it came if none
does."""

from __future__ import annotations

import argparse

from rich.markup import escape
from rich.status import Status
from rich.table import Table

from builder.build import BuildOptions
from builder.optimize import Wishes, optimize
from builder.search_run import SearchListener
from core.errors import RepositoryError, UsageError
from core.optimize_results import CandidateRow, OptimizeReport
from trident.commands.build import listener
from trident.console import megabytes, number, percent, progress, result_console, score
from trident.optimize_page import write

MARKS = {"kept": "[green]+[/]", "dropped": "[yellow]o[/]", "not tried": "[dim]-[/]"}
NOTHING_FOUND = 10


def run(options: argparse.Namespace) -> int:
    """Searches; 0 if a variant keeps to all targets, 10 if none does (any more, when it is timed again for publishing),
    4 if a chosen one could not be published."""
    if options.max_size is None and options.max_latency is None and options.max_drop is None:
        raise UsageError("nothing to search for; give at least one of --max-size, --max-latency and --max-drop")
    latency_ms = None if options.max_latency is None else options.max_latency * 1e3
    wishes = Wishes(options.max_size, latency_ms, options.max_drop, options.budget)
    where = BuildOptions(options.repository, options.artifacts, options.staging)
    with progress.status("reading") as status:
        report = optimize(options.spec, wishes, where, _listener(status))
    page = options.artifacts / report.model / "optimize.html"
    try:
        write(page, report)
    except OSError as error:
        raise RepositoryError(f"{page} cannot be written ({error.strerror}); name another --artifacts") from error
    if options.json:
        print(report.model_dump_json(indent=2))
    else:
        _show(report, str(page))
    if not report.found:
        return NOTHING_FOUND
    return 0 if all(row.published for row in report.rows if row.variant in report.chosen) else 4


def _listener(status: Status) -> SearchListener:
    def on_start(what: str) -> None:
        status.update(what)
        if not progress.is_terminal:
            progress.print(f"  {what} ...", markup=False)

    def on_found(variant: str, sentence: str, good: bool) -> None:
        mark = MARKS["kept" if good else "dropped"]
        progress.print(f"{mark} {escape(variant)}: {escape(sentence)}", soft_wrap=True)

    return SearchListener(on_start, on_found, listener(status))


def _show(report: OptimizeReport, page: str) -> None:
    console = result_console()
    console.print(_table(report))
    for sentence in report.answer:
        console.print(sentence, soft_wrap=True, markup=False)
    for sentence in report.left_out:
        console.print(f"Left out: {sentence}.", soft_wrap=True, markup=False)
    if report.built_spec:
        console.print(f"Built again by: trident build {report.built_spec}", soft_wrap=True, markup=False)
    console.print(f"Written: {page}", soft_wrap=True, markup=False)


def _table(report: OptimizeReport) -> Table:
    """A row a candidate. What was only estimated stands in brackets."""
    metric = report.original
    title = f"{report.model} (the original: {metric.name} {score(metric.value, metric.fraction)})"
    table = Table(title=title, title_justify="left", caption="In brackets: of the structure, before training.")
    for name in ("Candidate", "Verdict", "Accuracy", "Loss (pt)", "Time (ms)", "Size (MB)", "Speed-up"):
        table.add_column(name, justify="left" if name in ("Candidate", "Verdict") else "right", no_wrap=True)
    table.add_column("Why")
    for row in report.rows:
        table.add_row(
            row.variant, _verdict(row), *_figures(row, metric.fraction), escape(row.reason or row.does),
            style=None if row.verdict == "kept" else "dim",
        )  # fmt: skip
    return table


def _verdict(row: CandidateRow) -> str:
    return f"{row.verdict}, published" if row.published else row.verdict


def _figures(row: CandidateRow, fraction: bool) -> tuple[str, str, str, str, str]:
    figures = row.measured or row.estimated
    if figures is None:
        return ("-",) * 5
    cells = (number(figures.time_ms, ".3f"), megabytes(figures.size_bytes), number(figures.speedup, ".2f", "x"))
    time, size, speedup = cells if row.measured else (f"({cell})" for cell in cells)
    lost = "-" if figures.drop is None else f"{100 * figures.drop:+.2f}"
    accuracy = percent(figures.accuracy) if fraction else score(figures.accuracy, fraction)
    return accuracy, lost, time, size, speedup
