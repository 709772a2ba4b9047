"""What kills or stops the server or its parts from outside, and what must happen then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server.errors import AnswerError, GaveUpError, NoAnswerError
from server.options import ServeOptions
from server.probe import Probe
from server.stubs import Stub, find_stubs
from server.supervisor import Server
from tests.integration.server_fixtures import (
    leaves_nothing,
    linear,
    make_config,
    onnx_bytes,
    processes_of,
    regions,
    rows,
    wait_for,
    write_goldens,
    write_model,
    write_onnx,
    write_openvino,
)

DEADLINE_S = 20.0
ENSEMBLE = """
platform: "ensemble"
max_batch_size: 8
input [{ name: "x", data_type: TYPE_FP32, dims: [4] }]
output [{ name: "y", data_type: TYPE_FP32, dims: [3] }]
ensemble_scheduling { step [{
  model_name: "one", model_version: -1
  input_map [{ key: "x", value: "x" }]
  output_map [{ key: "y", value: "y" }]
}] }
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models with goldens."""
    folder = tmp_path_factory.mktemp("repository")
    write_goldens(write_onnx(folder, "one"))
    write_goldens(write_openvino(folder, "two"))
    return folder


@pytest.fixture
def told() -> list[str]:
    """What the server says."""
    return []


@pytest.fixture
def server(repository: Path, tmp_path: Path, told: list[str]) -> Iterator[Server]:
    """A running server, which must leave nothing behind, whatever was done to it."""
    with Server(ServeOptions(repository, run_dir=tmp_path, hang_timeout_s=2, exit_timeout_s=1), told.append) as running:
        yield running
    assert leaves_nothing(running)


def answers(server: Server, model: str) -> bool:
    """Whether a model answers, rightly."""
    host, _, port = server.http_url.partition(":")
    try:
        answer = Probe(host, int(port)).infer(model, 1, {"x": rows(3)}, ("y",))["y"]
    except (AnswerError, NoAnswerError):
        return False
    return bool((answer == linear(rows(3))).all())


def all_ready(server: Server) -> bool:
    """Whether every model is said to be ready."""
    return all(state.ready and state.golden for state in server.models)


def stub_of(server: Server, model: str) -> Stub:
    """The process of a model's only instance."""
    (stub,) = [stub for stub in find_stubs(server.shm_prefix) if stub.model == model]
    return stub


def test_a_killed_server_comes_back_at_the_same_address(server: Server, told: list[str]) -> None:
    old_pid, address, old_regions = server.pid, server.http_url, regions(server.shm_prefix)
    os.kill(old_pid, signal.SIGKILL)
    wait_for(
        lambda: server.restarts == 1 and answers(server, "one") and answers(server, "two"), "it answers", DEADLINE_S
    )
    wait_for(lambda: all_ready(server), "it is said to be ready", DEADLINE_S)
    assert (server.http_url, server.pid != old_pid) == (address, True)
    assert "the server died (killed by signal 9); it is started again" in told
    assert len(regions(server.shm_prefix)) == len(old_regions) == 3  # two stubs and the lock: the dead ones' are gone
    assert len(regions(server.shm_prefix) & old_regions) == 1
    assert len(processes_of(server.shm_prefix)) == 3


def test_a_killed_server_comes_back_again_and_again(server: Server) -> None:
    for count in (1, 2, 3):
        os.kill(server.pid, signal.SIGKILL)
        wait_for(lambda count=count: server.restarts == count and answers(server, "one"), f"{count}", DEADLINE_S)  # type: ignore[misc]
    assert server.restarts == 3
    wait_for(lambda: answers(server, "two"), "two answers as well", DEADLINE_S)
    wait_for(lambda: all_ready(server), "both are said to be ready", DEADLINE_S)


@pytest.mark.parametrize("moment", ["Triton", "one version 1 is ready", "two version 1 is ready"])
def test_a_server_killed_while_it_comes_up_comes_back(repository: Path, tmp_path: Path, moment: str) -> None:
    """Killed by whoever is told of a step of its start: the server is then dying while the next step is tried."""
    killed: list[int] = []

    def tell(sentence: str) -> None:
        if sentence.startswith(moment) and server.restarts > len(killed) and len(killed) < 3:
            killed.append(server.pid)
            os.kill(server.pid, signal.SIGKILL)

    server = Server(ServeOptions(repository, run_dir=tmp_path, exit_timeout_s=1), tell)
    server.start()
    os.kill(server.pid, signal.SIGKILL)
    # Answers first: the dead life's models are said to be ready until the next life begins.
    wait_for(
        lambda: server.restarts == 4 and answers(server, "one") and answers(server, "two"), "it answers after all", 60
    )
    wait_for(lambda: all_ready(server), "both models are said to be ready", 60)
    assert len(killed) == 3
    server.stop()
    assert leaves_nothing(server)


def test_a_killed_stub_comes_back_and_the_other_model_is_not_touched(server: Server, told: list[str]) -> None:
    pid, dead, untouched = server.pid, stub_of(server, "one"), stub_of(server, "two")
    os.kill(dead.pid, signal.SIGKILL)
    wait_for(lambda: server.reloads == 1 and all_ready(server), "it is loaded again", DEADLINE_S)
    assert answers(server, "one") and answers(server, "two")
    assert (server.pid, server.restarts, stub_of(server, "two")) == (pid, 0, untouched)
    assert dead.region not in regions(server.shm_prefix) and len(regions(server.shm_prefix)) == 3
    assert f"one is NOT ready: its process {dead.pid} died; it is loaded again" in told
    assert told[-1] == "one version 1 is ready: its golden answers are right"


def test_the_step_of_an_ensemble_is_tended_though_nobody_named_it(tmp_path: Path, told: list[str]) -> None:
    write_goldens(write_onnx(tmp_path, "one"))
    ensemble = tmp_path / "whole"
    (ensemble / "1").mkdir(parents=True)
    (ensemble / "config.pbtxt").write_text(ENSEMBLE)
    options = ServeOptions(tmp_path, run_dir=tmp_path / "run", models=("whole",), exit_timeout_s=1)
    with Server(options, told.append) as server:
        assert {state.name: state.ready for state in server.models} == {"one": True, "whole": True}
        os.kill(stub_of(server, "one").pid, signal.SIGKILL)
        wait_for(lambda: server.reloads == 1 and answers(server, "one"), "it is loaded again", DEADLINE_S)
        assert answers(server, "whole")
    assert leaves_nothing(server)


def test_all_stubs_killed_at_once_come_back(server: Server) -> None:
    for model in ("one", "two"):
        os.kill(stub_of(server, model).pid, signal.SIGKILL)
    wait_for(lambda: server.reloads == 2 and all_ready(server), "both are loaded again", DEADLINE_S)
    assert answers(server, "one") and answers(server, "two")
    assert len(regions(server.shm_prefix)) == 3


def test_a_server_that_hangs_is_replaced(server: Server, told: list[str]) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    wait_for(lambda: server.restarts == 1 and answers(server, "one"), "it answers", DEADLINE_S)
    assert "the server hung: it did not answer for 2 s; it is started again" in told


def test_a_stub_that_hangs_is_found_by_its_goldens(repository: Path, tmp_path: Path, told: list[str]) -> None:
    options = ServeOptions(repository, run_dir=tmp_path, golden_interval_s=0.5, exit_timeout_s=1)
    with Server(options, told.append) as server:
        stub = stub_of(server, "two")
        os.kill(stub.pid, signal.SIGSTOP)
        wait_for(lambda: server.reloads == 1 and all_ready(server), "it is loaded again", 60)
        assert answers(server, "two") and not stub.alive
    assert leaves_nothing(server)


def test_a_server_that_dies_too_often_is_given_up(repository: Path, tmp_path: Path) -> None:
    server = Server(ServeOptions(repository, run_dir=tmp_path, restart_limit=1, exit_timeout_s=1))
    server.start()
    os.kill(server.pid, signal.SIGKILL)
    wait_for(lambda: server.restarts == 1 and answers(server, "one"), "it answers", DEADLINE_S)
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(GaveUpError, match=r"ended 2 times within 300 s.*killed by signal 9.*its log is .*triton.log"):
        wait_for(server.ended, "it gives up", DEADLINE_S)
    with pytest.raises(GaveUpError):
        server.stop()
    assert leaves_nothing(server)


def test_a_model_that_dies_too_often_is_given_up_and_the_others_served(repository: Path, tmp_path: Path) -> None:
    with Server(ServeOptions(repository, run_dir=tmp_path, restart_limit=1, exit_timeout_s=1)) as server:
        os.kill(stub_of(server, "one").pid, signal.SIGKILL)
        wait_for(lambda: server.reloads == 1 and all_ready(server), "it is loaded again", DEADLINE_S)
        os.kill(stub_of(server, "one").pid, signal.SIGKILL)
        wait_for(lambda: not all_ready(server), "it is given up", DEADLINE_S)
        (reason,) = [state.reason for state in server.models if state.name == "one"]
        assert reason.startswith("given up after 1 reloads within 300 s: its process ")
        assert answers(server, "two") and not answers(server, "one")
        assert len(regions(server.shm_prefix)) == 2


def test_when_the_last_model_is_given_up_so_is_the_server(repository: Path, tmp_path: Path) -> None:
    server = Server(ServeOptions(repository, run_dir=tmp_path, restart_limit=0, models=("one",)))
    server.start()
    os.kill(stub_of(server, "one").pid, signal.SIGKILL)
    with pytest.raises(GaveUpError, match="no model is left that could be served; one: given up"):
        wait_for(server.ended, "it gives up", DEADLINE_S)
    assert leaves_nothing(server)


def test_stopping_with_a_dead_stub_takes_no_longer_than_it_may(repository: Path, tmp_path: Path) -> None:
    server = Server(ServeOptions(repository, run_dir=tmp_path, exit_timeout_s=3))
    server.start()
    os.kill(stub_of(server, "one").pid, signal.SIGKILL)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 10
    assert leaves_nothing(server)


PARENT = """
import sys
from pathlib import Path
from server.options import ServeOptions
from server.supervisor import Server
with Server(ServeOptions(Path(sys.argv[1]), run_dir=Path(sys.argv[2]))) as server:
    print(server.shm_prefix, flush=True)
    sys.stdin.read()
"""


def test_when_the_parent_is_killed_the_server_goes_too(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(repository), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        prefix = parent.stdout.readline().strip()
        assert len(processes_of(prefix)) == 3
        parent.kill()
    wait_for(lambda: not processes_of(prefix), "server and stubs are gone", 60)
    temporary = list(Path(tempfile.gettempdir()).glob(f"{prefix}*"))
    assert regions(prefix) and temporary  # nobody was there to remove them
    with Server(ServeOptions(repository, run_dir=tmp_path, exit_timeout_s=1)):
        assert not regions(prefix) and not temporary[0].exists()  # the next start does


def test_a_model_that_is_only_busy_is_not_loaded_again(tmp_path: Path) -> None:
    config = make_config("busy", "onnxruntime")
    config.dynamic_batching.default_queue_policy.max_queue_size = 1
    version = write_model(tmp_path, config, lambda folder: _write(folder / "model.onnx", onnx_bytes()))
    write_goldens(version)
    options = ServeOptions(tmp_path, run_dir=tmp_path.with_name("run"), golden_interval_s=0.05, exit_timeout_s=1)
    refused: list[int] = []

    def ask(seed: int) -> None:
        try:
            assert (probe.infer("busy", 1, {"x": rows(8, seed)}, ("y",))["y"] == linear(rows(8, seed))).all()
        except AnswerError as error:
            refused.append(error.status)

    with Server(options) as server, ThreadPoolExecutor(16) as pool:
        host, _, port = server.http_url.partition(":")
        probe = Probe(host, int(port))
        list(pool.map(ask, range(2000)))
        assert set(refused) == {503}  # its queue was full
        assert (server.reloads, all_ready(server)) == (0, True)


FORKING = """
import os, time
import triton_python_backend_utils as triton

class TritonPythonModel:
    def initialize(self, args):
        if os.fork() == 0:
            time.sleep(1)
            os._exit(0)

    def execute(self, requests):
        return [triton.InferenceResponse([triton.Tensor("y", r.inputs()[0].as_numpy()[:, :3])]) for r in requests]
"""


def test_a_child_process_of_a_stub_is_no_stub(tmp_path: Path) -> None:
    config = make_config("forking", "python")
    write_model(tmp_path, config, lambda folder: _write(folder / "model.py", FORKING.encode()))
    options = ServeOptions(tmp_path, run_dir=tmp_path.with_name("run"), exit_timeout_s=1)
    with Server(options) as server:
        assert len(processes_of(server.shm_prefix)) == 3
        wait_for(lambda: len(processes_of(server.shm_prefix)) == 2, "the child has ended")
        assert not server.ended(wait_s=1)  # long enough to notice a death
        assert server.reloads == 0


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
