from pathlib import Path

import numpy as np

from benchmarks.in_process import points
from benchmarks.int8 import rewrite
from benchmarks.int8_minilm import judged
from core.comparison import Benchmark

ROOT = Path(__file__).parents[3]


def test_the_page_quotes_the_committed_run() -> None:
    benchmark = Benchmark.model_validate_json((ROOT / "benchmarks/int8.json").read_bytes())
    page = (ROOT / "docs/variants.md").read_text()
    assert rewrite(page, benchmark) == page, "run `python -m benchmarks.int8 --page`"


def test_a_loss_holds_by_its_upper_bound() -> None:
    assert points("x", (0.001, -0.002, 0.004), "", 0.5).holds
    assert not points("x", (0.001, -0.002, 0.006), "", 0.5).holds


def test_no_sentence_is_judged_by_a_head_that_was_trained_on_it() -> None:
    """Labels at random: whoever had seen the sentence could know, since features are as many as sentences."""
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 2000)
    features = random.normal(size=(2000, 1500)).astype(np.float32)
    right = judged({"original": features, "same": features}, labels)
    assert len(right["original"]) == 1600  # less those that calibrate
    assert 0.45 < right["original"].mean() < 0.55
    np.testing.assert_array_equal(right["original"], right["same"])
