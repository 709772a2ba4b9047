from pathlib import Path

from benchmarks.compress import rewrite
from core.comparison import Benchmark

ROOT = Path(__file__).parents[3]


def test_the_page_quotes_the_committed_run() -> None:
    benchmark = Benchmark.model_validate_json((ROOT / "benchmarks/compress.json").read_bytes())
    page = (ROOT / "docs/compress.md").read_text()
    assert rewrite(page, benchmark) == page, "run `python -m benchmarks.compress --page`"
