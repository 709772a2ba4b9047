from pathlib import Path

import pytest

from benchmarks.compress_pages import BEGIN, END, PAGES, ROOT, rewritten
from core.comparison import Benchmark


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_the_pages_quote_the_committed_run(page: Path) -> None:
    benchmark = Benchmark.model_validate_json((ROOT / "benchmarks/compress.json").read_bytes())
    text = page.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert rewritten(text, PAGES[page](benchmark)) == text, "run `python -m benchmarks.compress --page`"
