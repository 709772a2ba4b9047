"""Small model repositories for the server's tests, made by hand: one linear layer in all three formats, and what a test
needs around a running server. Used by tests/integration and tests/faults."""

from __future__ import annotations

import io
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from core.files import sha256_file
from core.results import MetricValue, Passport, Timing, Verdict
from core.samples import pack_bytes
from core.tensors import Arrays, TensorSpec
from server.supervisor import Server

MAX_BATCH = 8
WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3) - 5
BIAS = np.array([0.5, -1, 2], np.float32)
BACKENDS = {"linear_onnx": "onnxruntime", "linear_openvino": "openvino", "linear_torch": "pytorch"}


def linear(x: np.ndarray) -> np.ndarray:
    """What the models compute: `[N, 4] -> [N, 3]` float32, exact for small whole numbers."""
    return (x @ WEIGHT + BIAS).astype(np.float32)


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Inputs `[count, 4]` float32 of small whole numbers, no two seeds alike."""
    return np.random.default_rng(seed).integers(-50, 50, (count, 4)).astype(np.float32)


def onnx_bytes() -> bytes:
    """The layer as an ONNX model with a free batch axis."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(BIAS, "b")],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def lookup_bytes() -> bytes:
    """An ONNX model that fails on some inputs: `i [n, 1] int64 -> y [n, 1] float32`, a look-up in a table of 4."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "i"], ["y"])],
        "lookup",
        [helper.make_tensor_value_info("i", TensorProto.INT64, ["n", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(np.array([10, 11, 12, 13], np.float32), "table")],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    return bytes(model.SerializeToString())


def openvino_files(folder: Path) -> None:
    """The layer as `model.xml` and `model.bin`."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it would report this over the network
    import openvino

    model = openvino.convert_model(io.BytesIO(onnx_bytes()))
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)


def torchscript_file(path: Path) -> None:
    """The layer as TorchScript."""
    import torch

    layer = torch.nn.Linear(4, 3).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        layer.weight.copy_(torch.from_numpy(WEIGHT.T.copy()))
        layer.bias.copy_(torch.from_numpy(BIAS))
        torch.jit.save(torch.jit.trace(layer, torch.zeros(2, 4)), str(path))


def make_config(name: str, backend: str, max_batch: int = MAX_BATCH, **parameters: str) -> model_config_pb2.ModelConfig:
    """The configuration of a linear model; one instance, one thread."""
    config = model_config_pb2.ModelConfig(name=name, backend=backend, max_batch_size=max_batch)
    batch = [] if max_batch else [-1]
    config.input.add(name="x", data_type=model_config_pb2.TYPE_FP32, dims=[*batch, 4])
    config.output.add(name="y", data_type=model_config_pb2.TYPE_FP32, dims=[*batch, 3])
    config.instance_group.add(kind=model_config_pb2.ModelInstanceGroup.KIND_CPU, count=1)
    if max_batch:
        config.dynamic_batching.max_queue_delay_microseconds = 0
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    return config


def write_model(repository: Path, config: model_config_pb2.ModelConfig, files: Callable[[Path], None]) -> Path:
    """Writes a model's folder, its version 1 filled by `files`. Returns the version's folder."""
    version = repository / config.name / "1"
    version.mkdir(parents=True)
    text = text_format.MessageToString(config)
    if config.max_batch_size == 0:
        text += "max_batch_size: 0\n"  # which text format drops, and Triton wants to see
    (repository / config.name / "config.pbtxt").write_text(text)
    files(version)
    return version


def write_onnx(repository: Path, name: str, max_batch: int = MAX_BATCH) -> Path:
    """A linear model for ONNX Runtime, without goldens: the cheapest to load."""
    config = make_config(name, "onnxruntime", max_batch, intra_op_thread_count="1")
    return write_model(repository, config, lambda folder: _write(folder / "model.onnx", onnx_bytes()))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def write_openvino(repository: Path, name: str) -> Path:
    """A linear model for OpenVINO, without goldens."""
    return write_model(repository, make_config(name, "openvino", INFERENCE_NUM_THREADS="1"), openvino_files)


def write_torch(repository: Path, name: str) -> Path:
    """A linear model for PyTorch, without goldens."""
    config = make_config(name, "pytorch", INTRA_OP_THREAD_COUNT="1")
    return write_model(repository, config, lambda folder: torchscript_file(folder / "model.pt"))


def write_goldens(version: Path, shift: float = 0.0) -> None:
    """Sixteen golden rows and a passport of all files; `shift` makes the answers wrong by so much."""
    x = rows(16, seed=99)
    inputs: Arrays = {"x": x}
    files = {path.name: sha256_file(path) for path in version.iterdir() if path.name.startswith("model.")}
    golden = version / "golden.npz"
    golden.write_bytes(pack_bytes(inputs, {"y": linear(x) + np.float32(shift)}))
    sealed = passport().model_copy(update={"files": files, "golden_sha256": sha256_file(golden)})
    version.joinpath("passport.json").write_bytes(sealed.to_json())


def passport() -> Passport:
    """A passport that allows an absolute difference of 0.001 in `y`."""
    metric = MetricValue(name="top1", value=1.0, ci95=(1.0, 1.0), samples=1)
    return Passport(
        model="linear",
        variant="test",
        format="test",
        inputs=(TensorSpec(name="x", dims=(4,)),),
        outputs=(TensorSpec(name="y", dims=(3,)),),
        max_batch=MAX_BATCH,
        files={},
        history=(),
        source_sha256="0" * 64,
        build_key="0" * 64,
        tools={},
        isa_flags=(),
        cores=1,
        golden_sha256="0" * 64,
        golden_tolerance={"y": 0.001},
        verdict=Verdict(
            sqnr_db={"y": 200.0},
            max_abs_error=0.0,
            cosine=1.0,
            agreement=1.0,
            metric=metric,
            baseline=metric,
            drop=0.0,
            drop_ci95=(0.0, 0.0),
            gates=(),
            passed=True,
        ),
        timing=Timing(time_ms=1.0, original_time_ms=1.0, speedup=1.0, speedup_ci95=(1.0, 1.0), calls=1),
        built_at="2026-01-01T00:00:00Z",
    )


def wait_for(condition: Callable[[], object], what: str, deadline_s: float = 30.0) -> None:
    """Polls until `condition` holds; fails after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.02)


def regions(prefix: str) -> set[str]:
    """What a server has in shared memory now, living or left behind: its stubs' regions and its lock."""
    assert prefix.startswith("trident_")  # other servers may run on this machine
    return {path.name for path in Path("/dev/shm").glob(f"{prefix}*")}


def processes_of(prefix: str) -> set[int]:
    """A server and its stubs: all that have its prefix in their command line."""
    assert prefix.startswith("trident_")
    found = set()
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and prefix.encode() in (path / "cmdline").read_bytes():
                found.add(int(path.name))
        except OSError:
            continue
    return found - {os.getpid()}


def leaves_nothing(server: Server) -> bool:
    """Whether a stopped server has left neither processes nor shared memory."""
    return not processes_of(server.shm_prefix) and not regions(server.shm_prefix)
