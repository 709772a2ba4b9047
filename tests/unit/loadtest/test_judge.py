"""From raw requests to rows, with figures that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from client.counters import ModelStatistics
from core.intervals import wilson
from core.load_results import QUANTILES, LoadWindow
from core.samples import SamplePack, SamplePackInfo
from core.scenario import ClosedLoop, OpenLoop
from core.tensors import TensorSpec
from loadtest.job import Exchange
from loadtest.judge import Around, Recorded, judge_accuracy, judge_window, record, server_delta
from loadtest.plan import Step, Target
from loadtest.processes import Usage

INFO = SamplePackInfo(
    model="digits",
    count=4,
    inputs=(TensorSpec(name="x", dims=(2,)),),
    outputs=(TensorSpec(name="logits", dims=(3,)),),
    metric="top1",
    metric_output="logits",
    sha256="0" * 64,
)
GOLDEN = np.eye(4, 3, dtype=np.float32)  # decides 0, 1, 2, 0
PACK = SamplePack(INFO, {"x": np.zeros((4, 2), np.float32)}, {"logits": GOLDEN}, np.array([0, 1, 2, 1]))
TARGET = Target(variant="a", triton_name="digits_a")
STEP = Step(2, ClosedLoop(users=(8,)), 8, (TARGET,))
COUNTED = ModelStatistics(
    requests=4,
    failures=1,
    inferences=6,
    executions=3,
    queue_ns=8_000_000,
    compute_ns=2_000_000,
    batches={1: 1, 2: 1, 3: 1},
)


def sent(sample: int, began_s: float, latency_ms: float, decision: int | None = None) -> Exchange:
    """A request answered with a decision for a class; None is a failure."""
    if decision is None:
        return Exchange(sample, 0, began_s, began_s, latency_ms, b"", "HTTP 503: full")
    return Exchange(sample, 0, began_s, began_s, latency_ms, np.eye(3, dtype=np.float32)[decision].tobytes())


def judged(recorded: Recorded, counted: ModelStatistics = COUNTED, cpu_s: float = 0.1) -> LoadWindow:
    """The row of a window over gRPC."""
    return judge_window(STEP, TARGET, "grpc", recorded, Around(counted, Usage(), cpu_s))


# In the order of their answers; the second began first.
EXCHANGES = (sent(1, 100.1, 100, 1), sent(0, 100.0, 300, 0), sent(2, 100.2, 200), sent(3, 100.3, 200, 0))


def test_a_window_lasts_from_the_first_request_to_the_last_answer() -> None:
    recorded = record(EXCHANGES, PACK)
    assert recorded.origin_s == 100.0
    assert recorded.seconds == pytest.approx(0.5)


def test_a_windows_row_counts_all_requests_and_judges_the_good_ones() -> None:
    row = judged(record(EXCHANGES, PACK))
    assert (row.variant, row.triton_name, row.protocol, row.users, row.pass_number) == ("a", "digits_a", "grpc", 8, 2)
    assert (row.requests, row.failures) == (4, 1)
    assert row.throughput_rps == pytest.approx(3 / 0.5)
    assert (row.p50_ms, row.mean_ms) == (pytest.approx(200), pytest.approx(200))
    assert (row.p95_ms, row.p99_ms) == (pytest.approx(290), pytest.approx(298))
    assert row.accuracy == pytest.approx(2 / 3)  # sample 3 is labelled 1 and answered 0
    assert row.generator_cores == pytest.approx(0.2)


def test_a_server_that_was_started_again_in_between_has_counted_nothing_that_can_be_told() -> None:
    after = ModelStatistics(requests=1, failures=0, inferences=1, executions=1, queue_ns=1, compute_ns=1)
    assert judged(record(EXCHANGES, PACK), after - COUNTED).server is None
    assert judged(record(EXCHANGES, PACK), after).server is not None


def test_the_quantiles_are_those_of_the_good_answers() -> None:
    row = judged(record(EXCHANGES, PACK))
    assert dict(zip(QUANTILES, row.quantiles_ms, strict=True))[0.5] == row.p50_ms == pytest.approx(200)
    assert (row.quantiles_ms[0], dict(zip(QUANTILES, row.quantiles_ms, strict=True))[0.99]) == (
        pytest.approx(100), pytest.approx(row.p99_ms),
    )  # fmt: skip
    assert judged(record([sent(0, 1.0, 5.0)], PACK)).quantiles_ms == ()


def test_the_share_of_the_generators_ceiling_counts_what_went_to_all_variants() -> None:
    recorded = record(EXCHANGES, PACK)
    around = Around(COUNTED, Usage(), 0.1, sent=10, ceiling_rps=40.0)
    assert judge_window(STEP, TARGET, "http", recorded, around).generator_share == pytest.approx(10 / 0.5 / 40)
    assert judged(recorded).generator_share is None


def test_percentiles_come_from_raw_latencies_not_from_buckets() -> None:
    exchanges = [sent(0, i, 2.6 + i / 1000, 0) for i in range(101)]
    row = judged(record(exchanges, PACK))
    assert (row.p50_ms, row.p95_ms, row.p99_ms) == pytest.approx((2.65, 2.695, 2.699))


def test_a_window_without_a_good_answer_has_no_percentiles() -> None:
    recorded = record([sent(0, 1.0, 50), sent(1, 1.0, 100)], PACK)
    row = judged(recorded, ModelStatistics(0, 0, 0, 0, 0, 0))
    assert (row.requests, row.failures, row.throughput_rps) == (2, 2, 0.0)
    assert (row.p50_ms, row.p95_ms, row.p99_ms, row.mean_ms, row.accuracy) == (None,) * 5
    assert recorded.first_failure == "HTTP 503: full"


def test_the_servers_counters_become_means() -> None:
    delta = server_delta(COUNTED, Usage(), 0.5)
    assert (delta.requests, delta.failures, delta.executions) == (4, 1, 3)
    assert (delta.mean_batch, delta.queue_ms, delta.compute_ms) == (2.0, 2.0, 0.5)
    assert delta.batches == {1: 1, 2: 1, 3: 1}


def test_a_server_that_did_nothing_has_zeros() -> None:
    delta = server_delta(ModelStatistics(0, 0, 0, 0, 0, 0), Usage(), 0.0)
    assert (delta.mean_batch, delta.queue_ms, delta.compute_ms) == (0.0, 0.0, 0.0)


def test_served_accuracy_is_that_of_the_answered_samples() -> None:
    row = judge_accuracy(TARGET, "grpc", record(EXCHANGES, PACK), in_process=None)
    assert (row.protocol, row.samples, row.failures) == ("grpc", 4, 1)
    assert row.metric is not None
    assert (row.metric.name, row.metric.samples) == ("top1", 3)
    assert row.metric.value == pytest.approx(2 / 3)
    assert row.metric.ci95 == wilson(np.array([1.0, 1.0, 0.0]))
    assert row.agreement is None


def test_agreement_compares_decisions_sample_by_sample() -> None:
    in_process = np.eye(3, dtype=np.float32)[[0, 2, 2, 0]]  # differs at sample 1; sample 2 was not answered
    row = judge_accuracy(TARGET, "grpc", record(EXCHANGES, PACK), in_process)
    assert row.agreement == pytest.approx(2 / 3)


def test_a_metric_of_all_samples_together_is_judged_as_one() -> None:
    pack = replace(
        PACK, info=INFO.model_copy(update={"metric": "mae", "metric_output": "logits"}), labels=np.array([0.5, 0, 0, 0])
    )
    recorded = record(EXCHANGES, pack)
    row = judged(recorded)
    # Answers (0,1,0), (1,0,0), (1,0,0) beside 0, 0.5 and 0: 1/3, 1.5/3 and 1/3.
    assert row.accuracy == pytest.approx((1 / 3 + 0.5 + 1 / 3) / 3)
    served = judge_accuracy(TARGET, "grpc", recorded, in_process=GOLDEN)
    assert served.metric is not None
    assert (served.metric.name, served.metric.higher_is_better, served.metric.fraction) == ("mae", False, False)
    assert served.agreement == pytest.approx(2 / 3)  # sample 3 is answered (1,0,0), and (0,0,0) in GOLDEN


def test_without_any_answer_there_is_no_accuracy() -> None:
    row = judge_accuracy(TARGET, "grpc", record([sent(0, 0.0, 1)], PACK), GOLDEN)
    assert (row.metric, row.agreement, row.failures) == (None, None, 1)


def late(sample: int, due_s: float, began_s: float, latency_ms: float) -> Exchange:
    """A good answer to a request that was sent later than it was due."""
    return Exchange(sample, 0, due_s, began_s, latency_ms, np.eye(3, dtype=np.float32)[0].tobytes())


def test_an_open_loop_counts_from_when_requests_were_due() -> None:
    load = OpenLoop(rate_rps=4, seconds=1, connections=1, phases=((1, 1), (1, 1)))
    exchanges = [late(0, 10.1, 10.1, 700), late(1, 10.4, 10.8, 10), late(2, 10.6, 10.81, 10)]
    recorded = record(exchanges, PACK, origin_s=10.0, unsent=1)
    step = Step(1, load, 1, (TARGET,))
    row = judge_window(step, TARGET, "http", recorded, Around(COUNTED, Usage(), 0.1))
    assert (row.offered_rps, row.requests, row.failures, row.unsent) == (4, 4, 1, 1)
    assert row.reasons == {"not sent": 1}
    assert row.p50_ms == pytest.approx(410)  # sent 400 ms late, answered in 10
    assert row.uncorrected_p99_ms == pytest.approx(np.percentile([700, 10, 10], 99))
    assert row.seconds == pytest.approx(0.82)
    first, second = row.phases
    assert (first.requests, second.requests, first.offered_rps) == (2, 1, 4)
    assert (second.p50_ms, second.uncorrected_p99_ms) == (pytest.approx(220), pytest.approx(10))


def test_what_the_servers_processes_used_is_told_per_second() -> None:
    delta = server_delta(COUNTED, Usage(cpu_s=0.75, resident_bytes=5), 0.5)
    assert (delta.cores, delta.resident_bytes) == (1.5, 5)
    assert server_delta(COUNTED, Usage(), 0.5).cores is None
