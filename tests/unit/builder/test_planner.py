"""The plan as a pure function of facts whose law is known."""

from __future__ import annotations

import pytest

from builder.planner import Facts, Plan, call_ms, facts_here, plan, rate
from builder.planner_words import why_batch, why_delay, why_instances
from builder.spec import Batch, Serving
from core.results import Costs
from tests.support.costs import costs_of


def facts(costs: Costs | None, cores: int = 4, nodes: int = 1, memory_bytes: int = 8 << 30) -> Facts:
    return Facts(cores=cores, nodes=nodes, memory_bytes=memory_bytes, isa_flags=("avx2",), costs=costs)


def split(planned: Plan) -> tuple[int, int]:
    return planned.split.instances, planned.split.threads


@pytest.mark.parametrize(
    ("serial", "goal", "expected"),
    [
        (0.0, "throughput", (1, 4)),  # threads that scale: one instance is as good, and its lone request quickest
        (0.1, "throughput", (4, 1)),
        (0.02, "throughput", (2, 2)),
        (0.1, "latency", (1, 4)),
        (1.0, "latency", (4, 1)),  # threads are of no use: several instances cost a lone request nothing
        (1.5, "throughput", (4, 1)),  # threads that do harm
    ],
)
def test_the_cores_are_shared_out_by_how_threads_scale(serial: float, goal: str, expected: tuple[int, int]) -> None:
    wishes = Serving.model_validate({"goal": goal})
    assert split(plan(facts(costs_of(serial=serial)), wishes, Batch())) == expected


def test_instances_that_crowd_each_other_are_fewer() -> None:
    costs = costs_of(serial=0.1, crowding=1.4)
    assert split(plan(facts(costs), Serving(), Batch())) == (1, 4)


def test_memory_bounds_the_instances() -> None:
    costs = costs_of(serial=1.0, resident_bytes=1 << 30)
    planned = plan(facts(costs, memory_bytes=8 << 30), Serving(), Batch())
    assert split(planned) == (2, 2)
    assert "over a quarter of the memory" in why_instances(planned, facts(costs), Serving())
    assert split(plan(facts(costs, memory_bytes=1 << 30), Serving(), Batch())) == (1, 4)  # one there must be


def test_no_instance_spans_numa_nodes() -> None:
    planned = plan(facts(costs_of(), nodes=2), Serving(), Batch())
    assert split(planned) == (2, 2)
    assert "none" not in why_instances(planned, facts(costs_of(), nodes=2), Serving())
    assert "2 NUMA nodes" in why_instances(planned, facts(costs_of(), nodes=2), Serving())


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 6, 64])
@pytest.mark.parametrize("measured", [1, 2, 4])
@pytest.mark.parametrize("wishes", ["", "instances=3", "threads=2", "instances=2 threads=9", "threads=100"])
def test_threads_times_instances_fit_the_cores_whatever_is_wished(cores: int, measured: int, wishes: str) -> None:
    wanted = Serving.model_validate(dict(part.split("=") for part in wishes.split()))
    for serial in (0.0, 0.3, 1.0):
        instances, threads = split(plan(facts(costs_of(serial=serial, cores=measured), cores), wanted, Batch()))
        assert 1 <= instances * threads <= cores
        if wanted.instances:
            assert instances == min(wanted.instances, cores)
        elif wanted.threads and wanted.threads <= cores:
            assert threads == wanted.threads


def test_what_the_spec_fixes_is_said_to_be_fixed() -> None:
    wishes = Serving(instances=2, threads=1)
    planned = plan(facts(costs_of()), wishes, Batch(max=16))
    assert split(planned) == (2, 1)
    assert planned.batch == 16
    assert "the spec fixes instances and threads" in why_instances(planned, facts(costs_of()), wishes)
    assert "the spec's batch.max" in why_batch(planned, facts(costs_of()), Batch(max=16), "1, 2, 3, 16")


@pytest.mark.parametrize(("overhead_ms", "knee"), [(0.0, 1), (100.0, 16), (15.0, 4), (10000.0, 32)])
def test_the_batch_limit_is_the_knee_of_the_measured_times(overhead_ms: float, knee: int) -> None:
    costs = costs_of(overhead_ms=overhead_ms)
    planned = plan(facts(costs), Serving(), Batch())
    assert planned.batch == knee
    if knee > 1:
        assert f"in a batch of {knee}" in why_batch(planned, facts(costs), Batch(), "1, 2, 3, 32")


def test_a_small_network_is_batched_for_what_the_server_takes_around_it() -> None:
    assert plan(facts(costs_of(sample_ms=0.5)), Serving(), Batch()).batch == 32


def test_a_limit_of_the_spec_bounds_the_expected_rate() -> None:
    costs = costs_of(overhead_ms=1000.0)
    small, large = (plan(facts(costs), Serving(), Batch(max=limit)).split.rate for limit in (2, 32))
    assert small == pytest.approx(rate(costs, 1, 4, 2))
    assert large > 3 * small


def test_the_delay_is_bounded_by_what_sharing_a_batch_saves() -> None:
    costs = costs_of(overhead_ms=2.0, cores=1)
    planned = plan(facts(costs, 1), Serving(), Batch(max=8))
    assert planned.delay_us == 0
    assert planned.worth_us == pytest.approx(2000)
    assert "saves 2000 us" in why_delay(planned, facts(costs))
    asked = plan(facts(costs, 1), Serving(max_queue_delay_us=5000), Batch(max=8))
    assert asked.delay_us == 5000
    assert "less than the wait" in why_delay(asked, facts(costs))
    assert plan(facts(costs_of()), Serving(), Batch(max=8)).worth_us == 0


def test_without_measurements_one_instance_has_all_cores() -> None:
    planned = plan(facts(None), Serving(), Batch())
    assert split(planned) == (1, 4)
    assert planned.batch == 32
    assert "nothing was measured" in why_instances(planned, facts(None), Serving())


def test_times_follow_amdahls_law_between_and_beyond_what_was_measured() -> None:
    costs = costs_of(overhead_ms=2.0, sample_ms=1.0, serial=0.25)
    assert call_ms(costs, 2, 4) == pytest.approx(6 * (0.25 + 0.75 / 2))
    assert call_ms(costs, 16, 4) == pytest.approx(6 * (0.25 + 0.75 / 16))
    assert call_ms(costs, 1, 3) == pytest.approx(5.0)
    assert call_ms(costs, 1, 64) == pytest.approx(68.0)


def test_a_plan_for_another_machine_says_so() -> None:
    wishes = Serving(cores=64, memory_mb=1000)
    there = facts_here(wishes, costs_of(serial=0.1))
    assert (there.cores, there.memory_bytes, there.nodes) == (64, 10**9, 1)
    planned = plan(there, wishes, Batch())
    assert planned.split.instances * 105e6 <= 0.25e9
    words = why_instances(planned, there, wishes)
    assert "planned for 64 cores from measurements on 4" in words
