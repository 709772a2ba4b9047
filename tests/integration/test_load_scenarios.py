"""Open loops, mixed traffic, the search for capacity and the raw user, on the real Triton."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from core.load_results import LoadReport
from core.scenario import CapacitySearch, ClosedLoop, OpenLoop, Protocol, Scenario
from loadtest import LoadEvent, LoadPlan, Target, run_plan
from loadtest.ceiling import Ceilings
from server.stubs import find_stubs
from tests.integration.loadtest_fixtures import Served

RATE = 200.0


def run(
    served: Served,
    out: Path,
    load: ClosedLoop | OpenLoop | CapacitySearch,
    *names: str,
    protocol: Protocol = "http",
    ceilings: Path | None = None,
) -> tuple[LoadReport, list[LoadEvent]]:
    """A load test of these models, once."""
    events: list[LoadEvent] = []
    pids = {
        name: tuple(stub.pid for stub in find_stubs(served.server.shm_prefix) if stub.model == name) for name in names
    }
    plan = LoadPlan(
        model="digits",
        url=served.url(protocol),
        protocol=protocol,
        pack=served.pack,
        targets=tuple(Target(variant=name, triton_name=name, pids=pids[name]) for name in names),
        scenario=Scenario(name="test", load=load, passes=1, warmup_s=0.1),
        ceilings=ceilings,
        server_pid=served.server.pid,
        timeout_s=10,
    )
    return run_plan(plan, out, events.append), events


@pytest.mark.parametrize("protocol", ["http", "grpc", "raw"])
def test_an_open_loop_sends_when_requests_are_due(served: Served, tmp_path: Path, protocol: Protocol) -> None:
    report, _ = run(
        served, tmp_path, OpenLoop(rate_rps=RATE, arrivals="constant", seconds=1.5), "digits", protocol=protocol
    )
    (window,) = report.windows
    assert (window.offered_rps, window.requests, window.failures, window.unsent) == (RATE, 1.5 * RATE, 0, 0)
    assert window.throughput_rps == pytest.approx(RATE, rel=0.05)
    assert window.server is not None
    assert window.server.requests == window.requests
    assert window.server.cores is not None
    assert 0.02 < window.server.cores < 2  # of the server's process and the model's
    assert window.server.resident_bytes is not None
    assert 20e6 < window.server.resident_bytes < 2e9  # of the model's
    rows = [row for row in pq.read_table(tmp_path / "requests.parquet").to_pylist() if row["pass"] == 1]
    due_s = np.array([row["due_s"] for row in rows])
    late_s = np.array([row["sent_s"] for row in rows]) - due_s
    np.testing.assert_allclose(np.sort(due_s), np.arange(0.5, 1.5 * RATE) / RATE, atol=1e-6)
    assert late_s.min() >= -1e-4
    assert np.median(late_s) < 0.002  # whole milliseconds would do nothing to help
    due_ms = (late_s + [row["latency_ms"] / 1000 for row in rows]) * 1000
    assert window.p99_ms == pytest.approx(np.percentile(due_ms, 99), abs=1e-3)


def test_mixed_traffic_has_a_row_for_each_variant_at_its_part_of_the_rate(served: Served, tmp_path: Path) -> None:
    load = OpenLoop(rate_rps=RATE, seconds=2, mixed=True, weights={"digits": 3})
    report, events = run(served, tmp_path, load, "digits", "rotated")
    digits, rotated = report.windows
    assert [event.kind for event in events] == ["accuracy", "accuracy", "window", "window"]
    assert {event.done for event in events[2:]} == {3}
    assert digits.requests + rotated.requests == pytest.approx(2 * RATE, abs=100)
    assert digits.requests / rotated.requests == pytest.approx(3, rel=0.4)
    for window in (digits, rotated):
        assert window.server is not None
        assert (window.server.requests, window.failures) == (window.requests, 0)
    assert digits.accuracy is not None
    assert digits.accuracy > 0.8
    assert rotated.accuracy is not None
    assert rotated.accuracy < 0.3  # each variant is judged by its own answers


def test_a_capacity_is_a_rate_that_was_held(served: Served, tmp_path: Path) -> None:
    search = CapacitySearch(p99_ms=50, seconds=0.5, probes=3)
    report, events = run(served, tmp_path, search, "digits")
    (found,) = report.capacity
    assert found.rate_rps is not None
    assert found.rate_rps > 50
    held = [window for window in report.windows if window.offered_rps == found.rate_rps]
    assert any(window.p99_ms is not None and window.p99_ms <= 50 and not window.failures for window in held)
    assert "requests/s hold p99 within 50 ms" in events[-1].message


def test_a_target_that_is_never_met_is_told(served: Served, tmp_path: Path) -> None:
    report, events = run(served, tmp_path, CapacitySearch(p99_ms=0.01, seconds=0.3, probes=2), "digits")
    (found,) = report.capacity
    assert found.rate_rps is None
    assert found.exceeded_rps is not None
    assert f"no rate holds p99 within 0.01 ms; even {found.exceeded_rps:.4g} requests/s do not" in events[-1].message


def test_more_than_a_server_can_do_is_left_unsent_and_told(served: Served, tmp_path: Path) -> None:
    report, events = run(served, tmp_path, OpenLoop(rate_rps=20_000, seconds=0.5, connections=2), "digits")
    (window,) = report.windows
    assert window.unsent > 0
    assert window.failures == window.unsent == window.reasons["not sent"]
    assert window.requests == pytest.approx(10_000, abs=500)
    assert window.seconds < 3  # it does not go on until the last one
    assert "all connections waiting" in events[-1].message


@pytest.mark.parametrize("protocol", ["http", "grpc", "raw"])
def test_the_generators_ceiling_is_measured_told_and_counted_against(
    served: Served, tmp_path: Path, protocol: Protocol
) -> None:
    kept = tmp_path / "ceilings.json"
    load = ClosedLoop(users=(4,), seconds=0.3)
    report, events = run(served, tmp_path / "one", load, "digits", protocol=protocol, ceilings=kept)
    (ceiling,), (window,) = report.ceilings, report.windows
    assert Ceilings.model_validate_json(kept.read_bytes()).rows == (ceiling,)
    assert ceiling.rps > 500
    assert f"can send {ceiling.rps:,.0f} requests/s over " in events[0].message
    assert (events[0].kind, events[0].done) == ("note", 0)
    assert window.generator_share == pytest.approx(window.requests / window.seconds / ceiling.rps)
    # Remembered: with one that is lower than what is sent, the whole run is beyond it.
    low = ceiling.model_copy(update={"rps": 10.0})
    kept.write_bytes(Ceilings(rows=(low,)).to_json())
    again, events = run(served, tmp_path / "two", load, "digits", protocol=protocol, ceilings=kept)
    assert again.ceilings == (low,)
    assert again.windows[0].generator_share is not None
    assert again.windows[0].generator_share > 1
    assert f"the load generator was at {again.windows[0].generator_share:.0%} of what it can send" in events[-1].message
