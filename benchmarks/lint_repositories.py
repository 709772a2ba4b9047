"""Good repositories after the examples in Triton's documentation and tutorials, written anew: what each shows (a
sequence, an ensemble, a label file, an accelerator) is kept, names and layers are ours. `trident lint` must raise no
alarm on any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from onnx import TensorProto, helper

Shape = list[int | str]
Ports = dict[str, tuple[int, Shape]]
F32, I32, I64, TEXT = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.STRING
CODE: Final = b"class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"


def network(inputs: Ports, outputs: Ports) -> bytes:
    """An ONNX file with a signature and next to nothing in it."""
    first = next(iter(inputs))
    nodes = [helper.make_node("Identity", [first], [name]) for name in outputs]
    described = [
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in ports.items()]
        for ports in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "example", *described)
    return bytes(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    )


def model(root: Path, name: str, config: str, file_name: str = "", data: bytes = b"") -> Path:
    """A model with one version. Returns its folder."""
    folder = root / name
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)
    if file_name:
        (folder / "1" / file_name).write_bytes(data)
    return folder


def tensor(name: str, kind: str, dims: str, more: str = "") -> str:
    """One entry of `input` or `output`."""
    return f'{{ name: "{name}" data_type: TYPE_{kind} dims: [ {dims} ] {more}}}'


def ports(side: str, *tensors: str) -> str:
    """`input` or `output` as a list."""
    return f"{side} [\n  " + ",\n  ".join(tensors) + "\n]\n"


CPU: Final = "instance_group [ { count: 1 kind: KIND_CPU } ]\n"


def classifier(root: Path) -> None:
    """An image classifier without batching, reshaped, with labels (the quick start's DenseNet)."""
    config = (
        'name: "densenet"\nplatform: "onnxruntime_onnx"\nmax_batch_size: 0\n'
        + ports(
            "input", tensor("data", "FP32", "3, 224, 224", "format: FORMAT_NCHW reshape { shape: [ 1, 3, 224, 224 ] } ")
        )
        + ports(
            "output", tensor("prob", "FP32", "10", 'reshape { shape: [ 1, 10, 1, 1 ] } label_filename: "names.txt" ')
        )
    )
    file = network({"data": (F32, [1, 3, 224, 224])}, {"prob": (F32, [1, 10, 1, 1])})
    folder = model(root, "densenet", config, "model.onnx", file)
    (folder / "names.txt").write_text("".join(f"class {number}\n" for number in range(10)))


def sum_and_difference(root: Path) -> None:
    """Two inputs, two outputs, batches up to 8."""
    config = (
        'name: "simple"\nbackend: "onnxruntime"\nmax_batch_size: 8\n'
        + ports("input", tensor("a", "INT32", "16"), tensor("b", "INT32", "16"))
        + ports("output", tensor("sum", "INT32", "16"), tensor("difference", "INT32", "16"))
    )
    both: Shape = ["n", 16]
    file = network({"a": (I32, both), "b": (I32, both)}, {"sum": (I32, both), "difference": (I32, both)})
    model(root, "simple", config, "model.onnx", file)


def strings(root: Path) -> None:
    """Text in, text out, of any length, in Python."""
    config = (
        'name: "echo"\nbackend: "python"\nmax_batch_size: 8\n'
        + ports("input", tensor("text", "STRING", "-1"))
        + ports("output", tensor("reply", "STRING", "-1"))
        + "dynamic_batching { }\n"
    )
    model(root, "echo", config, "model.py", CODE)


def sequence(root: Path) -> None:
    """An accumulator with the sequence batcher's control inputs."""
    config = (
        'name: "accumulate"\nbackend: "onnxruntime"\nmax_batch_size: 4\n'
        "sequence_batching {\n  max_sequence_idle_microseconds: 5000000\n  control_input [\n"
        '    { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },\n'
        '    { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } ] }\n  ]\n}\n'
        + ports("input", tensor("value", "INT32", "1"))
        + ports("output", tensor("total", "INT32", "1"))
        + "instance_group [ { kind: KIND_CPU count: 1 } ]\n"
    )
    one: Shape = ["n", 1]
    file = network({"value": (I32, one), "START": (I32, one), "READY": (I32, one)}, {"total": (I32, one)})
    model(root, "accumulate", config, "model.onnx", file)


def implicit_state(root: Path) -> None:
    """The server keeps the state between the requests of a sequence."""
    config = (
        'name: "remember"\nbackend: "onnxruntime"\nmax_batch_size: 4\nsequence_batching {\n'
        '  control_input [ { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] } ]\n'
        '  state [ { input_name: "before" output_name: "after" data_type: TYPE_FP32 dims: [ 8 ]\n'
        '    initial_state { data_type: TYPE_FP32 dims: [ 8 ] zero_data: true name: "zero" } } ]\n}\n'
        + ports("input", tensor("x", "FP32", "8"))
        + ports("output", tensor("y", "FP32", "8"))
        + CPU
    )
    row: Shape = ["n", 8]
    inputs: Ports = {"x": (F32, row), "before": (F32, row), "START": (F32, ["n", 1])}
    model(root, "remember", config, "model.onnx", network(inputs, {"y": (F32, row), "after": (F32, row)}))


def text_spotting(root: Path) -> None:
    """Five models and the ensemble that joins them (the tutorials' reading of text in images)."""
    detect: Ports = {"image": (F32, ["n", "h", "w", 3])}
    maps: Ports = {"score": (F32, ["n", "a", "b", 1]), "geometry": (F32, ["n", "a", "b", 5])}
    model(
        root,
        "detection",
        'name: "detection"\nbackend: "onnxruntime"\nmax_batch_size: 16\n'
        + ports("input", tensor("image", "FP32", "-1, -1, 3"))
        + ports("output", tensor("score", "FP32", "-1, -1, 1"), tensor("geometry", "FP32", "-1, -1, 5"))
        + "dynamic_batching { }\n",
        "model.onnx",
        network(detect, maps),
    )
    model(
        root,
        "recognition",
        'name: "recognition"\nbackend: "onnxruntime"\nmax_batch_size: 16\n'
        + ports("input", tensor("crop", "FP32", "1, 32, 100"))
        + ports("output", tensor("letters", "FP32", "26, 37"))
        + "dynamic_batching { }\n",
        "model.onnx",
        network({"crop": (F32, ["n", 1, 32, 100])}, {"letters": (F32, ["n", 26, 37])}),
    )
    for name, inputs, outputs in (
        ("decode", [tensor("bytes", "UINT8", "-1")], [tensor("image", "FP32", "-1, -1, 3")]),
        (
            "cut",
            [
                tensor("score", "FP32", "-1, -1, 1"),
                tensor("geometry", "FP32", "-1, -1, 5"),
                tensor("image", "FP32", "-1, -1, 3"),
            ],
            [tensor("crop", "FP32", "1, 32, 100")],
        ),
        ("spell", [tensor("letters", "FP32", "26, 37")], [tensor("text", "STRING", "1")]),
    ):
        config = f'name: "{name}"\nbackend: "python"\nmax_batch_size: 16\n' + ports("input", *inputs)
        model(root, name, config + ports("output", *outputs) + "dynamic_batching { }\n" + CPU, "model.py", CODE)
    steps = (
        ("decode", {"bytes": "bytes"}, {"image": "decoded"}),
        ("detection", {"image": "decoded"}, {"score": "score", "geometry": "geometry"}),
        ("cut", {"score": "score", "geometry": "geometry", "image": "decoded"}, {"crop": "crop"}),
        ("recognition", {"crop": "crop"}, {"letters": "letters"}),
        ("spell", {"letters": "letters"}, {"text": "text"}),
    )
    ends = (tensor("bytes", "UINT8", "-1"), tensor("text", "STRING", "1"))
    model(root, "reader", ensemble("reader", 16, *ends, steps))


def ensemble(
    name: str, batch: int, input_: str, output: str, steps: tuple[tuple[str, dict[str, str], dict[str, str]], ...]
) -> str:
    """An ensemble's configuration; a step is its model, its inputs and its outputs."""
    text = [
        f'    {{ model_name: "{callee}" model_version: -1\n'
        + "".join(f'      input_map {{ key: "{key}" value: "{value}" }}\n' for key, value in inputs.items())
        + "".join(f'      output_map {{ key: "{key}" value: "{value}" }}\n' for key, value in outputs.items())
        + "    }"
        for callee, inputs, outputs in steps
    ]
    return (
        f'name: "{name}"\nplatform: "ensemble"\nmax_batch_size: {batch}\n'
        + ports("input", input_)
        + ports("output", output)
        + "ensemble_scheduling {\n  step [\n"
        + ",\n".join(text)
        + "\n  ]\n}\n"
    )


def tokenizer_and_encoder(root: Path) -> None:
    """An ensemble of a tokenizer in Python and an encoder in ONNX."""
    ids = [tensor("ids", "INT64", "-1"), tensor("mask", "INT64", "-1")]
    config = 'name: "tokenize"\nbackend: "python"\nmax_batch_size: 8\n' + ports("input", tensor("text", "STRING", "1"))
    model(root, "tokenize", config + ports("output", *ids) + "dynamic_batching { }\n", "model.py", CODE)
    row: Shape = ["n", "s"]
    file = network({"ids": (I64, row), "mask": (I64, row)}, {"vector": (F32, ["n", 384])})
    config = 'name: "encode"\nbackend: "onnxruntime"\nmax_batch_size: 8\n' + ports("input", *ids)
    config += ports("output", tensor("vector", "FP32", "384")) + "dynamic_batching { }\n"
    model(root, "encode", config, "model.onnx", file)
    steps = (
        ("tokenize", {"text": "text"}, {"ids": "ids", "mask": "mask"}),
        ("encode", {"ids": "ids", "mask": "mask"}, {"vector": "vector"}),
    )
    ends = (tensor("text", "STRING", "1"), tensor("vector", "FP32", "384"))
    model(root, "embed", ensemble("embed", 8, *ends, steps))


def one_layer(more: str, backend: str = "onnxruntime", name: str = "net", batch: int = 8) -> Callable[[Path], None]:
    """An ONNX model with an addition to its configuration."""
    text = f'name: "{name}"\nbackend: "{backend}"\nmax_batch_size: {batch}\n'
    text += ports("input", tensor("x", "FP32", "4")) + ports("output", tensor("y", "FP32", "4"))
    row: Shape = ["n", 4]

    def make(root: Path) -> None:
        file_name, data = {
            "onnxruntime": ("model.onnx", network({"x": (F32, row)}, {"y": (F32, row)})),
            "tensorrt": ("model.plan", b"ftrt" + bytes(64)),
            "python": ("model.py", CODE),
            "vllm": ("model.json", b"{}"),
            "identity": ("", b""),
        }[backend]
        model(root, name, text + more, file_name, data)

    return make


def ragged(root: Path) -> None:
    """Requests of different lengths in one batch."""
    config = (
        'name: "ragged"\nbackend: "onnxruntime"\nmax_batch_size: 16\n'
        + ports("input", tensor("x", "FP32", "-1", "allow_ragged_batch: true "))
        + ports("output", tensor("y", "FP32", "1"))
        + "batch_input [ {\n  kind: BATCH_ACCUMULATED_ELEMENT_COUNT\n"
        '  target_name: "ends" data_type: TYPE_FP32 source_input: "x"\n} ]\n'
        "dynamic_batching { max_queue_delay_microseconds: 500 }\n"
    )
    model(
        root, "ragged", config, "model.onnx", network({"x": (F32, ["n"]), "ends": (F32, ["n"])}, {"y": (F32, ["n", 1])})
    )


def versions(root: Path) -> None:
    """Three versions, of which two are named."""
    one_layer("version_policy { specific { versions: [ 1, 3 ] } }\ndynamic_batching { }\n")(root)
    for number in ("2", "3"):
        (root / "net" / number).mkdir()
        (root / "net" / number / "model.onnx").write_bytes((root / "net" / "1" / "model.onnx").read_bytes())


GPU: Final = "instance_group [ { count: 1 kind: KIND_GPU } ]\n"
DOCUMENTED: Final[dict[str, Callable[[Path], None]]] = {
    "classifier with labels": classifier,
    "sum and difference": sum_and_difference,
    "strings": strings,
    "sequence": sequence,
    "implicit state": implicit_state,
    "text spotting, an ensemble of five": text_spotting,
    "tokenizer and encoder": tokenizer_and_encoder,
    "ragged batches": ragged,
    "versions": versions,
    "dynamic batching with a delay": one_layer("dynamic_batching { max_queue_delay_microseconds: 100 }\n"),
    "priorities and timeouts": one_layer(
        "dynamic_batching {\n  priority_levels: 2\n  default_priority_level: 1\n"
        "  default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 500000 max_queue_size: 32 }\n"
        "  priority_queue_policy { key: 2 value { timeout_action: DELAY max_queue_size: 8 } }\n}\n"
    ),
    "two instances on each of two GPUs": one_layer(
        "instance_group [ { count: 2 kind: KIND_GPU gpus: [ 0, 1 ] } ]\ndynamic_batching { }\n"
    ),
    "ONNX through TensorRT": one_layer(
        GPU + 'optimization { execution_accelerators { gpu_execution_accelerator : [ { name : "tensorrt" '
        'parameters { key: "precision_mode" value: "FP16" } } ] } }\ndynamic_batching { }\n'
    ),
    "ONNX through OpenVINO": one_layer(
        CPU + 'optimization { execution_accelerators { cpu_execution_accelerator : [ { name : "openvino" } ] } }\n'
        "dynamic_batching { }\n"
    ),
    "TensorRT with a profile and CUDA graphs": one_layer(
        'instance_group [ { count: 1 kind: KIND_GPU profile: [ "0" ] } ]\noptimization { cuda { graphs: true } }\n'
        "dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }\n",
        "tensorrt",
    ),
    "decoupled": one_layer("model_transaction_policy { decoupled: true }\n", "python", batch=0),
    "iterative sequence": one_layer(
        "sequence_batching { iterative_sequence: true }\nmodel_transaction_policy { decoupled: true }\n", "python"
    ),
    "response cache": one_layer("response_cache { enable: true }\ndynamic_batching { }\n"),
    "rate limiter": one_layer(
        "instance_group [ { count: 1 kind: KIND_CPU\n"
        '  rate_limiter { resources [ { name: "R" count: 4 } ] priority: 2 } } ]\n'
        "dynamic_batching { }\n"
    ),
    "warm-up": one_layer(
        'model_warmup [ { name: "zeros" batch_size: 1\n'
        '  inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } } ]\n'
        "dynamic_batching { }\n"
    ),
    "a language model": one_layer("instance_group [ { count: 1 kind: KIND_MODEL } ]\n", "vllm", batch=0),
    "histograms of its own": one_layer(
        "model_metrics { metric_control: [ {\n"
        '  metric_identifier: { family: "nv_inference_first_response_histogram_ms" }\n'
        "  histogram_options: { buckets: [ 1, 2, 4, 8 ] } } ] }\ndynamic_batching { }\n"
    ),
    "an environment of its own": one_layer(
        'parameters: { key: "EXECUTION_ENV_PATH", value: { string_value: "$$TRITON_MODEL_DIRECTORY/env.tar.gz" } }\n'
        "dynamic_batching { }\n",
        "python",
    ),
}
