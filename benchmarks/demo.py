"""The figures that the README quotes: `make bench-demo` builds the example afresh, loads its variants in several
interleaved passes, writes `benchmarks/demo.json` and the table between the marks in README.md.

Each claim's interval comes from ratios within one pass (variants side by side, minutes apart at most), resampled.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean, median

from core.files import write_atomically
from core.machine import now
from core.results import Benchmark, BuildReport, Claim, LoadReport, LoadWindow, Summary
from trident.console import megabytes, number, percent
from trident.summary import COLUMNS

HERE = Path(__file__).parent
SPEC = HERE.parent / "examples/fashion/model.yaml"
BEGIN, END = "<!-- demo: begin (written by `make bench-demo`) -->", "<!-- demo: end -->"
TRIDENT = [sys.executable, "-m", "trident.main"]


def bootstrap(values: list[float], rounds: int = 4000) -> tuple[float, float]:
    """95% interval of the median of a few measurements."""
    chance = random.Random(1)
    medians = sorted(median(chance.choices(values, k=len(values))) for _ in range(rounds))
    return medians[round(0.025 * rounds)], medians[round(0.975 * rounds) - 1]


def claim(name: str, values: list[float], unit: str, target: float, better: str = "higher") -> Claim:
    """A claim over repeated measurements. A single one has no interval, and so does not hold."""
    low, high = bootstrap(values)
    met = low >= target if better == "higher" else high <= target
    return Claim(
        id=name, value=median(values), ci95=(low, high), unit=unit, target=target, better=better,  # type: ignore[arg-type]
        holds=met and len(values) > 1,
    )  # fmt: skip


def gains(windows: tuple[LoadWindow, ...], variant: str, baseline: str) -> list[float]:
    """Best throughput of a variant over the baseline's best, pass by pass, both over HTTP."""

    def best(number_: int, name: str) -> float:
        return max(
            w.throughput_rps for w in windows if (w.pass_number, w.variant, w.protocol) == (number_, name, "http")
        )

    passes = sorted({window.pass_number for window in windows})
    return [best(n, variant) / best(n, baseline) for n in passes]


def measure(passes: int, seconds: float, builds: int) -> Benchmark:
    """Builds, rebuilds and loads; gives the figures."""
    speedups, colds, warms, drops = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for build in range(builds):
            where = ["--repository", f"{folder}/r{build}", "--artifacts", f"{folder}/a{build}"]
            colds.append(_run([*TRIDENT, "build", str(SPEC), *where]))
            warms += [_run([*TRIDENT, "build", str(SPEC), *where]) for _ in range(3)]
            report = BuildReport.model_validate_json(Path(folder, f"a{build}", "build-report.json").read_bytes())
            row = next(row for row in report.models[0].rows if row.variant == "openvino_int8")
            assert row.speedup is not None and row.verdict is not None
            speedups.append(row.speedup)
            drops.append(row.verdict)
        out = Path(folder, "out")
        load_options = ["--passes", str(passes), "--seconds", str(seconds), "--out", str(out)]
        _run([*TRIDENT, "loadtest", *where, *load_options])
        summary = Summary.model_validate_json((out / "summary.json").read_bytes())
        load = LoadReport.model_validate_json((out / "load.json").read_bytes())
    worst = max(drops, key=lambda verdict: verdict.drop)
    served = next(found for found in load.accuracy if found.variant == "openvino_int8")
    loss = tuple(100 * bound for bound in worst.drop_ci95)
    failures = sum(row.failures or 0 for row in summary.rows)
    return Benchmark(
        created_at=now(),
        command="make bench-demo",
        machine=summary.machine,
        versions=summary.versions,
        commit=_commit(),
        rows=summary.rows,
        windows=load.windows,
        claims=(
            claim("int8_speedup_in_process", speedups, "x over eager PyTorch, batch 1", 3.0),
            claim("int8_gain_served", gains(load.windows, "openvino_int8", "torch_fp32"), "x over torch_fp32", 2.0),
            Claim(
                id="int8_points_lost", value=100 * worst.drop, ci95=(loss[0], loss[1]), unit="points of top-1",
                target=1.0, better="lower", holds=loss[1] <= 1.0,
            ),
            Claim(
                id="int8_served_agreement", value=served.agreement or 0.0, ci95=(served.agreement or 0.0,) * 2,
                unit="share of all evaluation samples (a count, not a sample)", target=0.999, better="higher",
                holds=(served.agreement or 0.0) >= 0.999,
            ),
            Claim(
                id="failed_requests", value=failures, ci95=(failures, failures), unit="requests (a count)",
                target=0, better="lower", holds=failures == 0,
            ),
            claim("cold_build_s", colds, "s", 60.0, "lower"),
            claim("unchanged_rebuild_s", warms, "s", 5.0, "lower"),
        ),
    )  # fmt: skip


def _run(command: list[str]) -> float:
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def _commit() -> str:
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
    machine = benchmark.machine
    lines += [
        "",
        f"Measured on {benchmark.created_at[:10]}: {machine.cpu_model}, {machine.cores} cores with server and load "
        f"generator on the same ones, {', '.join(machine.isa_flags)}.",
        "",
        "| claim | value | 95% interval | target | holds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for c in benchmark.claims:
        bound = f"{'at least' if c.better == 'higher' else 'at most'} {c.target:g}"
        interval = f"{c.ci95[0]:.3g} to {c.ci95[1]:.3g}"
        lines.append(f"| {c.id} ({c.unit}) | {c.value:.3g} | {interval} | {bound} | {'yes' if c.holds else '**no**'} |")
    return "\n".join(lines)


def rewrite(readme: str, benchmark: Benchmark) -> str:
    """The README with the part between the marks made anew."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{readme_table(benchmark)}\n{END}{after}"


def main() -> None:
    """Measures, or with `--readme` only rewrites the README from the committed file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--builds", type=int, default=3)
    parser.add_argument("--readme", action="store_true", help="measure nothing, rewrite README.md from demo.json")
    options = parser.parse_args()
    result = HERE / "demo.json"
    if not options.readme:
        write_atomically(result, measure(options.passes, options.seconds, options.builds).to_json())
    readme = HERE.parent / "README.md"
    benchmark = Benchmark.model_validate_json(result.read_bytes())
    write_atomically(readme, rewrite(readme.read_text(), benchmark).encode())
    print(f"{result}: {fmean(c.holds for c in benchmark.claims):.0%} of the claims hold")


if __name__ == "__main__":
    main()
