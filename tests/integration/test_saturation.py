"""INT8 on a CPU without VNNI instructions, where pairs of 8-bit products are added in 16 bits and saturate.

The weights are chosen to saturate at full range: neighbours have one sign and are nearly 1, and the pairs' signs
alternate, so that the true sums are small. Such a CPU is had for real: OpenVINO's kernels can be told to do without the
newer instructions, and for ONNX Runtime's, which cannot, an emulator (qemu-user) plays the older CPU.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from builder.artifact import Artifact
from builder.source import source_artifact
from builder.spec_file import load_spec
from builder.step import Step, run_recipe
from builder.steps.quantize_onnx_static import QuantizeOnnxStatic
from builder.steps.quantize_openvino import QuantizeOpenVino
from builder.steps.to_openvino import ToOpenVino
from builder.verify import sqnr_db

INNER, OUTER = 256, 32
GAIN_DB = 10.0

SPEC = f"""\
name: saturating
checkpoint: {{onnx: model.onnx}}
inputs: [{{name: x, dims: [{INNER}]}}]
outputs: [{{name: y, dims: [{OUTER}]}}]
data: {{calibration: calibration.npz, evaluation: calibration.npz}}
metric: {{name: top1, output: y}}
"""

RUN_ONNX = """
import os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
numpy.save(sys.argv[3], session.run(None, {"x": numpy.load(sys.argv[2])})[0])
"""

RUN_OPENVINO = """
import sys
sys.modules["openvino_telemetry"] = None
import numpy, openvino
model = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
numpy.save(sys.argv[3], model({"x": numpy.load(sys.argv[2])})[0])
"""


def inputs(count: int, seed: int) -> NDArray[np.float32]:
    """`[count, INNER]`, all of them large, so that activations fill their range too."""
    return np.random.default_rng(seed).uniform(0.7, 1.0, (count, INNER)).astype(np.float32)


def weights() -> NDArray[np.float32]:
    """`[INNER, OUTER]`: pairs of one sign, the signs alternating."""
    size = np.random.default_rng(0).uniform(0.9, 1.0, (INNER, OUTER))
    sign = np.where((np.arange(INNER) // 2) % 2 == 0, 1, -1)[:, None]
    return (size * sign).astype(np.float32)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """One matrix product, as an ONNX checkpoint with its spec and calibration samples."""
    folder = tmp_path_factory.mktemp("saturating")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "saturating",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", INNER])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", OUTER])],
        [numpy_helper.from_array(weights(), "w")],
    )
    onnx.save(
        helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), folder / "model.onnx"
    )
    np.savez(folder / "calibration.npz", x=inputs(100, 1), label=np.zeros(100, np.int64))
    (folder / "model.yaml").write_text(SPEC)
    return source_artifact(load_spec(folder / "model.yaml"), folder / "cache")


def python_on_an_old_cpu() -> list[str]:
    """This Python, on an emulated CPU with AVX2 and without VNNI."""
    emulator = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if emulator is None:
        pytest.skip("qemu-x86_64 is not installed (Debian: qemu-user): no CPU without VNNI can be had for ONNX Runtime")
    return [emulator, "-cpu", "max", str(Path(sys.executable).resolve())]


def noise_db(artifact: Artifact, command: list[str], script: str, folder: Path, **env: str) -> float:
    """SQNR of the artifact's answers to new inputs, computed by `script` in a process of its own."""
    x = inputs(64, 2)
    np.save(folder / "x.npy", x)
    packages = os.pathsep.join(path for path in sys.path if path)
    subprocess.run(
        [*command, "-c", script, str(artifact.path), str(folder / "x.npy"), str(folder / "y.npy")],
        check=True, env={**os.environ, "PYTHONPATH": packages, **env}, timeout=240, capture_output=True,
    )  # fmt: skip
    return sqnr_db((x @ weights()).astype(np.float64), np.load(folder / "y.npy").astype(np.float64))


def test_onnx_static_int8_does_not_saturate_without_vnni(source: Artifact, tmp_path: Path) -> None:
    command = python_on_an_old_cpu()

    def noise(step: Step) -> float:
        return noise_db(run_recipe((step,), source, tmp_path / "cache"), command, RUN_ONNX, tmp_path)

    _check(noise, QuantizeOnnxStatic(), QuantizeOnnxStatic(reduce_range=False))


def test_openvino_int8_does_not_saturate_without_vnni(source: Artifact, tmp_path: Path) -> None:
    def noise(step: Step) -> float:
        artifact = run_recipe((ToOpenVino(), step), source, tmp_path / "cache")
        return noise_db(artifact, [sys.executable], RUN_OPENVINO, tmp_path, ONEDNN_MAX_CPU_ISA="AVX2")

    _check(noise, QuantizeOpenVino(), QuantizeOpenVino(headroom=False))


def _check(noise: Callable[[Step], float], safe: Step, naive: Step) -> None:
    safe_db, naive_db = noise(safe), noise(naive)
    print(f"{safe.name}: {safe_db:.1f} dB, at full range {naive_db:.1f} dB")
    assert naive_db < 10, "the weights do not saturate, so this shows nothing"
    assert safe_db >= naive_db + GAIN_DB
