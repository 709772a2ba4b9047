"""The server's counters, as both protocols spell them."""

from __future__ import annotations

from client.counters import ModelStatistics, parse_statistics

HTTP = {
    "model_stats": [
        {
            "name": "digits",
            "version": "1",
            "inference_count": 12,
            "execution_count": 5,
            "inference_stats": {
                "success": {"count": 10, "ns": 999},
                "fail": {"count": 1, "ns": 9},
                "queue": {"count": 10, "ns": 100},
                "compute_input": {"count": 10, "ns": 1},
                "compute_infer": {"count": 10, "ns": 20},
                "compute_output": {"count": 10, "ns": 3},
                "cache_hit": {"count": 0, "ns": 0},
            },
            "batch_stats": [
                {"batch_size": 3, "compute_infer": {"count": 3, "ns": 15}},
                {"batch_size": 1, "compute_infer": {"count": 2, "ns": 5}},
            ],
        }
    ]
}
GRPC = {
    "model_stats": [
        {
            "name": "digits",
            "version": "1",
            "inference_count": "12",
            "execution_count": "5",
            "inference_stats": {
                "success": {"count": "10", "ns": "999"},
                "fail": {"count": "1", "ns": "9"},
                "queue": {"count": "10", "ns": "100"},
                "compute_input": {"count": "10", "ns": "1"},
                "compute_infer": {"count": "10", "ns": "20"},
                "compute_output": {"count": "10", "ns": "3"},
                "cache_hit": {},
            },
            "batch_stats": [
                {"batch_size": "3", "compute_infer": {"count": "3", "ns": "15"}},
                {"batch_size": "1", "compute_infer": {"count": "2", "ns": "5"}},
            ],
        }
    ]
}
EXPECTED = ModelStatistics(
    requests=10, failures=1, inferences=12, executions=5, queue_ns=100, compute_ns=24, batches={1: 2, 3: 3}
)


def test_both_protocols_give_the_same_counters() -> None:
    assert parse_statistics(HTTP) == EXPECTED
    assert parse_statistics(GRPC) == EXPECTED


def test_a_model_that_was_never_asked_has_zeros() -> None:
    assert parse_statistics({"model_stats": [{"inference_stats": {"success": {}}}]}) == ModelStatistics(
        0, 0, 0, 0, 0, 0
    )


def test_versions_are_added_up() -> None:
    both = parse_statistics({"model_stats": HTTP["model_stats"] * 2})
    assert (both.requests, both.compute_ns) == (20, 48)
    assert both.batches == {1: 4, 3: 6}


def test_a_difference_is_taken_counter_by_counter() -> None:
    later = ModelStatistics(13, 3, 17, 9, queue_ns=150, compute_ns=30, batches={1: 5, 2: 1, 3: 3})
    assert later - EXPECTED == ModelStatistics(3, 2, 5, 4, 50, 6, {1: 3, 2: 1})
