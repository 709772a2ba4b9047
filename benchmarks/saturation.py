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
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from builder.artifact import Artifact
from builder.source import source_artifact
from builder.spec_file import load_spec
from builder.step import run_recipe
from builder.steps.quantize_onnx_static import QuantizeOnnxStatic
from builder.steps.quantize_openvino import QuantizeOpenVino
from builder.steps.to_openvino import ToOpenVino
from builder.verify import sqnr_db

INNER, OUTER = 256, 32
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
    signed: NDArray[np.float32] = (size * sign).astype(np.float32)
    return signed


def write_source(folder: Path) -> Artifact:
    """One matrix product, as an ONNX checkpoint with its spec and calibration samples."""
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


def old_cpu() -> list[str] | None:
    """This Python, on an emulated CPU with AVX2 and without VNNI; None where the emulator is not installed."""
    emulator = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    return [emulator, "-cpu", "max", str(Path(sys.executable).resolve())] if emulator else None


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


def onnx_noise_db(source: Artifact, cpu: list[str], folder: Path, safe: bool) -> float:
    """Of static INT8 in ONNX Runtime on that CPU, with a bit of headroom or at full range."""
    artifact = run_recipe((QuantizeOnnxStatic(reduce_range=safe),), source, folder / "cache")
    return noise_db(artifact, cpu, RUN_ONNX, folder)


def openvino_noise_db(source: Artifact, folder: Path, safe: bool) -> float:
    """The same in OpenVINO."""
    artifact = run_recipe((ToOpenVino(), QuantizeOpenVino(headroom=safe)), source, folder / "cache")
    return noise_db(artifact, [sys.executable], RUN_OPENVINO, folder, ONEDNN_MAX_CPU_ISA="AVX2")


def gains_db(folder: Path) -> dict[str, float]:
    """Runtime -> how many dB more the safe quantization keeps than the one at full range."""
    source, cpu = write_source(folder), old_cpu()
    if cpu is None:
        raise SystemExit("qemu-x86_64 is not installed (Debian: qemu-user)")
    return {
        "ONNX Runtime": onnx_noise_db(source, cpu, folder, True) - onnx_noise_db(source, cpu, folder, False),
        "OpenVINO": openvino_noise_db(source, folder, True) - openvino_noise_db(source, folder, False),
    }
