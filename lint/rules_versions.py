"""Whether this server's runtimes can read the model's file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lint.check import Check, Context, Hit
from lint.finding import Rule
from lint.releases import onnx_limits, openvino_limit
from lint.repository import Model

RULES: Final = (
    Rule(
        "TRN601", "error", "The ONNX file's IR is newer than the server's ONNX Runtime",
        "A runtime refuses files of a format that came after it.",
        "Export with a lower IR version, serve with a newer Triton, or let `trident check --lower` write a copy that "
        "this one reads.",
        "Unsupported model IR version",
    ),
    Rule(
        "TRN602", "error", "The ONNX file's opset is newer than the server's ONNX Runtime",
        "A runtime only knows the operator sets that existed when it was made.",
        "Export with a lower `opset_version`, serve with a newer Triton, or let `trident check --lower` write a copy "
        "that this one reads.",
        "ONNX Runtime only *guarantees",
    ),
    Rule(
        "TRN603", "error", "The OpenVINO IR's operators are newer than the server's OpenVINO",
        "An IR written by a newer OpenVINO can hold operators that an older one does not know.",
        "Convert with the OpenVINO of that release, or serve with a newer Triton.",
    ),
    Rule(
        "TRN604", "error", "OpenVINO takes no batch but the largest",
        "NVIDIA's OpenVINO backend fixes the batch to `max_batch_size` when it loads the model. Each smaller batch, "
        "also what the batcher makes of single requests, is refused: `expected requests with batch size '8', got "
        "'2'`.",
        "Set the parameter `ENABLE_BATCH_PADDING` to `YES` (each request then costs a full batch), or "
        "`max_batch_size: 0` with -1 as the first of the dims.",
        fixable=True,
    ),
    Rule(
        "TRN605", "warning", "OpenVINO outputs of free size",
        "With a `max_batch_size`, NVIDIA's OpenVINO backend compares each output with `dims` exactly and expects full "
        "batches of one shape. Models whose outputs have free axes fail to load or to answer there (openvino_backend "
        "84, server 6747).",
        "Fix the axes (`RESHAPE_IO_LAYERS`), or use `max_batch_size: 0`; then try it on the image that will serve it.",
    ),
    Rule(
        "TRN606", "error", "An ONNX file optimized for one machine",
        "ONNX Runtime's highest optimization level stores nodes that only the same version on the same kind of CPU or "
        "GPU can run.",
        "Store the model unoptimized or at the basic level; the server optimizes it when it loads.",
    ),
)  # fmt: skip
BOUND_DOMAINS: Final = ("com.microsoft.nchwc", "com.ms.internal.nhwc")


def onnx(model: Model, context: Context) -> Iterator[Hit]:
    """IR, opset, and nodes that do not travel."""
    file = model.file
    if file is None or file.form != "onnx" or file.trouble:
        return
    ir_version, opset = onnx_limits(context.release)
    reader = f"ONNX Runtime {context.release.onnxruntime} of {context.release.said}"
    if model.backend == "onnxruntime":
        if file.ir_version > ir_version:
            yield Hit("TRN601", f"IR version {file.ir_version}; {reader} reads up to {ir_version}", file=file.path)
        if file.opset > opset:
            yield Hit("TRN602", f"opset {file.opset}; {reader} reads up to {opset}", file=file.path)
    bound = sorted(operator for operator in file.operators if operator.partition("/")[0] in BOUND_DOMAINS)
    if bound:
        yield Hit("TRN606", f"it holds {', '.join(bound[:3])}", file=file.path)


def openvino(model: Model, context: Context) -> Iterator[Hit]:
    """Operator sets, and the native backend's idea of a batch."""
    config, file = model.config, model.file
    if config is None or model.backend != "openvino":
        return
    if file is not None and file.form == "openvino" and file.opset > openvino_limit(context.release):
        limit = openvino_limit(context.release)
        reader = f"OpenVINO {context.release.openvino} of {context.release.said}"
        yield Hit("TRN603", f"opset{file.opset}; {reader} knows up to opset{limit}", file=file.path)
    limit = config.message.max_batch_size
    if not context.release.native or limit <= 1:
        return
    if config.parameter("ENABLE_BATCH_PADDING").upper() != "YES":
        text = 'parameters { key: "ENABLE_BATCH_PADDING" value { string_value: "YES" } }'
        edits = config.add(text)
        if "ENABLE_BATCH_PADDING" in config.message.parameters:
            edits = config.set_value(
                '"YES"', *config.entry("parameters", "ENABLE_BATCH_PADDING"), "value", "string_value"
            )
        yield Hit(
            "TRN604", f"max_batch_size is {limit}, and ENABLE_BATCH_PADDING is not set", ("max_batch_size",), edits
        )
    for tensor in file.outputs if file is not None else ():
        if tensor.shape and -1 in tensor.shape[1:]:
            yield Hit("TRN605", f"the output {tensor.name} has the shape {list(tensor.shape)}", ("output",))


CHECKS: Final[tuple[Check, ...]] = (onnx, openvino)
