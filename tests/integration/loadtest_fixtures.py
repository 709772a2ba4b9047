"""A served repository of tiny models whose answers are known, for the tests of client and load test."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import model_config_pb2 as triton

from core.results import BuildRow, MetricValue, ModelBuild
from core.samples import SamplePackInfo, pack_bytes, write_pack
from core.tensors import TensorSpec
from server.options import ServeOptions
from server.supervisor import Server

MAX_BATCH = 8
SAMPLES = 200
# Small whole numbers: every product and sum is exact in float32, so that answers compare as equal in any order.
WEIGHTS = np.random.default_rng(1).integers(-3, 4, (16, 3)).astype(np.float32)
IMAGES = np.random.default_rng(2).integers(0, 5, (SAMPLES, 1, 4, 4)).astype(np.float32)

AXES = '{"S": {"min": 1, "max": 8, "at": {"left": [1], "right": [1], "sum": [1], "difference": [1]}}}'
BUCKETS = '{"S": {"sizes": [4, 8], "pad": {"left": 100, "right": 0}}}'

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Served:
    """Where the server is, the folder of the sample pack, and the server itself."""

    http_url: str
    grpc_url: str
    pack: Path
    server: Server

    def url(self, protocol: str) -> str:
        """The address for a protocol."""
        return self.grpc_url if protocol == "grpc" else self.http_url


def logits_of(images: Floats) -> Floats:
    """What the model `digits` answers: `[N, 1, 4, 4]` to `[N, 3]`."""
    answer: Floats = images.reshape(len(images), 16) @ WEIGHTS
    return answer


def digits(weights: Floats) -> onnx.GraphProto:
    """`image` `[N, 1, 4, 4]` times weights `[16, 3]`."""
    return helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        ],
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(weights, "weights")],
    )


def pair() -> onnx.GraphProto:
    """`left` and `right` `[N, S] int64` to their `sum` and `difference`; S varies."""
    ints = TensorProto.INT64
    return helper.make_graph(
        [
            helper.make_node("Add", ["left", "right"], ["sum"]),
            helper.make_node("Sub", ["left", "right"], ["difference"]),
        ],
        "pair",
        [helper.make_tensor_value_info(name, ints, ["N", "S"]) for name in ("left", "right")],
        [helper.make_tensor_value_info(name, ints, ["N", "S"]) for name in ("sum", "difference")],
    )


def write_model(
    repository: Path, name: str, graph: onnx.GraphProto, parameters: dict[str, str], max_queue_size: int = 0
) -> None:
    """Puts a model as version 1 into a repository, with dynamic batching. A queue size of 0 is no limit."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, version / "model.onnx")
    config = triton.ModelConfig(name=name, backend="onnxruntime", max_batch_size=MAX_BATCH)
    config.dynamic_batching.default_queue_policy.max_queue_size = max_queue_size
    config.instance_group.add(kind=triton.ModelInstanceGroup.KIND_CPU, count=1)
    for values, fields in ((graph.input, config.input), (graph.output, config.output)):
        for value in values:
            tensor = value.type.tensor_type
            fields.add(
                name=value.name,
                data_type=triton.TYPE_FP32 if tensor.elem_type == TensorProto.FLOAT else triton.TYPE_INT64,
                dims=[dim.dim_value or -1 for dim in tensor.shape.dim[1:]],
            )
    for key, text in (parameters | {"intra_op_thread_count": "1"}).items():
        config.parameters[key].string_value = text
    (repository / name / "config.pbtxt").write_text(text_format.MessageToString(config))


def write_digits_pack(folder: Path, labels: NDArray[np.int64]) -> None:
    """A sample pack of IMAGES with these labels `[SAMPLES]`."""
    data = pack_bytes({"image": IMAGES}, {"logits": logits_of(IMAGES)}, labels)
    info = SamplePackInfo(
        model="digits",
        count=SAMPLES,
        inputs=(TensorSpec(name="image", dims=(1, 4, 4)),),
        outputs=(TensorSpec(name="logits", dims=(3,)),),
        metric="top1",
        metric_output="logits",
        sha256=hashlib.sha256(data).hexdigest(),
    )
    write_pack(folder, info, data)


def write_artifacts(artifacts: Path, pack: Path, *names: str) -> None:
    """What `trident loadtest digits` wants to find: a build of which these models are the published variants, in whose
    place nothing was ever built, and their in-process answers."""
    folder = artifacts / "digits"
    (folder / "outputs").mkdir(parents=True)
    for name in ("samples.npz", "samples.json"):
        shutil.copy(pack / name, folder)
    for name in names:
        np.savez(folder / "outputs" / f"{name}.npz", logits=logits_of(IMAGES))
    build = ModelBuild(
        model="digits", spec="digits.yaml", source_sha256="0" * 64, baseline_variant=names[0],
        evaluation_samples=SAMPLES, original=MetricValue(name="top1", value=0.9, ci95=(0.85, 0.94), samples=SAMPLES),
        original_runtime="ONNX Runtime", stale=(),
        rows=tuple(BuildRow(variant=name, status="published", triton_name=name) for name in names),
    )  # fmt: skip
    (folder / "build.json").write_bytes(build.to_json())


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The models `digits`, `rotated` (its classes shifted by one, so nearly always wrong), `narrow` (a queue of one),
    `pair` and `padded` (the same with S from 1 to 8, in buckets) behind the real Triton; a pack whose labels are what
    `digits` answers, but for every tenth."""
    root = tmp_path_factory.mktemp("served")
    repository = root / "repository"
    parameters = {"trident.model": "digits", "trident.variant": "onnx_fp32", "trident.labels": '["cat", "dog", "eel"]'}
    write_model(repository, "digits", digits(WEIGHTS), parameters)
    write_model(repository, "rotated", digits(np.roll(WEIGHTS, 1, axis=1)), {})
    write_model(repository, "narrow", digits(WEIGHTS), {}, max_queue_size=1)
    write_model(repository, "pair", pair(), {})
    write_model(repository, "padded", pair(), {"trident.axes": AXES, "trident.buckets": BUCKETS})
    labels = logits_of(IMAGES).argmax(axis=1)
    labels[::10] = (labels[::10] + 1) % 3
    write_digits_pack(root / "pack", labels)
    # No goldens: they would be counted among the requests.
    options = ServeOptions(repository=repository, run_dir=root / "run", golden_interval_s=0)
    with Server(options) as server:
        yield Served(server.http_url, server.grpc_url, root / "pack", server)
