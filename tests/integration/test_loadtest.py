"""Load tests of the real Triton: what is counted, judged and written, and how a run fails."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import loadtest
from client import InferenceClient
from client.transport import ProtocolName
from core.load_results import LoadReport, LoadWindow
from core.scenario import ClosedLoop, Scenario
from loadtest import GeneratorError, LoadEvent, LoadPlan, Target, run_plan, run_plans
from server.errors import GaveUpError
from server.options import ServeOptions
from server.supervisor import Server
from tests.integration.loadtest_fixtures import (
    IMAGES,
    SAMPLES,
    WEIGHTS,
    Served,
    digits,
    logits_of,
    write_digits_pack,
    write_model,
)
from tests.integration.server_fixtures import wait_for

PROTOCOLS: tuple[ProtocolName, ...] = ("http", "grpc")
LOCUSTFILE = Path(loadtest.__file__).parent / "locustfile.py"
ROTATED = IMAGES.reshape(SAMPLES, 16) @ np.roll(WEIGHTS, 1, axis=1)


def target(name: str, outputs: Path | None = None) -> Target:
    """The variant of a served model's name."""
    return Target(variant=name, triton_name=name, outputs=outputs)


def short_plan(
    served: Served,
    *targets: Target,
    users: tuple[int, ...] = (4,),
    passes: int = 1,
    protocol: ProtocolName = "http",
) -> LoadPlan:
    """A plan with short windows."""
    return LoadPlan(
        model="digits",
        url=served.url(protocol),
        protocol=protocol,
        pack=served.pack,
        targets=targets,
        scenario=Scenario(name="short", load=ClosedLoop(users=users, seconds=0.5), passes=passes, warmup_s=0.1),
        timeout_s=10,
    )


Rows = dict[tuple[str, str, int, int], list[dict[str, Any]]]


def read_rows(path: Path) -> Rows:
    """Raw rows by variant, protocol, users and pass."""
    rows = defaultdict(list)
    for row in pq.read_table(path).to_pylist():
        rows[row["variant"], row["protocol"], row["users"], row["pass"]].append(row)
    return dict(rows)


@dataclass(frozen=True)
class Ran:
    """A finished load test."""

    report: LoadReport
    events: list[LoadEvent]
    out: Path
    rows: Rows
    """Raw rows by variant, protocol, users and pass."""

    def rows_of(self, window: LoadWindow) -> list[dict[str, Any]]:
        """The raw rows of a window."""
        return self.rows[window.variant, window.protocol, window.users, window.pass_number]


@pytest.fixture(scope="module")
def ran(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """`digits` and `rotated` under 1 and 8 users, twice, over HTTP and then over gRPC."""
    out = tmp_path_factory.mktemp("loadtest")
    np.savez(out / "digits.npz", logits=logits_of(IMAGES))
    events: list[LoadEvent] = []
    targets = target("digits", out / "digits.npz"), target("rotated", out / "digits.npz")
    plans = [short_plan(served, *targets, users=(1, 8), passes=2, protocol=protocol) for protocol in PROTOCOLS]
    report = run_plans(plans, out, events.append, served.server.resident_bytes)
    return Ran(report, events, out, read_rows(out / "requests.parquet"))


def test_every_variant_level_and_pass_has_a_window(ran: Ran) -> None:
    windows = [(row.protocol, row.pass_number, row.users, row.variant) for row in ran.report.windows]
    assert set(windows) == set(itertools.product(PROTOCOLS, (1, 2), (1, 8), ("digits", "rotated")))
    assert len(windows) == 16


def test_no_request_fails_and_the_server_counted_the_same_requests(ran: Ran) -> None:
    for window in ran.report.windows:
        assert window.server is not None
        assert (window.failures, window.server.failures) == (0, 0)
        assert window.requests == window.server.requests > 50
        assert window.server.executions <= window.requests
        assert window.server.mean_batch == pytest.approx(window.requests / window.server.executions)
        assert sum(window.server.batches.values()) == window.server.executions
        assert sum(size * count for size, count in window.server.batches.items()) == window.requests


def test_one_user_never_shares_a_batch_and_eight_do(ran: Ran) -> None:
    batches = [(window.users, window.server.mean_batch) for window in ran.report.windows if window.server]
    assert [batch for users, batch in batches if users == 1] == [1.0] * 8
    assert min(batch for users, batch in batches if users == 8) > 1.0


def test_windows_last_as_long_as_planned_and_until_the_last_answer(ran: Ran) -> None:
    for window in ran.report.windows:
        rows = ran.rows_of(window)
        starts = [row["sent_s"] for row in rows]
        ends = [row["sent_s"] + row["latency_ms"] / 1000 for row in rows]
        assert min(starts) == 0
        assert max(starts) < 0.5
        assert window.seconds == pytest.approx(0.5, abs=0.2)
        assert window.seconds == pytest.approx(max(ends), abs=1e-4)
        assert window.throughput_rps == pytest.approx(len(rows) / window.seconds)


def test_percentiles_are_those_of_the_raw_rows(ran: Ran) -> None:
    for window in ran.report.windows:
        rows = ran.rows_of(window)
        latency_ms = [row["latency_ms"] for row in rows]
        assert len(rows) == window.requests
        expected = np.percentile(latency_ms, (50, 95, 99)).tolist()
        assert [window.p50_ms, window.p95_ms, window.p99_ms] == pytest.approx(expected, abs=1e-3)
        assert window.server is not None
        assert window.mean_ms is not None
        assert window.server.queue_ms + window.server.compute_ms < window.mean_ms


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_served_accuracy_is_exact(ran: Ran, protocol: str) -> None:
    (digits,) = [row for row in ran.report.accuracy if (row.variant, row.protocol) == ("digits", protocol)]
    assert digits.metric is not None
    assert (digits.samples, digits.failures, digits.metric.samples) == (SAMPLES, 0, SAMPLES)
    assert digits.metric.value == pytest.approx(0.9)  # every tenth label is wrong
    assert digits.agreement == 1.0
    rows = ran.rows["digits", protocol, 8, 0]
    assert len(rows) == SAMPLES
    assert sum(row["score"] for row in rows) == 0.9 * SAMPLES
    assert sorted(row["sample"] for row in rows) == list(range(SAMPLES))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_that_answers_wrongly_shows_it(ran: Ran, protocol: str) -> None:
    (rotated,) = [row for row in ran.report.accuracy if (row.variant, row.protocol) == ("rotated", protocol)]
    labels = logits_of(IMAGES).argmax(axis=1)
    agreement = float((ROTATED.argmax(axis=1) == labels).mean())  # by ties between classes it is not quite zero
    labels[::10] = (labels[::10] + 1) % 3
    assert rotated.metric is not None
    assert rotated.failures == 0
    assert rotated.metric.value == pytest.approx(float((ROTATED.argmax(axis=1) == labels).mean()))
    assert rotated.metric.value < 0.2
    assert rotated.agreement == pytest.approx(agreement)
    assert rotated.agreement < 0.1


def test_answers_are_checked_against_the_labels_in_every_window(ran: Ran) -> None:
    for window in ran.report.windows:
        assert window.accuracy is not None
        if window.variant == "digits":
            assert window.accuracy == pytest.approx(0.9, abs=0.05)
        else:
            assert window.accuracy < 0.25
        assert window.generator_cores is not None
        assert 0 < window.generator_cores < (1.1 if window.protocol == "http" else 2.0)  # gRPC has threads of its own


def test_progress_is_told_step_by_step(ran: Ran) -> None:
    assert [event.done for event in ran.events] == list(range(1, 21))
    assert {event.total for event in ran.events} == {20}
    assert [event.kind for event in ran.events] == (["accuracy"] * 2 + ["window"] * 8) * 2
    for event, name in ((ran.events[0], "HTTP"), (ran.events[10], "gRPC")):
        words = f"digits over {name}: top1 90.00%, 100.00% decided as in process, 200 samples, none failed"
        assert event.message == words


def test_the_report_lies_where_it_was_asked_for(ran: Ran, served: Served) -> None:
    assert LoadReport.model_validate_json((ran.out / "load.json").read_bytes()) == ran.report
    assert ran.report.model == "digits"
    assert ran.report.url == f"http://{served.http_url}, grpc://{served.grpc_url}"
    assert ran.report.server_version.startswith("2.")
    for protocol in PROTOCOLS:
        assert (ran.out / protocol / "loadtest.log").read_text() == ""
        assert not (ran.out / protocol / "requests.parquet").exists()


def test_the_memory_of_the_variants_that_were_loaded_is_reported(ran: Ran) -> None:
    assert set(ran.report.resident_bytes) == {"digits", "rotated"}  # and not that of other models of the server
    for held in ran.report.resident_bytes.values():
        assert 20e6 < held < 2e9  # a Python with ONNX Runtime and numpy


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_slow_variants_accuracy_is_measured_on_what_was_sent_in_time(
    served: Served, tmp_path: Path, protocol: ProtocolName
) -> None:
    events: list[LoadEvent] = []
    plan = short_plan(served, target("digits"), users=(1,), protocol=protocol)
    hasty = plan.model_copy(update={"accuracy_s": 0.01, "accuracy_users": 1})  # at some 0.5 ms a request
    report = run_plan(hasty, tmp_path, events.append)
    (row,) = report.accuracy
    assert row.metric is not None
    assert 0 < row.samples == row.metric.samples < SAMPLES
    assert f"over the first {row.samples} of 200 samples, since it is slow" in events[0].message


@pytest.mark.parametrize(("protocol", "reason"), [("http", "HTTP 503: "), ("grpc", "gRPC UNAVAILABLE: ")])
def test_requests_that_the_server_refuses_are_failures_with_their_reason(
    served: Served, tmp_path: Path, protocol: ProtocolName, reason: str
) -> None:
    events: list[LoadEvent] = []
    plan = short_plan(served, target("narrow"), users=(16,), protocol=protocol)
    report = run_plan(plan, tmp_path, events.append)
    (window,) = report.windows
    assert 0 < window.failures < window.requests
    assert f"failed, the first with {reason}" in events[1].message
    rows = read_rows(tmp_path / "requests.parquet")["narrow", protocol, 16, 1]
    assert len(rows) == window.requests
    assert [row["score"] is None for row in rows] == [row["reason"] == "rejected" for row in rows]
    assert sum(not row["ok"] for row in rows) == window.failures
    assert window.reasons == {"rejected": window.failures}
    assert window.throughput_rps == pytest.approx((window.requests - window.failures) / window.seconds)


def test_a_server_that_dies_under_load_ends_the_run_without_a_result(tmp_path: Path) -> None:
    write_model(tmp_path / "repository", "digits", digits(WEIGHTS), {})
    write_digits_pack(tmp_path / "pack", logits_of(IMAGES).argmax(axis=1))
    options = ServeOptions(
        repository=tmp_path / "repository", run_dir=tmp_path / "run", golden_interval_s=0, restart_limit=0
    )

    def kill(_: LoadEvent) -> None:
        os.killpg(server.pid, signal.SIGKILL)

    with pytest.raises(GaveUpError), Server(options) as server:  # it says so when it is left
        doomed = Served(server.http_url, server.grpc_url, tmp_path / "pack", server)
        words = r"^the server stopped answering when 1 of 2 parts .* were done: no server answers at 127.*half a run$"
        with pytest.raises(GeneratorError, match=words):
            run_plan(short_plan(doomed, target("digits"), protocol="grpc"), tmp_path / "out", kill)
        assert not (tmp_path / "out" / "load.json").exists()
        assert not (tmp_path / "out" / "requests.parquet").exists()
        wait_for(server.ended, "its death is noticed")  # stopped before that, it would just have been stopped


def unknown_model(served: Served, _: Path) -> LoadPlan:
    return short_plan(served, target("nope"))


def other_inputs(served: Served, _: Path) -> LoadPlan:
    return short_plan(served, target("pair"))


def no_pack(served: Served, folder: Path) -> LoadPlan:
    return short_plan(served, target("digits")).model_copy(update={"pack": folder})


def too_few_outputs(served: Served, folder: Path) -> LoadPlan:
    np.savez(folder / "few.npz", logits=logits_of(IMAGES[:3]))
    return short_plan(served, target("digits", folder / "few.npz"))


def no_server(served: Served, _: Path) -> LoadPlan:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"127.0.0.1:{listener.getsockname()[1]}"
    return short_plan(served, target("digits")).model_copy(update={"url": url})


def unknown_model_grpc(served: Served, _: Path) -> LoadPlan:
    return short_plan(served, target("nope"), protocol="grpc")


def no_server_grpc(served: Served, folder: Path) -> LoadPlan:
    return no_server(served, folder).model_copy(update={"protocol": "grpc"})


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (unknown_model, 7, "does not serve model 'nope'"),
        (other_inputs, 7, "model 'pair' takes left: int64"),
        (no_pack, 3, "holds no sample pack; build the model first"),
        (too_few_outputs, 8, r"few\.npz does not hold 'logits' for the pack's 200 samples"),
        (no_server, 7, "no server answers at 127"),
        (unknown_model_grpc, 7, "does not serve model 'nope'"),
        (no_server_grpc, 7, r"no server answers at 127.*is this its gRPC port"),
    ],
)
def test_a_run_that_cannot_be_made_says_why(
    served: Served, tmp_path: Path, make: Callable[[Served, Path], LoadPlan], code: int, message: str
) -> None:
    with pytest.raises(GeneratorError, match=message) as caught:
        run_plan(make(served, tmp_path), tmp_path / "out", lambda _: None)
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "load.json").exists()


def test_an_error_of_the_caller_ends_the_process(served: Served, tmp_path: Path) -> None:
    def interrupt(_: LoadEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(short_plan(served, target("digits")), tmp_path, interrupt)
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
    assert not [command for command in commands if str(tmp_path).encode() in command]


def locust(host: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Locust's own command line on our locustfile, for a second."""
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", host]
    options = ["--headless", "-u", "2", "-r", "2", "-t", "1s", "--stop-timeout", "5", "--only-summary"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("TRIDENT_")} | environment
    return subprocess.run([*command, *options], env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_locustfile_runs_headless(served: Served, protocol: str) -> None:
    with InferenceClient(served.http_url) as client:
        before = client.statistics("digits")
        host = f"{protocol}://{served.url(protocol)}"
        result = locust(host, TRIDENT_PACK=str(served.pack), TRIDENT_MODEL="digits")
        counted = client.statistics("digits") - before
    assert result.returncode == 0, result.stderr
    answers = f"top1 of the {counted.requests} answers under load: 0.9"
    assert counted.requests > 50
    assert answers in result.stderr or answers.replace("0.9", "0.8") in result.stderr, result.stderr


def test_the_locustfile_says_what_to_set(served: Served) -> None:
    result = locust(f"http://{served.http_url}", TRIDENT_MODEL="digits")
    assert result.returncode == 2
    assert "set TRIDENT_PACK to the folder of a sample pack" in result.stderr
    assert "Traceback" not in result.stderr
