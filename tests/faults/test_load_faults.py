"""What happens to the server while it is loaded, and what the load test says of it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from client import InferenceClient
from core.comparison import Summary
from core.errors import InferenceError
from core.load_results import LoadReport
from core.results import ModelBuild
from core.scenario import OpenLoop, Scenario
from loadtest import LoadEvent, LoadPlan, Target, run_plan
from server.errors import GaveUpError
from server.options import ServeOptions
from server.supervisor import Server
from tests.integration.loadtest_fixtures import (
    IMAGES,
    WEIGHTS,
    digits,
    logits_of,
    write_artifacts,
    write_digits_pack,
    write_model,
)
from tests.integration.server_fixtures import wait_for
from tests.support.command import trident

FROZEN_S = 1.0


def test_a_frozen_server_shows_in_the_corrected_latency_and_not_in_the_uncorrected(tmp_path: Path) -> None:
    """Four connections send 150 requests a second for 4 s. While the server stands still, each of them waits for one
    answer: 4 of 600 are seen to be slow, less than one in a hundred. The 150 that were due meanwhile are not sent."""
    write_model(tmp_path / "repository", "digits", digits(WEIGHTS), {})
    write_digits_pack(tmp_path / "pack", logits_of(IMAGES).argmax(axis=1))
    options = ServeOptions(repository=tmp_path / "repository", run_dir=tmp_path / "run", golden_interval_s=0)
    load = OpenLoop(rate_rps=150, arrivals="constant", seconds=4, connections=4)

    def freeze() -> None:
        os.killpg(server.pid, signal.SIGSTOP)
        time.sleep(FROZEN_S)  # this is the fault
        os.killpg(server.pid, signal.SIGCONT)

    def begin(event: LoadEvent) -> None:
        if event.kind == "accuracy":  # 0.2 s of warm-up follow, and then the window
            threading.Timer(2.0, freeze).start()

    with Server(options) as server:
        plan = LoadPlan(
            model="digits",
            url=server.http_url,
            pack=tmp_path / "pack",
            targets=(Target(variant="digits", triton_name="digits"),),
            scenario=Scenario(name="frozen", load=load, passes=1, warmup_s=0.1),
        )
        (window,) = run_plan(plan, tmp_path / "out", begin).windows
    assert (window.requests, window.failures) == (600, 0)
    assert window.p99_ms is not None
    assert window.p99_ms > 0.8 * FROZEN_S * 1000
    assert window.uncorrected_p99_ms is not None
    assert window.uncorrected_p99_ms < 0.1 * FROZEN_S * 1000


def brittle() -> onnx.GraphProto:
    """`digits`, but for images whose first pixel is 4: of those it looks up a row that its table does not have."""
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], axis=1),
        helper.make_node("Slice", ["flat", "zero", "one", "one"], ["pixel"]),
        helper.make_node("Cast", ["pixel"], ["row"], to=TensorProto.INT64),
        helper.make_node("GatherND", ["table", "row"], ["nothing"]),
        helper.make_node("MatMul", ["flat", "weights"], ["product"]),
        helper.make_node("Add", ["product", "nothing"], ["logits"]),
    ]
    constants = {"weights": WEIGHTS, "table": np.zeros((4, 3), np.float32), "zero": np.array([0]), "one": np.array([1])}
    return helper.make_graph(
        nodes,
        "brittle",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )


@dataclass(frozen=True)
class Place:
    """A server of `digits` and `brittle`, and the folder of artifacts for a load test of both."""

    url: str
    artifacts: Path

    def arguments(self, out: Path, *more: str) -> list[str]:
        """A short load test of this server."""
        given = ["loadtest", "digits", "--url", self.url, "--artifacts", str(self.artifacts), "--out", str(out)]
        return [*given, "--users", "4", "--seconds", "0.4", "--passes", "1", *more]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The server, for as long as nothing kills it."""
    root = tmp_path_factory.mktemp("faults")
    write_model(root / "repository", "digits", digits(WEIGHTS), {})
    write_model(root / "repository", "brittle", brittle(), {})
    write_digits_pack(root / "pack", logits_of(IMAGES).argmax(axis=1))
    write_artifacts(root / "artifacts", root / "pack", "digits", "brittle")
    options = ServeOptions(repository=root / "repository", run_dir=root / "run", golden_interval_s=0)
    with Server(options) as server:
        yield Place(server.http_url, root / "artifacts")


def results(out: Path) -> set[str]:
    """The files by which a load test would be judged, and whatever was left half-written."""
    wanted = {"load.json", "requests.parquet", "summary.json", "report.html"}
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.name in wanted or path.suffix == ".tmp"}


def test_a_server_that_is_not_there_is_told_in_a_sentence(place: Place, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = trident(*Place(f"127.0.0.1:{port}", place.artifacts).arguments(tmp_path))
    assert done.returncode == 7
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"trident loadtest: no server answers at 127.0.0.1:{port}")
    assert results(tmp_path) == set()


def test_errors_of_one_variant_are_its_own_and_nobody_is_judged_by_it(place: Place, tmp_path: Path) -> None:
    done = trident(*place.arguments(tmp_path, "--passes", "6", "--protocols", "http"))
    assert done.returncode == 8
    summary = Summary.model_validate_json((tmp_path / "summary.json").read_bytes())
    rows = {row.variant: row for row in summary.rows}
    assert rows["digits"].failures == 0
    assert rows["digits"].served_accuracy == 1.0
    failures = rows["brittle"].failures
    assert failures
    assert rows["brittle"].reasons.keys() == {"server error"}
    assert f"brittle: {failures} requests failed (server error: " in done.stdout
    assert f"trident loadtest: {failures} requests failed; see {tmp_path / 'requests.parquet'}" in done.stderr
    load = LoadReport.model_validate_json((tmp_path / "load.json").read_bytes())
    assert {row.verdict for row in load.contrasts} == {"none"}
    assert all("requests failed" in row.reason for row in load.contrasts)
    assert "Serve brittle" not in (tmp_path / "report.html").read_text()


def test_a_target_that_is_never_met_is_told(place: Place, tmp_path: Path) -> None:
    scenario = tmp_path / "strict.yaml"
    scenario.write_text("{load: {kind: capacity, p99_ms: 0.01, seconds: 0.2, probes: 1}, passes: 1, warmup_s: 0.1}")
    given = ["loadtest", "digits", "--url", place.url, "--artifacts", str(place.artifacts), "--out", str(tmp_path)]
    done = trident(*given, "--scenario", str(scenario), "--protocols", "http")
    assert "digits over HTTP: no rate holds p99 within 0.01 ms; even " in done.stdout
    (row,) = [
        row
        for row in Summary.model_validate_json((tmp_path / "summary.json").read_bytes()).rows
        if row.variant == "digits"
    ]
    assert (row.capacity_rps, row.throughput_rps, row.p99_ms) == (None, None, None)
    assert row.exceeded_rps is not None
    assert "No variant holds p99 within 0.01 ms at any rate" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("limit", "code", "words"),
    [
        pytest.param(
            6_000, 8, "the load test cannot be written to {out}/http/requests.parquet (File too large", id="raw rows"
        ),
        pytest.param(20_000, 5, "{out} cannot be written (File too large); make room there", id="report"),
    ],
)
def test_a_full_disk_is_told_and_leaves_no_half_result(
    place: Place, tmp_path: Path, limit: int, code: int, words: str
) -> None:
    """No file may grow beyond the limit: the kernel then refuses as it does where no room is left."""
    write_artifacts(tmp_path / "artifacts", place.artifacts / "digits", "digits")
    build = tmp_path / "artifacts" / "digits" / "build.json"
    told = ModelBuild.model_validate_json(build.read_bytes()).model_copy(update={"advice": ("much " * 4000,)})
    build.write_bytes(told.to_json())  # so that the report is larger than all else
    short = Place(place.url, tmp_path / "artifacts").arguments(tmp_path, "--protocols", "http", "--seconds", "0.02")
    command = [sys.executable, "-m", "trident.main", *short]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"trident loadtest: {words.format(out=tmp_path)}")
    assert "Traceback" not in done.stderr
    assert results(tmp_path) <= (
        {"load.json", "requests.parquet", "summary.json", "http/load.json"} if code == 5 else set()
    )


def test_a_server_that_dies_in_the_middle_leaves_no_result(place: Place, tmp_path: Path) -> None:
    write_model(tmp_path / "repository", "digits", digits(WEIGHTS), {})
    write_model(tmp_path / "repository", "brittle", digits(WEIGHTS), {})
    options = ServeOptions(
        repository=tmp_path / "repository", run_dir=tmp_path / "run", golden_interval_s=0, restart_limit=0
    )

    def kill_under_load() -> None:
        with InferenceClient(server.http_url) as client, contextlib.suppress(InferenceError):
            wait_for(lambda: client.statistics("brittle").requests > 250, "the load has begun")
        os.killpg(server.pid, signal.SIGKILL)

    with pytest.raises(GaveUpError), Server(options) as server:  # it says so when it is left
        killer = threading.Thread(target=kill_under_load)
        killer.start()
        done = trident(*Place(server.http_url, place.artifacts).arguments(tmp_path / "out", "--seconds", "2"))
        killer.join()
        wait_for(server.ended, "its death is noticed")
    assert done.returncode == 8
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("trident loadtest: the server stopped answering when ")
    assert "no server answers at" in last
    assert last.endswith("nothing is judged from half a run")
    assert results(tmp_path / "out") == set()
