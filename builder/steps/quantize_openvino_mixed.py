"""INT8 where the network can bear it: NNCF's quantization, the layers that INT8 hurts most left in float."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from builder.artifact import Artifact, Format
from builder.doctor import Parts, Plan, split_calibration, treat
from builder.step import Step

# What may lie between a quantized value and the operator that computes with it. NNCF quantizes before these.
PASSED: Final = {
    "MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "StridedSlice", "Split", "VariadicSplit",
    "Concat", "Pad", "Convert", "Tile", "Broadcast", "Gather",
}  # fmt: skip
NO_LAYERS: Final = {"Result", "ShapeOf", "FakeQuantize"}


@dataclass(frozen=True)
class QuantizeOpenVinoMixed(Step):
    """As `QuantizeOpenVino`, in mixed precision found by the doctor (`builder/doctor.py`).

    A *layer* is one operator with its weights and the activations that it reads. NNCF quantizes the whole network once,
    by `FakeQuantize` nodes; each trial takes those out that some layers read, and gives these layers back the biases
    that NNCF had corrected for the error of their INT8. Weights become integers in the model that stays.
    """

    plan: Plan = field(default_factory=Plan)
    headroom: bool = True

    name: ClassVar[str] = "quantize_openvino_mixed"
    accepts: ClassVar[Format] = "openvino"
    produces: ClassVar[Format] = "openvino"
    tools: ClassVar[tuple[str, ...]] = ("openvino", "nncf")
    calibrates: ClassVar[bool] = True
    judges: ClassVar[bool] = True

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.xml`, `model.bin` and `layers.json`. Raises StepError as `treat` does."""
        import openvino

        parts = split_calibration(source.spec, self.plan)
        original = openvino.Core().read_model(source.path)
        quantized = _quantized(original, parts, self.headroom)
        layers = _layers(quantized)

        def write(floats: AbstractSet[str], folder: Path) -> None:
            openvino.save_model(_without(quantized, original, floats), folder / "model.xml", compress_to_fp16=False)

        treat(source, out_dir, self.plan, parts, layers, write)


def _quantized(original: Any, parts: Parts, headroom: bool) -> Any:
    """The network with all layers in INT8, weights still as floats behind `FakeQuantize` nodes."""
    import nncf
    from nncf.openvino.quantization.backend_parameters import BackendParameters
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    return nncf.quantize(
        original,
        nncf.Dataset(parts.rows),
        subset_size=len(parts.rows),
        advanced_parameters=AdvancedQuantizationParameters(
            overflow_fix=OverflowFix.ENABLE if headroom else OverflowFix.DISABLE,
            backend_params={BackendParameters.COMPRESS_WEIGHTS: False},
        ),
    )


def _name(node: Any) -> str:
    """The operator's name in the ONNX graph, to which OpenVINO adds where it splits the bias off."""
    name: str = node.get_friendly_name()
    return name.removesuffix("/WithoutBiases")


def _fakes(model: Any) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]


def _readers(output: Any) -> Iterator[Any]:
    """The inputs of operators that compute with this output, also through reshapes and the like."""
    for target in output.get_target_inputs():
        node = target.get_node()
        if node.get_type_name() in PASSED and not _looks_up(node):
            for further in node.outputs():
                yield from _readers(further)
        elif node.get_type_name() not in NO_LAYERS:
            yield target


def _looks_up(node: Any) -> bool:
    """An embedding: what is gathered from is a quantized table of weights, and not a value on its way."""
    if node.get_type_name() != "Gather":
        return False
    table = node.input_value(0).get_node()
    return table.get_type_name() == "FakeQuantize" and bool(
        table.input_value(0).get_node().get_type_name() == "Constant"
    )


def _layers(model: Any) -> dict[str, str]:
    """The operators that compute with something quantized, name -> type, in the graph's order."""
    names = {reader.get_node().get_friendly_name() for fake in _fakes(model) for reader in _readers(fake.output(0))}
    nodes = [node for node in model.get_ordered_ops() if node.get_friendly_name() in names]
    return {_name(node): node.get_type_name() for node in nodes}


def _without(quantized: Any, original: Any, floats: AbstractSet[str]) -> Any:
    """A copy of `quantized` in which these layers compute with what they do in `original`."""
    from openvino import opset13
    from openvino._offline_transformations import compress_quantize_weights_transformation

    model = quantized.clone()
    for fake in _fakes(model):
        readers = list(_readers(fake.output(0)))
        int8 = [reader for reader in readers if _name(reader.get_node()) not in floats]
        if len(int8) == len(readers):
            continue
        for target in fake.output(0).get_target_inputs():
            target.replace_source_output(fake.input_value(0))
        ranges = [fake.input_value(port) for port in range(1, 5)]
        for reader in int8:  # these share the value with a layer in float: each gets the quantization for itself
            own = opset13.fake_quantize(reader.get_source_output(), *ranges, levels=fake.get_attributes()["levels"])
            reader.replace_source_output(own.output(0))
    _restore_biases(model, original, floats)
    compress_quantize_weights_transformation(model)  # as NNCF itself does at the end
    model.validate_nodes_and_infer_types()
    return model


def _restore_biases(model: Any, original: Any, floats: AbstractSet[str]) -> None:
    """Undoes NNCF's correction, and its insertion, of the biases behind these layers."""
    from openvino import opset13

    before = {node.get_friendly_name(): node for node in original.get_ops() if node.get_type_name() == "Add"}
    for node in model.get_ops():
        name = node.get_friendly_name()
        if node.get_type_name() != "Add" or not (bias := _bias(node, floats)):
            continue
        port, value = bias
        old = _bias(before[name], floats) if name in before else None
        if old:
            value = old[1]
        elif name.endswith("nncf_null_bias_"):  # there was none
            value = value * 0
        node.input(port).replace_source_output(opset13.constant(value).output(0))


def _bias(add: Any, floats: AbstractSet[str]) -> tuple[int, Any] | None:
    """The port and value of the constant that an Add adds to one of these layers' results, if that is what it does."""
    for port in (0, 1):
        constant, layer = add.input_value(port).get_node(), add.input_value(1 - port).get_node()
        if constant.get_type_name() == "Constant" and _name(layer) in floats:
            return port, constant.get_data()
    return None
