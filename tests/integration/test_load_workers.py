"""Several load generator processes under Locust's master, and the metrics of a running load test, on a real Triton."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from core.load_results import LoadReport
from core.scenario import ClosedLoop, OpenLoop, Scenario
from loadtest import GeneratorError, LoadEvent, LoadPlan, Target, run_plan
from tests.integration.loadtest_fixtures import IMAGES, SAMPLES, Served, logits_of, write_artifacts, write_digits_pack
from tests.integration.server_fixtures import wait_for

CLOSED = ClosedLoop(users=(4,), seconds=0.5)


def plan_of(served: Served, load: ClosedLoop | OpenLoop = CLOSED, **changes: object) -> LoadPlan:
    """A load test of `digits`, once."""
    plan = LoadPlan(
        model="digits", url=served.http_url, pack=served.pack, timeout_s=10,
        targets=(Target(variant="digits", triton_name="digits"),),
        scenario=Scenario(name="test", load=load, passes=1, warmup_s=0.1),
    )  # fmt: skip
    return LoadPlan.model_validate(plan.model_dump() | changes)


def nothing(_: LoadEvent) -> None:
    """Takes no notice."""


def workers_of(pid: int) -> list[psutil.Process]:
    """The worker processes below a process."""
    below = psutil.Process(pid).children(recursive=True)
    return [child for child in below if "loadtest.worker" in child.cmdline()]


def checked(report: LoadReport, out: Path) -> None:
    """No sample was sent twice or left out, and the server counted what is in the rows."""
    (served,), (window,) = report.accuracy, report.windows
    assert (served.samples, served.failures) == (SAMPLES, 0)
    assert served.metric is not None
    assert served.metric.value == pytest.approx(0.9)
    rows = pq.read_table(out / "requests.parquet").to_pylist()
    assert sorted(row["sample"] for row in rows if row["pass"] == 0) == list(range(SAMPLES))
    assert window.server is not None
    assert sum(row["pass"] == 1 for row in rows) == window.requests == window.server.requests > 50
    assert window.failures == 0


def test_two_processes_share_the_work_keep_the_schedule_and_their_rows_are_joined(
    served: Served, tmp_path: Path
) -> None:
    seen: list[psutil.Process] = []

    def look(_: LoadEvent) -> None:
        seen.extend(workers_of(os.getpid()))

    load = OpenLoop(rate_rps=200, arrivals="constant", seconds=1.5)
    plan = plan_of(served, load, processes=2, protocol="grpc", url=served.grpc_url)
    report = run_plan(plan, tmp_path, look)
    checked(report, tmp_path)
    assert report.processes == 2
    assert len({worker.pid for worker in seen}) == 2
    assert not any(worker.is_running() for worker in seen)
    (window,) = report.windows
    assert window.generator_cores is not None
    assert window.generator_cores > 0
    rows = [row for row in pq.read_table(tmp_path / "requests.parquet").to_pylist() if row["pass"] == 1]
    due_s = np.sort([row["due_s"] for row in rows])
    np.testing.assert_allclose(due_s, np.arange(0.5, 300) / 200, atol=0.05)  # two clocks begin when they are told to
    late_s = np.array([row["sent_s"] - row["due_s"] for row in rows])
    assert late_s.min() >= -1e-4
    assert np.median(late_s) < 0.005


def test_a_worker_of_another_host_takes_part_and_one_with_other_samples_does_not(
    served: Served, tmp_path: Path
) -> None:
    """It is this host here; what tells a worker apart is that the master did not start it."""

    def run(pack: Path, out: Path) -> LoadReport:
        write_artifacts(out / "artifacts", pack, "digits")
        command = [sys.executable, "-m", "trident.main", "loadtest", "digits", "--artifacts", str(out / "artifacts")]
        with subprocess.Popen([*command, "--worker", "--master-port", "15557"], stderr=subprocess.PIPE) as worker:
            try:
                return run_plan(plan_of(served, expect_workers=1, master_port=15557), out, nothing)
            finally:
                worker.terminate()
                _, words = worker.communicate()
                assert b"waiting for the load test at 127.0.0.1:15557" in words

    report = run(served.pack, tmp_path / "joined")
    checked(report, tmp_path / "joined")
    assert report.processes == 2  # one here, one there
    write_digits_pack(tmp_path / "pack", logits_of(IMAGES).argmax(axis=1))
    with pytest.raises(GeneratorError, match=r"cannot take part: its sample pack is another than the master's"):
        run(tmp_path / "pack", tmp_path / "other")
    assert not (tmp_path / "other" / "load.json").exists()

    def left() -> list[psutil.Process]:
        return [one for one in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(one.info["cmdline"] or [])]

    wait_for(lambda: not left(), "the workers see that whoever started them has gone")


def test_nothing_is_judged_without_a_worker_that_was_lost(served: Served, tmp_path: Path) -> None:
    def kill(event: LoadEvent) -> None:
        if event.kind == "accuracy":
            workers_of(os.getpid())[0].send_signal(signal.SIGKILL)

    plan = plan_of(served, ClosedLoop(users=(4,), seconds=3), processes=2)
    with pytest.raises(GeneratorError, match=r"a worker of the load generator was lost .*nothing is judged"):
        run_plan(plan, tmp_path, kill)
    assert not (tmp_path / "load.json").exists()
    assert not (tmp_path / "requests.parquet").exists()
    wait_for(lambda: not workers_of(os.getpid()), "the other worker ends")


def listened() -> set[str]:
    """The addresses on which this process's load test listens."""
    tests = [child for child in psutil.Process().children() if "loadtest" in child.cmdline()]
    return {one.laddr.ip for test in tests for one in test.net_connections() if one.status == psutil.CONN_LISTEN}


def scrape(url: str) -> dict[tuple[str, str], float]:
    """Sample name and the first label's value -> the sample's value."""
    text = urllib.request.urlopen(url, timeout=5).read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, next(iter(sample.labels.values()))): sample.value for sample in samples}


def test_prometheus_sees_the_test_while_it_runs(served: Served, tmp_path: Path) -> None:
    found: list[dict[tuple[str, str], float]] = []
    urls: list[str] = []
    listening: set[str] = set()

    def ask(event: LoadEvent) -> None:
        if event.kind == "note":
            urls.append(event.message.removeprefix("metrics while it runs: "))
            listening.update(listened())
        elif event.done < event.total:  # after the last part it goes away
            found.append(scrape(urls[0]))

    report = run_plan(plan_of(served, ClosedLoop(users=(2, 4), seconds=0.5), metrics_port=0), tmp_path, ask)
    assert urls[0].startswith("http://127.0.0.1:")
    assert listening == {"127.0.0.1"}
    after_accuracy, after_first = found[0], found[1]
    ok = ("trident_loadtest_requests_total", "ok")
    assert after_accuracy[ok] >= SAMPLES
    assert after_first[ok] >= SAMPLES + report.windows[0].requests
    assert after_first["trident_loadtest_latency_seconds_count", "http"] == after_first[ok]
    assert after_first["trident_loadtest_latency_seconds_bucket", "+Inf"] == after_first[ok]
    assert 0 < after_first["trident_loadtest_latency_seconds_bucket", "0.005"] <= after_first[ok]
    assert after_first["trident_loadtest_latency_seconds_sum", "http"] > 0
    assert after_first["trident_loadtest_parts_done", "http"] in (1, 2)
    assert after_first["trident_loadtest_parts", "http"] == 3
    with pytest.raises(OSError, match="refused"):
        scrape(urls[0])


def taken(served: Served) -> dict[str, object]:
    return {"metrics_port": int(served.http_url.rpartition(":")[2])}


def taken_by_master(served: Served) -> dict[str, object]:
    return {"processes": 2, "master_port": int(served.http_url.rpartition(":")[2])}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (taken, r"the metrics cannot be served at 127.0.0.1:\d+ \(Address already in use\); .*--metrics-port"),
        (taken_by_master, r"workers cannot be awaited at 127.0.0.1:\d+ .*--master-bind-port"),
    ],
)
def test_a_port_that_is_taken_is_told(
    served: Served, tmp_path: Path, make: Callable[[Served], dict[str, object]], words: str
) -> None:
    with pytest.raises(GeneratorError, match=words) as caught:
        run_plan(plan_of(served, **make(served)), tmp_path, nothing)
    assert "Traceback" not in str(caught.value)
