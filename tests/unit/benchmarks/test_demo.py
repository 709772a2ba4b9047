from pathlib import Path

from benchmarks.demo import claim, rewrite
from core.comparison import Benchmark

ROOT = Path(__file__).parents[3]


def test_readme_quotes_the_committed_run() -> None:
    benchmark = Benchmark.model_validate_json((ROOT / "benchmarks/demo.json").read_bytes())
    readme = (ROOT / "README.md").read_text()
    assert rewrite(readme, benchmark) == readme, "run `python -m benchmarks.demo --readme`"


def test_a_claim_holds_by_the_bound_nearest_to_its_target() -> None:
    assert claim("x", [3.1, 3.2, 3.3], "x", 3.0).holds
    assert not claim("x", [2.9, 3.2, 3.3], "x", 3.0).holds
    assert not claim("x", [9.0], "x", 3.0).holds  # one measurement has no interval
    assert claim("s", [1.0, 1.1, 1.2], "s", 5.0, "lower").holds
    assert not claim("s", [1.0, 1.1, 5.2], "s", 5.0, "lower").holds
