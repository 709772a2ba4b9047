"""What a load test says about its progress."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.load_results import Ceiling, LoadWindow, ServedAccuracy, ServerDelta
from core.results import MetricValue
from loadtest.events import describe_accuracy, describe_ceiling, describe_window

WINDOW = LoadWindow(
    variant="onnx_fp32",
    triton_name="digits_onnx_fp32",
    protocol="http",
    users=4,
    pass_number=1,
    seconds=4.0,
    requests=4000,
    failures=0,
    throughput_rps=999.7,
    p50_ms=3.456,
    p95_ms=4.0,
    p99_ms=5.0,
    mean_ms=3.5,
    server=ServerDelta(requests=4003, failures=0, executions=2000, mean_batch=2.0, queue_ms=0.1, compute_ms=1.0),
)
ACCURACY = ServedAccuracy(
    variant="onnx_fp32",
    triton_name="digits_onnx_fp32",
    protocol="http",
    samples=2000,
    failures=0,
    metric=MetricValue(name="top1", value=0.9215, ci95=(0.91, 0.93), samples=2000),
    agreement=0.9995,
)


def test_a_window_in_words() -> None:
    assert describe_window(WINDOW, "") == (
        "onnx_fp32 over HTTP, 4 users: 1000 requests/s, p50 3.46 ms, p99 5.00 ms, none failed"
    )


def test_a_window_of_failures_says_why() -> None:
    failed = WINDOW.model_copy(update={"failures": 4000, "p50_ms": None, "throughput_rps": 0.0, "users": 1})
    words = describe_window(failed, "HTTP 503: full")
    assert (
        words == "onnx_fp32 over HTTP, 1 user: 0 requests/s, no good answer, 4000 failed, the first with HTTP 503: full"
    )


def test_a_window_that_others_disturbed_says_so() -> None:
    words = describe_window(WINDOW.model_copy(update={"requests": 3900}), "")
    assert words.endswith("the server counted 4003 requests where 3900 were sent: it has other clients")


def test_a_served_accuracy_in_words() -> None:
    words = describe_accuracy(ACCURACY, 2000, "")
    assert words == "onnx_fp32 over HTTP: top1 92.15%, 99.95% decided as in process, 2000 samples, none failed"


def test_a_served_accuracy_without_answers_says_why() -> None:
    failed = ACCURACY.model_copy(update={"metric": None, "agreement": None, "failures": 2000})
    words = describe_accuracy(failed, 2000, "HTTP 400: no")
    assert words == "onnx_fp32 over HTTP: no good answer, 2000 samples, 2000 failed, the first with HTTP 400: no"


def test_a_slow_variants_accuracy_says_over_how_many_samples() -> None:
    words = describe_accuracy(ACCURACY.model_copy(update={"samples": 812, "protocol": "grpc"}), 2000, "")
    assert words.startswith(
        "onnx_fp32 over gRPC: top1 92.15%, 99.95% decided as in process, over the first 812 of 2000 "
    )
    assert words.endswith(" samples, since it is slow, none failed")


def test_a_window_that_the_generator_limited_says_so() -> None:
    words = describe_window(WINDOW.model_copy(update={"generator_cores": 0.95}), "")
    assert words.endswith("none failed, the load generator was at its limit")
    assert "limit" not in describe_window(WINDOW.model_copy(update={"generator_cores": 0.5}), "")


def test_a_window_near_the_generators_ceiling_says_so() -> None:
    near = WINDOW.model_copy(update={"generator_share": 0.71, "generator_cores": 0.5})
    assert "the load generator was at 71% of what it can send, above 70%" in describe_window(near, "")
    # With a known ceiling that counts: the CPU time holds threads that are not in the way of each other.
    far = WINDOW.model_copy(update={"generator_share": 0.7, "generator_cores": 1.5})
    assert "load generator" not in describe_window(far, "")
    unknown = WINDOW.model_copy(update={"generator_cores": 0.95})
    assert "the load generator was at its limit" in describe_window(unknown, "")


@pytest.mark.parametrize(
    ("age", "words"),
    [(timedelta(0), "just now"), (timedelta(hours=3), "3.0 hours ago"), (timedelta(days=2), "2.0 days ago")],
)
def test_a_ceiling_is_told_with_its_age(age: timedelta, words: str) -> None:
    row = Ceiling(
        protocol="grpc", rps=8600, processes=2, request_bytes=3176, answer_bytes=40,
        measured_at=(datetime.now(UTC) - age).isoformat(timespec="seconds"), conditions="here",
    )  # fmt: skip
    assert describe_ceiling(row) == (
        f"the load generator can send 8,600 requests/s over gRPC, with 2 processes (3.18 kB each; measured {words})"
    )


def test_a_window_in_which_the_server_was_started_again_says_so() -> None:
    words = describe_window(WINDOW.model_copy(update={"server": None}), "")
    assert words.endswith("the server was started again meanwhile, so what it counted is lost")
