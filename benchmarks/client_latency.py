"""What a request costs through each client, in interleaved rounds on one connection each: ours, tritonclient's, with
JSON tensors and through shared memory. The model computes nothing, so that all of it is the way there and back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import tritonclient.grpc
import tritonclient.http
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2 as triton

from client import InferenceClient, Settings

Rows = NDArray[np.float32]
SMALL, LARGE = 3072, 150528  # float32 values: 12 KB, and the 602 KB of an image of 224 x 224
QUIET: Final = Settings(observers=())

NULL: Final = """
import numpy as np
import triton_python_backend_utils as triton

class TritonPythonModel:
    def initialize(self, args):
        self.answer = np.zeros((1, 10), np.float32)

    def execute(self, requests):
        return [triton.InferenceResponse([triton.Tensor("y", self.answer)]) for _ in requests]
"""
DOUBLE: Final = """
import triton_python_backend_utils as triton

class TritonPythonModel:
    def execute(self, requests):
        return [triton.InferenceResponse([triton.Tensor("y", 2 * r.inputs()[0].as_numpy())]) for r in requests]
"""


def write_models(repository: Path) -> None:
    """`null` and `null_large`, which answer ten numbers to whatever they get, and `double`, which can be checked."""
    for name, code, size, answer in (
        ("null", NULL, SMALL, 10), ("null_large", NULL, LARGE, 10), ("double", DOUBLE, 4, 4),
    ):  # fmt: skip
        config = triton.ModelConfig(name=name, backend="python")
        config.input.add(name="x", data_type=triton.TYPE_FP32, dims=[1, size])
        config.output.add(name="y", data_type=triton.TYPE_FP32, dims=[1, answer])
        config.instance_group.add(kind=triton.ModelInstanceGroup.KIND_CPU, count=1)
        version = repository / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(code)
        text = f"{text_format.MessageToString(config)}max_batch_size: 0\n"
        (repository / name / "config.pbtxt").write_text(text)


@dataclass(frozen=True)
class Way:
    """One way of sending a request, and how often a round does."""

    send: Callable[[], object]
    repeats: int


def measure(http_url: str, grpc_url: str, rounds: int) -> dict[str, list[float]]:
    """Way -> the median of its requests in each round, milliseconds."""
    small, large = (np.random.default_rng(1).random((1, size), np.float32) for size in (SMALL, LARGE))
    with ExitStack() as stack:

        def ours(url: str, settings: Settings, model: str, inputs: Rows) -> Callable[[], object]:
            client = stack.enter_context(InferenceClient(url, settings=settings))
            return lambda: client.infer(model, inputs)

        http = stack.enter_context(tritonclient.http.InferenceServerClient(http_url))
        grpc = stack.enter_context(tritonclient.grpc.InferenceServerClient(grpc_url))
        http_url, grpc_url = f"http://{http_url}", f"grpc://{grpc_url}"
        json, shared = Settings(observers=(), json_tensors=True), Settings(observers=(), shared_memory=True)
        pairs: tuple[dict[str, Way], ...] = (
            {
                "http": Way(ours(http_url, QUIET, "null", small), 100),
                "http_tritonclient": Way(lambda: _their_http(http, "null", small), 100),
            },
            {
                "grpc": Way(ours(grpc_url, QUIET, "null", small), 100),
                "grpc_tritonclient": Way(lambda: _their_grpc(grpc, "null", small), 100),
            },
            {
                "large_grpc": Way(ours(grpc_url, QUIET, "null_large", large), 30),
                "large_grpc_shared": Way(ours(grpc_url, shared, "null_large", large), 30),
            },
            {
                "large_http": Way(ours(http_url, QUIET, "null_large", large), 10),
                "large_http_json": Way(ours(http_url, json, "null_large", large), 1),
            },
        )
        medians: dict[str, list[float]] = {}
        for pair in pairs:
            medians |= interleaved(pair, rounds)
        return medians


def interleaved(ways: Mapping[str, Way], rounds: int) -> dict[str, list[float]]:
    """The median of each way in each round. Within a round the ways take turns, request by request, and change places
    from turn to turn: what follows another protocol or a large request finds caches cold."""
    for way in ways.values():
        for _ in range(way.repeats):
            way.send()
    medians: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        took_ms: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(max(way.repeats for way in ways.values())):
            for name in list(ways)[:: 1 if turn % 2 else -1]:
                if turn < (way := ways[name]).repeats:
                    began_s = time.perf_counter()
                    way.send()
                    took_ms[name].append(1000 * (time.perf_counter() - began_s))
        for name, values in took_ms.items():
            medians[name].append(median(values))
    return medians


def _their_http(client: tritonclient.http.InferenceServerClient, model: str, inputs: Rows) -> Rows:
    tensor = tritonclient.http.InferInput("x", list(inputs.shape), "FP32").set_data_from_numpy(inputs)
    wanted = [tritonclient.http.InferRequestedOutput("y")]
    answer: Rows = client.infer(model, [tensor], outputs=wanted, timeout=30_000_000).as_numpy("y")
    return answer


def _their_grpc(client: tritonclient.grpc.InferenceServerClient, model: str, inputs: Rows) -> Rows:
    tensor = tritonclient.grpc.InferInput("x", list(inputs.shape), "FP32").set_data_from_numpy(inputs)
    wanted = [tritonclient.grpc.InferRequestedOutput("y")]
    answer: Rows = client.infer(model, [tensor], outputs=wanted, client_timeout=30).as_numpy("y")
    return answer
