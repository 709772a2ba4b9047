"""All three backends on the real server: right answers, batches, many clients at once, bad requests."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from server.errors import AnswerError
from server.options import ServeOptions
from server.probe import Probe
from server.supervisor import Server
from tests.integration.server_fixtures import (
    BACKENDS,
    MAX_BATCH,
    leaves_nothing,
    linear,
    lookup_bytes,
    make_config,
    regions,
    rows,
    write_goldens,
    write_model,
    write_onnx,
    write_openvino,
    write_torch,
)

MODELS = tuple(BACKENDS)


def _write_lookup(repository: Path) -> None:
    """A model that fails on some requests, and that waits for others to make a batch with."""
    config = make_config("lookup", "onnxruntime")
    config.input[0].MergeFrom(model_config_pb2.ModelInput(name="i", data_type=model_config_pb2.TYPE_INT64))
    config.input[0].dims[:] = [1]
    config.output[0].dims[:] = [1]
    config.dynamic_batching.preferred_batch_size.append(4)
    config.dynamic_batching.max_queue_delay_microseconds = 500_000
    write_model(repository, config, lambda folder: (folder / "model.onnx").write_bytes(lookup_bytes()))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a model of every backend, in a repository whose path would not survive a shell."""
    repository = tmp_path_factory.mktemp("my models; (really)")
    for write, name in zip((write_onnx, write_openvino, write_torch), MODELS, strict=True):
        write_goldens(write(repository, name))
    write_onnx(repository, "unbatched", max_batch=0)
    _write_lookup(repository)
    with Server(ServeOptions(repository, run_dir=tmp_path_factory.mktemp("run"), exit_timeout_s=1)) as running:
        yield running
        assert len(regions(running.shm_prefix)) == 6  # five stubs and a lock
    assert leaves_nothing(running)


@pytest.fixture
def probe(server: Server) -> Probe:
    """A client of it, without the key for model control."""
    http_port, grpc_port = (int(url.rpartition(":")[2]) for url in (server.http_url, server.grpc_url))
    return Probe("127.0.0.1", http_port, timeout_s=30, grpc_port=grpc_port)


def test_all_are_ready_and_their_goldens_right(server: Server) -> None:
    states = {state.name: state for state in server.models}
    assert all(state.ready and state.version == 1 for state in states.values())
    assert {name for name, state in states.items() if state.golden} == set(MODELS)
    assert states["unbatched"].golden is None and "no golden answers" in states["unbatched"].reason
    assert server.version == "2.51.0"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("count", [1, 2, 3, MAX_BATCH])
def test_answers_are_right_at_every_batch_size(probe: Probe, model: str, count: int) -> None:
    x = rows(count, seed=count)
    answer = probe.infer(model, 1, {"x": x}, ("y",))["y"]
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, linear(x))


@pytest.mark.parametrize("count", [1, 5])
def test_without_batching_shapes_are_whole(probe: Probe, count: int) -> None:
    x = rows(count)
    np.testing.assert_array_equal(probe.infer("unbatched", 1, {"x": x}, ("y",))["y"], linear(x))


@pytest.mark.parametrize("model", MODELS)
def test_many_clients_at_once_share_batches_and_get_their_own_answers(probe: Probe, model: str) -> None:
    def ask(seed: int) -> None:
        x = rows(1 + seed % 3, seed)
        np.testing.assert_array_equal(probe.infer(model, 1, {"x": x}, ("y",))["y"], linear(x))

    requests, before = 400, probe.executions(model)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(requests)))
    assert 0 < probe.executions(model) - before < requests  # dynamic batching took place


@pytest.mark.parametrize("model", MODELS)
def test_grpc_gives_the_same(server: Server, model: str) -> None:
    x = rows(3)
    tensor = grpc_client.InferInput("x", x.shape, "FP32")
    tensor.set_data_from_numpy(x)
    with grpc_client.InferenceServerClient(server.grpc_url) as client:
        np.testing.assert_array_equal(client.infer(model, [tensor]).as_numpy("y"), linear(x))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("x", "complaint"),
    [
        (np.zeros((1, 4)), "data-type"),
        (np.zeros((1, 4), np.int64), "data-type"),
        (np.zeros((1, 5), np.float32), r"expected \[-1,4\]|unexpected shape"),
        (np.zeros((4,), np.float32), r"expected \[-1,4\]|unexpected shape"),
        (np.zeros((MAX_BATCH + 1, 4), np.float32), "batch-size must be <= 8"),
    ],
)
def test_a_wrong_tensor_is_refused_and_the_server_lives(
    probe: Probe, model: str, x: np.ndarray, complaint: str
) -> None:
    with pytest.raises(AnswerError, match=complaint) as caught:
        probe.infer(model, 1, {"x": x}, ("y",))
    assert caught.value.status == 400
    np.testing.assert_array_equal(probe.infer(model, 1, {"x": rows(2)}, ("y",))["y"], linear(rows(2)))


@pytest.mark.parametrize(
    ("model", "version", "tensor", "output", "complaint"),
    [
        ("nobody", 1, "x", "y", "unknown model: 'nobody'"),
        ("linear_onnx", 7, "x", "y", "'linear_onnx' version 7 is not found"),
        ("linear_onnx", 1, "q", "y", "unexpected inference input 'q'|expected"),
        ("linear_onnx", 1, "x", "q", "unexpected inference output 'q'"),
    ],
)
def test_wrong_names_are_refused(
    probe: Probe, model: str, version: int, tensor: str, output: str, complaint: str
) -> None:
    with pytest.raises(AnswerError, match=complaint):
        probe.infer(model, version, {tensor: rows(1)}, (output,))
    assert probe.live()


def test_a_request_that_is_no_json_is_refused(probe: Probe, server: Server) -> None:
    request = urllib.request.Request(f"http://{server.http_url}/v2/models/linear_onnx/infer", b"{not json")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    with caught.value as answer:
        assert answer.code == 500  # Triton's choice
    assert probe.live()


def test_a_failing_request_fails_alone_in_its_batch(probe: Probe) -> None:
    def ask(index: int) -> float | str:
        try:
            return float(probe.infer("lookup", 1, {"i": np.array([[index]])}, ("y",))["y"][0, 0])
        except AnswerError as error:
            return str(error)

    before = probe.executions("lookup")
    with ThreadPoolExecutor(4) as pool:
        good_0, bad, good_1, good_2 = pool.map(ask, [0, 99, 1, 2])
    assert (good_0, good_1, good_2) == (10, 11, 12)
    assert isinstance(bad, str)
    assert bad.startswith("model lookup failed on this request: ") and "out of data bounds" in bad and "\n" not in bad
    assert probe.executions("lookup") - before < 4  # they were in a batch


def test_model_control_is_the_supervisors_alone(server: Server, probe: Probe) -> None:
    for act in (probe.index, lambda: probe.unload("linear_onnx"), lambda: probe.load("linear_onnx", 5)):
        with pytest.raises(AnswerError, match="restricted"):
            act()
    with (
        grpc_client.InferenceServerClient(server.grpc_url) as client,
        pytest.raises(InferenceServerException, match="restricted"),
    ):
        client.unload_model("linear_onnx")
    settings = urllib.request.Request(f"http://{server.http_url}/v2/logging", json.dumps({"log_file": "x"}).encode())
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(settings)
    with caught.value as answer:
        assert answer.code == 403


def test_metrics_are_served_on_their_own_port(server: Server) -> None:
    with urllib.request.urlopen(f"http://{server.metrics_url}/metrics") as answer:
        assert b'nv_inference_request_success{model="linear_onnx",version="1"}' in answer.read()


def test_only_loopback_is_listened_on(server: Server) -> None:
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, port = local.split(":")
            if state == "0A" and int(port, 16) in {
                int(url.rpartition(":")[2]) for url in (server.http_url, server.grpc_url, server.metrics_url)
            }:
                listening.add(address)
    assert listening == {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, and as IPv6 writes it
