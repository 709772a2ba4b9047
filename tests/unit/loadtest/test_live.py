"""What Prometheus is told of a running load test."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry

from loadtest.job import Exchange
from loadtest.live import Live
from loadtest.plan import LoadPlan, Target
from loadtest.scenarios import SCENARIOS

PLAN = LoadPlan(
    model="m", url="127.0.0.1:1", pack=Path(), scenario=SCENARIOS["single"],
    targets=(Target(variant="a", triton_name="m_a"), Target(variant="b", triton_name="m_b")),
)  # fmt: skip


def answered(model: int, late_s: float, latency_ms: float, failure: str = "") -> Exchange:
    """A request that was due at 1 s."""
    return Exchange(0, model, 1.0, 1.0 + late_s, latency_ms, b"", failure)


def test_requests_are_counted_by_variant_and_outcome_and_only_once() -> None:
    registry, live = CollectorRegistry(), Live(PLAN)
    registry.register(live)

    def read(name: str, variant: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"trident_loadtest_{name}", {"variant": variant, "protocol": "http", **labels})

    first = [answered(0, 0.0, 3.0), answered(1, 0.5, 3.0)]
    live.follow(("m_a", "m_b"), first)
    assert read("requests_total", "a", outcome="ok") == read("requests_total", "b", outcome="ok") == 1
    first.append(answered(0, 0.0, 3.0, "HTTP 503: full"))
    live.follow(("m_b",), [answered(0, 0.0, 30_000.0)])  # the last of the first run still counts
    assert read("requests_total", "a", outcome="ok") == 1
    assert read("requests_total", "a", outcome="rejected") == 1
    assert read("requests_total", "b", outcome="ok") == 2
    # b: 0.503 s from when it was due, 0.003 s from the sending; and 30 s in both.
    assert read("latency_seconds_bucket", "b", le="0.5") == 0
    assert read("latency_seconds_bucket", "b", le="1") == 1
    assert read("latency_seconds_bucket", "b", le="+Inf") == read("latency_seconds_count", "b") == 2
    assert read("uncorrected_latency_seconds_bucket", "b", le="0.005") == 1
    assert read("latency_seconds_sum", "b") == 30.503
    assert read("latency_seconds_count", "a") == 1  # failures have no latency


def test_it_tells_how_far_the_test_is() -> None:
    registry, live = CollectorRegistry(), Live(PLAN)
    registry.register(live)
    live.done(3)
    labels = {"protocol": "http"}
    assert registry.get_sample_value("trident_loadtest_parts_done", labels) == 3
    assert registry.get_sample_value("trident_loadtest_parts", labels) == 6  # two accuracies, two passes of each
