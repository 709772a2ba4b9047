"""`trident build`: specs to published variants, with progress and a table of what became of each."""

from __future__ import annotations

import argparse
import sys

from rich.markup import escape
from rich.status import Status
from rich.table import Table

from builder.build import BuildOptions, Listener, build
from core.results import BuildRow, ModelBuild
from trident.console import number, percent, progress, result_console, score, stored
from trident.doctor_words import diagnosis
from trident.remarks import unsteady_speedup
from trident.summary import undecided

MARKS = {"published": "[green]+[/]", "rejected": "[yellow]o[/]", "unavailable": "[dim]-[/]", "failed": "[red]x[/]"}


def run(options: argparse.Namespace) -> int:
    """Builds; 4 if a variant failed, else 0."""
    where = BuildOptions(
        options.repository, options.artifacts, options.staging, options.retire, options.prune, options.retime
    )
    with progress.status("reading") as status:
        report = build(options.specs, where, listener(status))
    if options.json:
        sys.stdout.buffer.write(report.to_json())
    else:
        console = result_console()
        for model in report.models:
            console.print(build_table(model))
            for row in model.rows:
                if row.layers:
                    console.print(f"i {row.variant}: {diagnosis(row.layers)}", soft_wrap=True, markup=False)
                if row.timing and (unsteady := unsteady_speedup(row.timing.speedup_ci95, row.timing.disturbed)):
                    console.print(f"! {row.variant}: {unsteady}", soft_wrap=True, markup=False)
            if model.stale:
                console.print(f"Published, but no longer in the spec: {', '.join(model.stale)}. Remove with --prune.")
    return 4 if any(row.status == "failed" for model in report.models for row in model.rows) else 0


def listener(status: Status) -> Listener:
    """What shows a build's progress: what it does beside the spinner, what became of each variant above it."""

    def on_start(model: str, what: str) -> None:
        status.update(f"{model}: {what}")
        if not progress.is_terminal:
            progress.print(f"  {model}: {what} ...")

    def on_row(model: str, row: BuildRow) -> None:
        took = "unchanged" if row.from_cache else f"{row.build_seconds:.1f} s"
        reason = f": {escape(row.reason)}" if row.reason else ""
        progress.print(f"{MARKS[row.status]} {model} {row.variant} {row.status} ({took}){reason}", soft_wrap=True)

    def on_advice(model: str, sentences: tuple[str, ...]) -> None:
        for sentence in sentences:
            progress.print(f"[dim]i {model}: {escape(sentence)}[/]", soft_wrap=True)

    def on_warning(model: str, sentences: tuple[str, ...]) -> None:
        for sentence in sentences:
            progress.print(f"[yellow]! {model}: {escape(sentence)}[/]", soft_wrap=True)

    return Listener(on_start, on_row, on_advice, on_warning)


def build_table(model: ModelBuild) -> Table:
    """The build's before/after table of one model."""
    fraction = model.original.fraction
    original = f"{model.original.name} {score(model.original.value, fraction)} on {model.evaluation_samples} samples"
    table = Table(title=f"{model.model} (the original: {original})", title_justify="left")
    for name in ("Variant", "Status", "Accuracy", "Time (ms)", "Size (MB)", "Speed-up", "Compression", "Retention"):
        table.add_column(name, justify="left" if name in ("Variant", "Status") else "right")
    for row in model.rows:
        table.add_row(
            row.variant,
            ", ".join(
                [row.status, *(["dominated"] if row.dominated else []), *(["undecided"] if undecided(row) else [])]
            ),
            score(row.accuracy, fraction),
            number(row.time_ms, ".3f"),
            stored(row.size_bytes, row.shared_bytes),
            number(row.speedup, ".2f", "x"),
            number(row.compression, ".2f", "x"),
            percent(row.retention),
            style="dim" if row.status != "published" else None,
        )
    return table
