"""A tiny real model with its spec and data: 8 numbers in, 3 classes out, built in seconds.

Labels are the original's own decisions, so its accuracy is exactly 1 and every flipped answer counts.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SPEC = """\
name: {name}
checkpoint: {checkpoint}
inputs:
  - {{name: x, dtype: float32, dims: [8]}}
outputs:
  - {{name: scores, dtype: float32, dims: [3]}}
batch: {{max: 8}}
data: {{calibration: calibration.npz, evaluation: evaluation.npz}}
metric: {{name: top1, output: scores}}
gates: {{max_drop: {max_drop}}}
variants: [{variants}]
"""

FACTORY = textwrap.dedent(
    """
    from torch import nn


    def make():
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    """
)


def weights(seed: int) -> list[NDArray[np.float32]]:
    """`[8, 16]`, `[16]`, `[16, 3]`, `[3]`."""
    random = np.random.default_rng(seed)
    return [random.normal(size=size).astype(np.float32) for size in ((8, 16), (16,), (16, 3), (3,))]


def forward(x: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """The network in numpy, `[N, 8] -> [N, 3]`: an opinion that does not come from any of the runtimes."""
    w1, b1, w2, b2 = weights(seed)
    scores: NDArray[np.float32] = np.maximum(x @ w1 + b1, 0) @ w2 + b2
    return scores


def write_data(folder: Path, seed: int = 0) -> None:
    """calibration.npz (300 samples) and evaluation.npz (300), without a sample in common."""
    random = np.random.default_rng(1000)
    for name, count in (("calibration", 300), ("evaluation", 300)):
        x = random.normal(size=(count, 8)).astype(np.float32)
        np.savez(folder / f"{name}.npz", x=x, label=forward(x, seed).argmax(axis=1))


def onnx_model(seed: int = 0, batch: str | int = "N") -> onnx.ModelProto:
    """The network as ONNX; an int for `batch` fixes the axis."""
    w1, b1, w2, b2 = (numpy_helper.from_array(value, f"w{i}") for i, value in enumerate(weights(seed)))
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "w1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "w3"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3])],
        [w1, b1, w2, b2],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])


def onnx_spec(
    folder: Path, *, name: str = "tiny", seed: int = 0, max_drop: str = "1pt", variants: str = "onnx_fp32"
) -> Path:
    """A spec with an ONNX checkpoint in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx_model(seed), folder / "model.onnx")
    write_data(folder, seed)
    return _write_spec(folder, name=name, checkpoint="{onnx: model.onnx}", max_drop=max_drop, variants=variants)


def torch_spec(
    folder: Path, *, name: str = "tiny", seed: int = 0, max_drop: str = "1pt", variants: str = "torch_fp32"
) -> Path:
    """A spec with a safetensors checkpoint and a factory in `folder`."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    w1, b1, w2, b2 = weights(seed)
    state = {"0.weight": w1.T, "0.bias": b1, "2.weight": w2.T, "2.bias": b2}
    save_file({key: np.ascontiguousarray(value) for key, value in state.items()}, folder / "tiny.safetensors")
    (folder / "factory.py").write_text(FACTORY)
    write_data(folder, seed)
    checkpoint = "{state_dict: tiny.safetensors, factory: factory.py:make}"
    return _write_spec(folder, name=name, checkpoint=checkpoint, max_drop=max_drop, variants=variants)


def _write_spec(folder: Path, **values: str) -> Path:
    path = folder / "model.yaml"
    path.write_text(SPEC.format(**values))
    return path
