"""What `make bench-lint` counts: the documented repositories raise no alarm, and the committed figures are whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.demo import counted
from benchmarks.lint import keep
from benchmarks.lint_repositories import DOCUMENTED
from core.comparison import Benchmark
from lint.releases import NEWEST
from lint.run import lint

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("make", DOCUMENTED.values(), ids=DOCUMENTED)
def test_what_the_documentation_shows_raises_no_alarm(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "repository")
    findings = lint(tmp_path / "repository", NEWEST, cores=2).findings
    assert [found for found in findings if found.severity != "note"] == []


def test_the_committed_run_has_the_claims() -> None:
    benchmark = Benchmark.model_validate_json((ROOT / "benchmarks/lint.json").read_bytes())
    claims = {claim.id: claim for claim in benchmark.claims}
    of_lint = {"seeded_faults_found_pct", "false_alarms", "good_repositories", "models_per_s"}
    assert of_lint <= set(claims)
    assert all(claims[name].holds for name in of_lint)  # the planner's may fail, and say so


def test_a_part_that_is_measured_anew_leaves_the_other_claims() -> None:
    benchmark = Benchmark.model_validate_json((ROOT / "benchmarks/lint.json").read_bytes())
    again = counted("false_alarms", 3, "errors", 0, "lower")
    kept = {claim.id: claim for claim in keep(benchmark, (again,)).claims}
    assert kept == {claim.id: claim for claim in benchmark.claims} | {"false_alarms": again}
