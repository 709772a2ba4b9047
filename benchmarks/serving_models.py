"""The networks of the serving benchmark, written as ONNX and built by Trident as a user's own would be.

Their weights are random, since only their time matters. `tiny` is nearly all overhead; `dense` reads 17 MB of weights
for each batch, however large; `image` takes 602 KB; `deep` takes so long that the overhead is small. `twin` is `deep`
again; `slow` has one more block of twenty, whose weights are zero: it does 5% more work for the same answers.
`*-single` are the same files with a largest batch of 1, `*-two` with two instances, each with half the threads.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime
import yaml
from onnx import TensorProto, helper, numpy_helper

from benchmarks.demo import TRIDENT, run
from benchmarks.in_process import write_spec

SIDE: Final = 32


@dataclass(frozen=True)
class Cnn:
    """A picture of 3 x `side` x `side`, reduced by `stride`, through `blocks` residual convolutions of `width`
    channels, and `idle` more of zeros."""

    width: int
    blocks: int
    idle: int = 0
    batch: int = 32
    instances: int = 1
    side: int = SIDE
    stride: int = 1
    samples: int = 64


CNNS: Final = {
    "tiny": Cnn(16, 5), "tiny-single": Cnn(16, 5, batch=1), "tiny-two": Cnn(16, 5, instances=2),
    "deep": Cnn(64, 20, batch=8), "deep-single": Cnn(64, 20, batch=1),
    "image": Cnn(16, 2, side=224, stride=8, samples=16),
    "twin": Cnn(64, 20, batch=8), "slow": Cnn(64, 20, idle=1, batch=8),
}  # fmt: skip

HIDDEN: Final = 1024  # of `dense`
EXAMPLES: Final = {
    "fashion-single": {"batch": {"max": 1}, "variants": ["onnx_fp32"]},
    "fashion-two": {"serving": {"instances": 2}, "variants": ["openvino_int8"]},
}
"""The example in other settings -> what differs from its own spec."""


def write_onnx(cnn: Cnn, path: Path) -> None:
    """The network as an ONNX file; of equal sizes the same."""
    random = np.random.default_rng(0)
    nodes, weights = [], []

    def conv(source: str, name: str, inner: int, scale: float, stride: int = 1) -> None:
        values = random.standard_normal((cnn.width, inner, 3, 3)) * scale * (2 / (9 * inner)) ** 0.5
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"{name}_w"))
        shape = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [stride, stride]}
        nodes.append(helper.make_node("Conv", [source, f"{name}_w"], [name], **shape))
        nodes.append(helper.make_node("Relu", [name], [f"{name}_relu"]))

    conv("x", "stem", 3, 1.0, cnn.stride)
    last = "stem_relu"
    for number in range(cnn.blocks + cnn.idle):
        name = f"block{number}"
        conv(last, name, cnn.width, 0.5 if number < cnn.blocks else 0.0)
        nodes.append(helper.make_node("Add", [last, f"{name}_relu"], [f"{name}_sum"]))
        last = f"{name}_sum"
    head = np.random.default_rng(1).standard_normal((cnn.width, 10)) / cnn.width**0.5
    weights.append(numpy_helper.from_array(head.astype(np.float32), "head_w"))
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head_w"], ["logits"]),
    ]
    _save(nodes, weights, cnn.side, path)


def _save(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], side: int, path: Path) -> None:
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        weights,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), path)


def write_dense(path: Path) -> None:
    """Two hidden layers on the flattened picture: 17 MB of weights, which a batch reads once."""
    random = np.random.default_rng(0)
    sizes = (3 * SIDE * SIDE, HIDDEN, HIDDEN, 10)
    weights = [
        numpy_helper.from_array((random.standard_normal(pair) * (2 / pair[0]) ** 0.5).astype(np.float32), f"w{number}")
        for number, pair in enumerate(itertools.pairwise(sizes))
    ]
    nodes = [helper.make_node("Flatten", ["x"], ["h0"])]
    for number in range(2):
        nodes.append(helper.make_node("MatMul", [f"h{number}", f"w{number}"], [f"m{number}"]))
        nodes.append(helper.make_node("Relu", [f"m{number}"], [f"h{number + 1}"]))
    nodes.append(helper.make_node("MatMul", ["h2", "w2"], ["logits"]))
    _save(nodes, weights, SIDE, path)


def write_cnn_spec(name: str, folder: Path) -> Path:
    """A spec with its network and samples, whose labels are the network's own decisions."""
    cnn, path = CNNS.get(name, Cnn(0, 0)), folder / f"{name}.onnx"
    if name in CNNS:
        write_onnx(cnn, path)
    else:
        write_dense(path)
    random = np.random.default_rng(2)
    calibration, x = (random.random((count, 3, cnn.side, cnn.side), np.float32) for count in (16, cnn.samples))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    labels = session.run(None, {"x": x})[0].argmax(axis=1).astype(np.int64)
    np.savez(folder / f"{name}-calibration.npz", x=calibration)
    np.savez(folder / f"{name}.npz", x=x, label=labels)
    content = {
        "name": name,
        "checkpoint": {"onnx": path.name},
        "inputs": [{"name": "x", "dims": [3, cnn.side, cnn.side]}],
        "outputs": [{"name": "logits", "dims": [10]}],
        "batch": {"max": cnn.batch},
        "data": {"calibration": f"{name}-calibration.npz", "evaluation": f"{name}.npz"},
        "metric": {"name": "top1", "output": "logits"},
        "variants": ["onnx_fp32"],
        "serving": {"instances": cnn.instances},
    }
    spec = folder / f"{name}.yaml"
    spec.write_text(yaml.safe_dump(content))
    return spec


def build(folder: Path) -> None:
    """Builds all into `folder`: `repository/` and `artifacts/`. The example is built too, with a largest batch of 1
    beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    example = write_spec("fashion", ("torch_fp32", "onnx_fp32", "openvino_int8"), folder)
    own = yaml.safe_load(example.read_text())
    for name, changes in EXAMPLES.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(own | {"name": name} | changes))
    specs = [
        example,
        *(folder / f"{name}.yaml" for name in EXAMPLES),
        *(write_cnn_spec(name, folder) for name in (*CNNS, "dense")),
    ]
    where = ["--repository", f"{folder}/repository", "--artifacts", f"{folder}/artifacts"]
    run([*TRIDENT, "build", *map(str, specs), *where])


if __name__ == "__main__":
    import sys

    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    build(Path(sys.argv[1]))
