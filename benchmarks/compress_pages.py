"""The tables that quote `benchmarks/compress.json`, in docs/compress.md and in the README of the example."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.claims import between, claims_table
from core.comparison import Benchmark
from core.files import write_atomically
from trident.console import megabytes, number, percent

ROOT: Final = Path(__file__).parent.parent
BEGIN, END = "<!-- compress: begin (written by `make bench-compress`) -->", "<!-- compress: end -->"


def children_table(benchmark: Benchmark) -> str:
    """The original's variants and its children's, with what they lose against it."""
    machine = benchmark.machine
    lines = [
        f"Built on {benchmark.created_at[:10]}: {machine.cpu_model}, {machine.cores} cores, "
        f"{', '.join(machine.isa_flags)}. All 10,000 test images; time at batch 1, speed-up over eager PyTorch.",
        "",
        "| variant | top1 | loss in points | size (MB) | smaller | time (ms) | speed-up (95% interval) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    whole = benchmark.rows[0].accuracy or 0.0
    for row in benchmark.rows:
        lost = "-" if row.accuracy is None else f"{round(100 * (whole - row.accuracy), 2) + 0.0:.2f}"
        low, high = row.speedup_ci95 or (0.0, 0.0)
        cells = [
            f"`{row.variant}`", percent(row.accuracy), lost, megabytes(row.size_bytes),
            number(row.compression, ".1f", "x"), number(row.time_ms, ".3f"),
            f"{number(row.speedup, '.1f', 'x')} ({low:.1f} to {high:.1f})",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


PAGES: Final[dict[Path, Callable[[Benchmark], str]]] = {
    ROOT / "docs/compress.md": claims_table,
    ROOT / "examples/wardrobe/README.md": children_table,
}


def rewritten(page: str, table: str) -> str:
    """The page with the part between the marks made anew."""
    return between(page, BEGIN, END, table)


def rewrite_pages(benchmark: Benchmark) -> None:
    """Writes the tables of all pages anew."""
    for page, table in PAGES.items():
        write_atomically(page, rewritten(page.read_text(), table(benchmark)).encode())
