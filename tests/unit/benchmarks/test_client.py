from pathlib import Path

from benchmarks.client import rewrite
from benchmarks.client_faults import Asked, Load, Storm, deadline_ratios
from benchmarks.client_latency import Way, interleaved
from core.comparison import Benchmark

ROOT = Path(__file__).parents[3]


def test_the_page_quotes_the_committed_run() -> None:
    benchmark = Benchmark.model_validate_json((ROOT / "benchmarks/client.json").read_bytes())
    page = (ROOT / "docs/client.md").read_text()
    assert rewrite(page, benchmark) == page, "run `python -m benchmarks.client --page`"


def test_shares_and_ratios_of_a_load() -> None:
    load = Load((Asked(0, 0.1, "right"), Asked(0, 2.1, "DeadlineError"), Asked(1, 9, "wrong"), Asked(2, 1, "right")))
    assert (load.share("right"), load.share("wrong"), load.share("OverloadedError")) == (0.5, 0.25, 0)
    assert deadline_ratios(load, 2) == [1.05]


def test_a_storm_is_told_by_its_fullest_moment_after() -> None:
    steady = [i / 100 for i in range(0, 500)]  # 50 in half a second
    calm = [10 + i / 100 for i in range(300)]
    assert Storm(800, 0, (*steady, *calm), (5, 10)).peak() == 1
    assert Storm(800, 0, (*steady, *calm, *[10.1] * 50), (5, 10)).peak() == 2
    assert Storm(400, 0, (*steady, *calm), (5, 10)).attempts_per_request == 2


def test_ways_take_turns_and_change_places() -> None:
    order: list[str] = []
    ways = {name: Way(lambda name=name: order.append(name), 2) for name in "ab"}  # type: ignore[misc]
    medians = interleaved(ways, 3)
    assert "".join(order[4:]) == "baab" * 3
    assert [len(values) for values in medians.values()] == [3, 3]
