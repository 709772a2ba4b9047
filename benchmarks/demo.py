"""The figures that the README quotes: `make bench-demo` builds the example afresh, loads its variants in several
interleaved passes, writes `benchmarks/demo.json` and the table between the marks in README.md.

Each claim's interval comes from ratios within one pass (variants side by side, minutes apart at most), resampled.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.claims import between, claim, claims_table, counted, tally
from core.comparison import Benchmark, Claim, Summary
from core.files import write_atomically
from core.intervals import steady
from core.load_results import LoadReport, LoadWindow
from core.machine import now
from core.results import BuildReport, BuildRow, Timing
from trident.console import megabytes, number, percent
from trident.summary import COLUMNS

HERE = Path(__file__).parent
SPEC = HERE.parent / "examples/fashion/model.yaml"
BEGIN, END = "<!-- demo: begin (written by `make bench-demo`) -->", "<!-- demo: end -->"
DEMO = ["--seconds", "1"]  # as in the Makefile
OWN_FP32 = {
    "onnx_int8_dynamic": "onnx_fp32", "onnx_int8_static": "onnx_fp32",
    "openvino_int8": "openvino_fp32", "pruned_openvino_int8": "openvino_fp32",
}  # fmt: skip
TRIDENT = [sys.executable, "-m", "trident.main"]


def gains(windows: tuple[LoadWindow, ...], variant: str, baseline: str) -> list[float]:
    """Best throughput of a variant over the baseline's best, pass by pass."""

    def best(number_: int, name: str) -> float:
        return max(
            w.throughput_rps for w in windows if (w.pass_number, w.variant, w.protocol) == (number_, name, "http")
        )

    passes = sorted({window.pass_number for window in windows})
    return [best(n, variant) / best(n, baseline) for n in passes]


def measure(passes: int, seconds: float, builds: int) -> Benchmark:
    """Builds, rebuilds and loads; gives the figures. Raises SystemExit if the machine was too busy to be believed."""
    reports, colds, warms = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for build in range(builds):
            where = ["--repository", f"{folder}/r{build}", "--artifacts", f"{folder}/a{build}"]
            colds.append(run([*TRIDENT, "build", str(SPEC), *where]))
            warms += [run([*TRIDENT, "build", str(SPEC), *where]) for _ in range(3)]
            reports.append(_steady_rows(where, Path(folder, f"a{build}", "build-report.json")))
        demos = [cold + run([*TRIDENT, "loadtest", *where, *DEMO, "--out", f"{folder}/demo"]) for cold in colds[-2:]]
        out = Path(folder, "out")
        load_options = ["--protocols", "http", "--passes", str(passes), "--seconds", str(seconds), "--out", str(out)]
        run([*TRIDENT, "loadtest", *where, *load_options])
        summary = Summary.model_validate_json((out / "summary.json").read_bytes())
        load = LoadReport.model_validate_json((out / "load.json").read_bytes())
    return Benchmark(
        created_at=now(),
        command="make bench-demo",
        machine=summary.machine,
        versions=summary.versions,
        commit=commit(),
        rows=summary.rows,
        windows=load.windows,
        claims=(
            *_claims(reports, summary, load),
            claim("cold_build_s", colds, "s, all nine", 90.0, "lower"),
            claim("unchanged_rebuild_s", warms, "s", 5.0, "lower"),
            claim("demo_s", demos, "s, what `make demo` does, installation apart", 300.0, "lower"),
        ),
    )


def _claims(reports: list[dict[str, BuildRow]], summary: Summary, load: LoadReport) -> tuple[Claim, ...]:
    """What the variants are said to reach. The one served best is chosen once, by its mean over all passes, among those
    whose loss surely is at most a point."""
    timings = {name: [_timing(report[name]) for report in reports] for name in reports[0]}
    quickest = max(timings, key=lambda name: median(timing.speedup for timing in timings[name]))
    verdicts = {name: row.verdict for name, row in reports[-1].items() if row.verdict}
    able = [row for row in summary.rows if row.throughput_rps and verdicts[row.variant].drop_ci95[1] <= 0.01]
    best = max(able, key=lambda row: row.throughput_rps or 0).variant
    lost = verdicts[best]
    size = {name: row.size_bytes or 0 for name, row in reports[-1].items()}
    smallest = min(size[base] / size[name] for name, base in OWN_FP32.items())
    agreed = min(
        found.agreement or 0.0 for found in load.accuracy if found.protocol == "http" and "dynamic" not in found.variant
    )
    return (
        claim(
            "best_speedup_in_process", [timing.speedup for timing in timings[quickest]],
            f"x over eager PyTorch at batch 1, {quickest}", 5.0,
        ),
        claim("best_gain_served", gains(load.windows, best, "torch_fp32"), f"x over torch_fp32, {best}", 2.0),
        Claim(
            id="best_points_lost", value=100 * lost.drop, unit=f"points of top-1, {best}", target=1.0, better="lower",
            ci95=(100 * lost.drop_ci95[0], 100 * lost.drop_ci95[1]), holds=100 * lost.drop_ci95[1] <= 1.0,
        ),
        counted("int8_files_smaller", smallest, "x, the least of four, each over its own FP32", 3.0, "higher"),
        counted("served_agreement", agreed, "share of samples, the least (dynamic INT8 apart)", 0.999, "higher"),
        counted("failed_requests", sum(row.failures or 0 for row in summary.rows), "requests", 0, "lower"),
    )  # fmt: skip


def _steady_rows(where: list[str], path: Path) -> dict[str, BuildRow]:
    """The rows of a build by variant, timed again if the machine was busy. Raises SystemExit if it stays so."""
    for _ in range(3):
        rows = BuildReport.model_validate_json(path.read_bytes()).models[0].rows
        timings = [row.timing for row in rows if row.timing]
        if all(steady(timing.speedup_ci95) and not timing.disturbed for timing in timings):
            return {row.variant: row for row in rows}
        run([*TRIDENT, "build", str(SPEC), *where, "--retime"])
    raise SystemExit("the speed-ups are not steady: run this on a quiet machine")


def _timing(row: BuildRow) -> Timing:
    assert row.timing is not None, row.reason
    return row.timing


def run(command: list[str]) -> float:
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def commit() -> str:
    words = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True)
    return words.stdout.strip() or "unknown"


def readme_table(benchmark: Benchmark) -> str:
    """The part of the README between the marks."""
    head = [*COLUMNS[:4], "p50 (ms)", "p95 (ms)", "p99 (ms)", "Throughput (1/s)", *COLUMNS[8:]]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in benchmark.rows:
        cells = [
            f"`{row.variant}`", percent(row.accuracy), percent(row.served_accuracy), number(row.time_ms, ".3f"),
            number(row.p50_ms), number(row.p95_ms), number(row.p99_ms),
            f"{number(row.throughput_rps, '.0f')} ({number(row.throughput_gain, '.2f', 'x')})",
            megabytes(row.size_bytes), number(row.speedup, ".2f", "x"), number(row.compression, ".2f", "x"),
            percent(row.retention),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", claims_table(benchmark, " with server and load generator on the same ones")])


def rewrite(readme: str, benchmark: Benchmark) -> str:
    """The README with the part between the marks made anew."""
    return between(readme, BEGIN, END, readme_table(benchmark))


def main() -> None:
    """Measures, or with `--readme` only rewrites the README from the committed file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--builds", type=int, default=3)
    parser.add_argument("--readme", action="store_true", help="measure nothing, rewrite README.md from demo.json")
    options = parser.parse_args()
    result = HERE / "demo.json"
    if not options.readme:
        write_atomically(result, measure(options.passes, options.seconds, options.builds).to_json())
    readme = HERE.parent / "README.md"
    benchmark = Benchmark.model_validate_json(result.read_bytes())
    write_atomically(readme, rewrite(readme.read_text(), benchmark).encode())
    print(f"{result}: {tally(benchmark)}")


if __name__ == "__main__":
    main()
