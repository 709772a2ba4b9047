"""A served repository of Python models for the client's tests: what the linear models of the other tests do not do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tritonclient.grpc import model_config_pb2 as triton

from server.options import ServeOptions
from server.supervisor import Server
from tests.integration.loadtest_fixtures import WEIGHTS, digits, write_model
from tests.integration.server_fixtures import write_model as write_files

IMPORTS: Final = """
import time
import numpy as np
import triton_python_backend_utils as triton
"""
# Waits as many milliseconds as it is told, then answers with them.
SLOW: Final = """
class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            ms = request.inputs()[0].as_numpy()
            time.sleep(float(ms.max()) / 1000)
            answers.append(triton.InferenceResponse([triton.Tensor("y", ms)]))
        return answers
"""
# Answers n times.
COUNT: Final = """
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for i in range(int(request.inputs()[0].as_numpy()[0])):
                sender.send(triton.InferenceResponse([triton.Tensor("y", np.array([i], np.int32))]))
            sender.send(flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
# The sum of what a sequence has brought so far.
SUM: Final = """
class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        answers = []
        for request in requests:
            given = {tensor.name(): tensor.as_numpy().reshape(-1)[0] for tensor in request.inputs()}
            before = 0 if given["START"] else self.sums[given["ID"]]
            self.sums[given["ID"]] = before + given["x"]
            answers.append(triton.InferenceResponse([triton.Tensor("y", np.array([[before + given["x"]]], np.int32))]))
        return answers
"""
# Texts in capital letters.
UPPER: Final = """
class TritonPythonModel:
    def execute(self, requests):
        upper = np.vectorize(lambda text: text.decode().upper().encode(), otypes=[object])
        return [
            triton.InferenceResponse([triton.Tensor("y", upper(request.inputs()[0].as_numpy()))])
            for request in requests
        ]
"""
# The parameters, priority and id of a request as a text.
TERMS: Final = """
class TritonPythonModel:
    def execute(self, requests):
        return [
            triton.InferenceResponse([triton.Tensor("y", np.array(
                [[f"{request.request_id()} {request.timeout()} {request.parameters()}".encode()]], object
            ))]) for request in requests
        ]
"""
# As long as asked, whatever it says: each value is its index.
LONG: Final = """
class TritonPythonModel:
    def execute(self, requests):
        return [
            triton.InferenceResponse([triton.Tensor("y", request.inputs()[0].as_numpy() + 1)]) for request in requests
        ]
"""


def python_model(
    name: str, inputs: tuple[int, list[int]], output: tuple[int, list[int]], batch: int = 0
) -> triton.ModelConfig:
    """The configuration of a model in Python with the input `x` and the output `y`; data types are Triton's numbers."""
    config = triton.ModelConfig(name=name, backend="python", max_batch_size=batch)
    config.input.add(name="x", data_type=inputs[0], dims=inputs[1])
    config.output.add(name="y", data_type=output[0], dims=output[1])
    config.instance_group.add(kind=triton.ModelInstanceGroup.KIND_CPU, count=1)
    return config


def fashion() -> onnx.GraphProto:
    """What docs/client.md asks for: the shapes of the example, `image` `[N, 1, 28, 28]` to `logits` `[N, 10]`."""
    floats = onnx.TensorProto.FLOAT
    return helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        ],
        "fashion",
        [helper.make_tensor_value_info("image", floats, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", floats, ["N", 10])],
        [numpy_helper.from_array(np.ones((784, 10), np.float32), "weights")],
    )


def write_python(repository: Path, config: triton.ModelConfig, code: str) -> None:
    """Puts it into a repository."""
    write_files(repository, config, lambda folder: (folder / "model.py").write_text(IMPORTS + code) and None)


def write_all(repository: Path) -> None:
    """`slow`, `count`, `sum`, `upper`, `terms`, `long` (602 KB there and back) `digits` with preprocessing,
    and the model of docs/client.md."""
    floats, ints, texts = triton.TYPE_FP32, triton.TYPE_INT32, triton.TYPE_STRING
    write_python(repository, python_model("slow", (floats, [1]), (floats, [1])), SLOW)
    count = python_model("count", (ints, [1]), (ints, [1]))
    count.model_transaction_policy.decoupled = True
    write_python(repository, count, COUNT)
    total = python_model("sum", (ints, [1]), (ints, [1]), 4)
    batching, control = total.sequence_batching, triton.ModelSequenceBatching.Control
    batching.oldest.max_candidate_sequences = 4  # the other strategy fills gaps with requests of its own
    start, number = batching.control_input.add(name="START"), batching.control_input.add(name="ID")
    start.control.add(kind=control.CONTROL_SEQUENCE_START).int32_false_true.extend([0, 1])
    number.control.add(kind=control.CONTROL_SEQUENCE_CORRID, data_type=triton.TYPE_UINT64)
    write_python(repository, total, SUM)
    write_python(repository, python_model("upper", (texts, [1]), (texts, [1]), 4), UPPER)
    terms = python_model("terms", (floats, [1]), (texts, [1]), 1)
    terms.dynamic_batching.default_queue_policy.allow_timeout_override = True
    write_python(repository, terms, TERMS)
    write_python(repository, python_model("long", (floats, [1, 150528]), (floats, [1, 150528])), LONG)
    image = '{"image": [{"op": "decode_image", "mode": "L", "width": 4, "height": 4}, {"op": "scale", "by": 1.0}]}'
    parameters = {
        "trident.model": "digits",
        "trident.variant": "onnx_fp32",
        "trident.labels": '["cat", "dog", "eel"]',
        "trident.preprocess": image,
    }
    write_model(repository, "digits", digits(WEIGHTS), parameters)
    write_model(repository, "fashion_openvino_int8", fashion(), {})


@pytest.fixture(scope="session")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The models of `write_all` behind the real Triton."""
    root = tmp_path_factory.mktemp("talking")
    write_all(root / "repository")
    with Server(ServeOptions(root / "repository", run_dir=root / "run", golden_interval_s=0)) as server:
        yield server
