"""Starting and stopping the real server: what is ready, what is not and why, and that nothing stays behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tritonclient.grpc import model_config_pb2

from server.errors import NothingToServeError, PortError, StartError
from server.options import ModelState, ServeOptions
from server.ports import reserve
from server.probe import Probe
from server.supervisor import Server
from tests.integration.server_fixtures import (
    leaves_nothing,
    linear,
    make_config,
    onnx_bytes,
    openvino_files,
    passport,
    processes_of,
    regions,
    rows,
    torchscript_file,
    wait_for,
    write_goldens,
    write_model,
    write_onnx,
    write_openvino,
)

FOREGROUND = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from core.errors import ServerError
from server.foreground import serve
from server.options import ServeOptions
options = ServeOptions(Path(sys.argv[1]), run_dir=Path(sys.argv[2]), http_port=int(sys.argv[3]))
try:
    serve(
        options,
        lambda sentence: print(sentence, flush=True),
        lambda server: print("UP", server.http_url, server.shm_prefix, flush=True),
    )
except ServerError as error:
    print("ERROR", error, flush=True)
    sys.exit(error.exit_code)
"""


def start_foreground(repository: Path, run_dir: Path, port: int = 0) -> subprocess.Popen[str]:
    """The server as a program of its own, in its own session so that a signal meets it alone."""
    command = [sys.executable, "-c", FOREGROUND, str(repository), str(run_dir), str(port)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """The output up to the first line with `word`."""
    assert process.stdout
    seen = ""
    for line in process.stdout:
        seen += line
        if word in line:
            return seen
    raise AssertionError(f"ended without saying {word!r}: {seen}")


def _state(server: Server, name: str) -> ModelState:
    return next(state for state in server.models if state.name == name)


def _infer(server: Server, model: str) -> bool:
    host, _, port = server.http_url.partition(":")
    answer = Probe(host, int(port)).infer(model, 1, {"x": rows(2)}, ("y",))["y"]
    return bool((answer == linear(rows(2))).all())


def test_stop_leaves_nothing(tmp_path: Path) -> None:
    write_onnx(tmp_path / "repository", "one")
    told: list[str] = []
    with Server(ServeOptions(tmp_path / "repository", run_dir=tmp_path / "run"), told.append) as server:
        words = Path(f"/proc/{server.pid}/cmdline").read_text().split("\0")
        (root,) = [Path(word.partition("=")[2]).parent for word in words if word.startswith("--backend-directory=")]
        assert root.is_dir()
        assert len(processes_of(server.shm_prefix)) == 2  # server and stub
        assert len(regions(server.shm_prefix)) == 2  # the stub's and the lock
    assert leaves_nothing(server)
    assert not root.exists()
    assert told == [
        "Triton 2.51.0 is up; 1 models to load",
        "one version 1 is ready: it has no golden answers to be checked",
    ]
    assert "successfully unloaded 'one'" in (tmp_path / "run" / "triton.log").read_text()


def test_the_runtimes_write_nothing_home_and_start_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    write_onnx(tmp_path / "repository", "one")
    write_openvino(tmp_path / "repository", "two")
    with Server(ServeOptions(tmp_path / "repository", run_dir=tmp_path / "run", exit_timeout_s=1)) as server:
        assert _infer(server, "one") and _infer(server, "two")
        assert len(processes_of(server.shm_prefix)) == 3
    assert list(home.rglob("*")) == []


SLOW = """
import pathlib
import time
import numpy as np
import triton_python_backend_utils as triton

class TritonPythonModel:
    def initialize(self, args):
        self.began = pathlib.Path(args["model_repository"], "began")

    def execute(self, requests):
        self.began.touch()
        time.sleep(2)
        return [triton.InferenceResponse([triton.Tensor("y", np.ones((1, 3), np.float32))]) for _ in requests]
"""


def test_stop_lets_a_running_request_finish(tmp_path: Path) -> None:
    config = make_config("slow", "python")  # the repository's own Python models are served too
    write_model(tmp_path, config, lambda folder: _write(folder / "model.py", SLOW.encode()))
    with ThreadPoolExecutor(1) as pool:
        with Server(ServeOptions(tmp_path, run_dir=tmp_path.with_name("run"))) as server:
            host, _, port = server.http_url.partition(":")
            probe = Probe(host, int(port))
            asked = pool.submit(probe.infer, "slow", 1, {"x": rows(1)}, ("y",))
            wait_for((tmp_path / "slow" / "began").exists, "the request is in the model")
        assert asked.result()["y"].tolist() == [[1, 1, 1]]


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def test_given_ports_are_used(tmp_path: Path) -> None:
    write_onnx(tmp_path, "one")
    http, grpc, metrics = reserve("127.0.0.1", (0, 0, 0))
    options = ServeOptions(tmp_path, http, grpc, metrics, tmp_path.with_name("run"), exit_timeout_s=1)
    with Server(options) as server:
        assert server.http_url == f"127.0.0.1:{http}"
        assert server.grpc_url == f"127.0.0.1:{grpc}"
        assert server.metrics_url == f"127.0.0.1:{metrics}"
        assert _infer(server, "one")


def test_two_servers_side_by_side(tmp_path: Path) -> None:
    write_onnx(tmp_path / "a", "one")
    write_onnx(tmp_path / "b", "one")
    with Server(ServeOptions(tmp_path / "a", run_dir=tmp_path / "run_a", exit_timeout_s=1)) as a:
        with Server(ServeOptions(tmp_path / "b", run_dir=tmp_path / "run_b", exit_timeout_s=1)) as b:
            assert _infer(b, "one")
        assert _infer(a, "one")  # the other's end took nothing from it


def test_only_the_models_asked_for(tmp_path: Path) -> None:
    write_onnx(tmp_path, "one")
    write_onnx(tmp_path, "two")
    with Server(ServeOptions(tmp_path, models=("two",), run_dir=tmp_path.with_name("run"), exit_timeout_s=1)) as server:
        assert [state.name for state in server.models] == ["two"]
        assert _infer(server, "two")


def _break_models(repository: Path) -> dict[str, str]:
    """Models that are broken each in its own way, and what must be said of each."""
    write_goldens(write_onnx(repository, "golden_wrong"), shift=1.0)
    write_goldens(write_onnx(repository, "golden_damaged"))
    (repository / "golden_damaged" / "1" / "golden.npz").write_bytes(b"no archive")
    write_goldens(write_onnx(repository, "golden_of_another"))
    other = passport().model_copy(update={"golden_tolerance": {"z": 1.0}})
    (repository / "golden_of_another" / "1" / "passport.json").write_bytes(other.to_json())
    write_goldens(write_onnx(repository, "passport_damaged"))
    (repository / "passport_damaged" / "1" / "passport.json").write_text("{")
    (write_onnx(repository, "onnx_missing") / "model.onnx").unlink()
    (write_onnx(repository, "onnx_corrupt") / "model.onnx").write_bytes(onnx_bytes()[:40])
    (write_openvino(repository, "openvino_no_weights") / "model.bin").write_bytes(b"")
    (write_openvino(repository, "openvino_corrupt") / "model.xml").write_text("<net/>")
    shutil.rmtree(write_onnx(repository, "no_version"))
    (write_onnx(repository, "config_corrupt").parent / "config.pbtxt").write_text("max_batch_size: many")
    config = make_config("other_names", "onnxruntime")
    config.output[0].name = "q"
    write_model(repository, config, lambda folder: _write(folder / "model.onnx", onnx_bytes()))
    config = make_config("bad_threads", "openvino", INFERENCE_NUM_THREADS="many")
    write_model(repository, config, openvino_files)
    write_model(
        repository, make_config("no_backend", "nothing"), lambda folder: _write(folder / "model.onnx", onnx_bytes())
    )
    return {
        "golden_wrong": "its output y differs from the published answers by up to 1, and 0.001 is allowed",
        "golden_damaged": "golden.npz cannot be read as an .npz archive",
        "golden_of_another": "do not describe the same outputs; publish the model again",
        "passport_damaged": "passport.json cannot be read; publish the model again",
        "onnx_missing": f"{repository}/onnx_missing/1/model.onnx is missing; publish the model again",
        "onnx_corrupt": f"{repository}/onnx_corrupt/1/model.onnx cannot be loaded: [ONNXRuntimeError]",
        "openvino_no_weights": "openvino_no_weights/1/model.xml cannot be loaded: ",
        "openvino_corrupt": "openvino_corrupt/1/model.xml cannot be loaded: Unable to read the model",
        "no_version": "no_version",
        "config_corrupt": "failed to poll from model repository",
        "other_names": "config.pbtxt names the output q, but the file has y",
        "bad_threads": "parameter INFERENCE_NUM_THREADS is 'many' and must be a whole number from 1 up",
        "no_backend": "unable to find backend library for backend 'nothing'",
    }


def test_broken_models_are_reported_and_the_others_served(tmp_path: Path) -> None:
    expected = _break_models(tmp_path)
    write_goldens(write_onnx(tmp_path, "good"))
    with Server(ServeOptions(tmp_path, run_dir=tmp_path.with_name("run"), exit_timeout_s=1)) as server:
        assert _state(server, "good") == ModelState("good", 1, True, True, "")
        assert _infer(server, "good")
        host, _, port = server.http_url.partition(":")
        probe = Probe(host, int(port))
        for name, reason in expected.items():
            state = _state(server, name)
            assert not state.ready and reason in state.reason and "\n" not in state.reason, state
            assert state.golden is (False if "golden" in name or "passport" in name else None)
            with pytest.raises(Exception, match=r"unknown model|not ready|not found"):
                probe.infer(name, 1, {"x": rows(1)}, ("y",))
    assert leaves_nothing(server)


def test_broken_torchscript_is_reported(tmp_path: Path) -> None:
    config = make_config("torch_two_outputs", "pytorch")
    config.output.add(name="z", data_type=model_config_pb2.TYPE_FP32, dims=[3])
    write_model(tmp_path, config, lambda folder: torchscript_file(folder / "model.pt"))
    write_goldens(tmp_path / "torch_two_outputs" / "1")
    write_model(
        tmp_path, make_config("torch_corrupt", "pytorch"), lambda folder: _write(folder / "model.pt", b"garbage")
    )
    with pytest.raises(StartError) as caught:
        Server(ServeOptions(tmp_path, run_dir=tmp_path.with_name("run"))).start()
    assert "torch_corrupt/1/model.pt cannot be loaded: PytorchStreamReader failed reading zip archive" in str(
        caught.value
    )
    assert "config.pbtxt names the output z, which the script does not return" in str(caught.value)


def test_no_model_at_all_is_an_error(tmp_path: Path) -> None:
    (write_onnx(tmp_path, "one") / "model.onnx").unlink()
    server = Server(ServeOptions(tmp_path, run_dir=tmp_path.with_name("run")))
    with pytest.raises(
        StartError, match=r"no model could be served; one: .*model.onnx is missing.*log is .*triton.log"
    ):
        server.start()
    assert leaves_nothing(server)


@pytest.mark.parametrize("wanted", [(), ("nobody",)])
def test_an_empty_repository_or_unknown_model_is_an_error(tmp_path: Path, wanted: tuple[str, ...]) -> None:
    if wanted:
        write_onnx(tmp_path, "one")
    with pytest.raises(NothingToServeError, match=r"make build-repo|it holds one"):
        Server(ServeOptions(tmp_path, models=wanted, run_dir=tmp_path.with_name("run"))).start()


def test_a_run_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    write_onnx(tmp_path, "one")
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"Not a directory: .*file/run"):
        Server(ServeOptions(tmp_path, run_dir=tmp_path / "file" / "run")).start()


@pytest.mark.parametrize("which", ["http_port", "grpc_port", "metrics_port"])
def test_a_busy_port_is_an_error(tmp_path: Path, which: str) -> None:
    write_onnx(tmp_path, "one")
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        options = ServeOptions(tmp_path, run_dir=tmp_path.with_name("run"), **{which: port})  # type: ignore[arg-type]
        with pytest.raises(PortError, match=f"port {port} on 127.0.0.1 cannot be used"):
            Server(options).start()


def test_foreground_with_a_busy_port_says_so_and_fails(tmp_path: Path) -> None:
    write_onnx(tmp_path, "one")
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with start_foreground(tmp_path, tmp_path.with_name("run"), port) as process:
            output, _ = process.communicate(timeout=30)
    assert process.returncode == 6
    assert output.startswith(f"ERROR HTTP port {port} on 127.0.0.1 cannot be used: another process listens on it")
    assert output.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_foreground_drains_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    write_onnx(tmp_path, "one")
    with start_foreground(tmp_path, tmp_path.with_name("run")) as process:
        prefix = read_until(process, "UP 127.0.0.1:").split()[-1]
        assert len(processes_of(prefix)) == 2
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert output == f"{number.name}: finishing what was asked, then stopping\n"
    assert "successfully unloaded 'one'" in (tmp_path.with_name("run") / "triton.log").read_text()
    assert not processes_of(prefix) and not regions(prefix)


def test_foreground_is_stopped_while_a_model_is_loading(tmp_path: Path) -> None:
    write_model(tmp_path, make_config("slow", "pytorch"), lambda folder: torchscript_file(folder / "model.pt"))
    with start_foreground(tmp_path, tmp_path.with_name("run")) as process:
        read_until(process, "1 models to load")
        (prefix,) = _prefixes_below(process.pid)
        wait_for(lambda: len(processes_of(prefix)) == 2, "the stub has started")
        os.kill(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert not processes_of(prefix) and not regions(prefix)


def _prefixes_below(pid: int) -> set[str]:
    """The prefixes of the servers that a process has started."""
    children = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")).split()
    words = "\0".join(Path(f"/proc/{child}/cmdline").read_text() for child in children).split("\0")
    return {word.partition("shm-region-prefix-name=")[2] for word in words} - {""}
