"""FP32 to FP16 in ONNX, checked on calibration samples: what FP16 cannot hold stays in FP32, node by node."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from builder.artifact import Artifact, Format
from builder.calibration import CalibrationRows
from builder.errors import StepError
from builder.ranges import find_extremes, float_tensors, watch
from builder.step import Step
from builder.steps.quantize_onnx_static import name_nodes
from core.tensors import Arrays

LARGEST: Final = 65504.0  # that FP16 can hold
FEW: Final = 8  # samples suffice for rounding noise, of which each has thousands of values; extremes take all
TWIN: Final = "/half"


@dataclass(frozen=True)
class ToOnnxFp16(Step):
    """ONNX Runtime's conversion to FP16; inputs and outputs stay FP32. A node stays in FP32, and so does what it hands
    to the next, if on `samples` calibration samples

    - a value that it reads or makes exceeds 65504 divided by `margin`, for there are samples that were not seen, or
    - it alone, its inputs, weights and results rounded to FP16, comes out with an SQNR below `least_db`. The rounding
      itself costs about 70 dB; a node that loses more has subtracted nearly equal numbers, divided by a tiny one, or
      taken the sine of a large one. What makes its inputs stays in FP32 with it.

    Which nodes these are stands in the build's log. Both are found on the FP32 graph: a CPU without FP16 arithmetic
    computes in FP32 between the roundings, and would not show what a GPU will. Micikevicius et al., "Mixed Precision
    Training" (arXiv:1710.03740).
    """

    samples: int = 50
    margin: float = 2.0
    least_db: float = 50.0

    name: ClassVar[str] = "to_onnx_fp16"
    accepts: ClassVar[Format] = "onnx"
    produces: ClassVar[Format] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    calibrates: ClassVar[bool] = True

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.onnx`. Raises StepError if nothing is left to convert, or answers are not finite all the
        same."""
        import onnx
        from onnxruntime.quantization.onnx_model import ONNXModel
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

        rows = CalibrationRows(source.spec, self.samples)
        model = onnx.shape_inference.infer_shapes(onnx.load(source.path))
        name_nodes(model)
        kept = self._kept(model, source.path, rows)
        computing = [node for node in model.graph.node if node.op_type not in (*DEFAULT_OP_BLOCK_LIST, "Constant")]
        if all(node.name in kept for node in computing):
            raise StepError(f"{source.spec.name} has no node that could be computed in FP16; leave this variant out")
        for node in computing:
            if node.name in kept:
                print(f"{node.name} ({node.op_type}) stays in FP32: {kept[node.name]}")
        half = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True, node_block_list=list(kept))
        _join(half.graph)
        del half.graph.value_info[:]  # of tensors that are gone
        sorted_ = ONNXModel(half)
        sorted_.topological_sort()
        try:
            onnx.checker.check_model(sorted_.model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            why = str(error).strip().splitlines()[0]
            raise StepError(f"{source.spec.name} does not convert to FP16 ({why}); leave this variant out") from error
        onnx.save(sorted_.model, out_dir / "model.onnx")
        _check_finite(source, out_dir / "model.onnx", rows)

    def _kept(self, model: Any, path: Path, rows: CalibrationRows) -> dict[str, str]:
        """The names of the nodes that stay in FP32, and why."""
        from onnx import numpy_helper

        limit = LARGEST / self.margin
        greatest = {name: max(map(abs, ends)) for name, ends in find_extremes(path, float_tensors(model), rows).items()}
        for tensor in model.graph.initializer:
            value = numpy_helper.to_array(tensor)
            if value.dtype == np.float32 and value.size:
                greatest[tensor.name] = float(np.abs(value[np.isfinite(value)]).max(initial=0))
        kept: dict[str, str] = {}
        for node in model.graph.node:
            most = max((greatest.get(name, 0.0) for name in (*node.input, *node.output)), default=0.0)
            if most > limit:
                kept[node.name] = f"values up to {most:.3g}"
            elif any(attribute.HasField("g") for attribute in node.attribute):
                kept[node.name] = "it holds a graph of its own"
        makers = {output: node.name for node in model.graph.node for output in node.output}
        noise_db = _noise_db(model, kept, islice(rows, FEW))
        for node in model.graph.node:
            if noise_db.get(node.name, np.inf) < self.least_db:
                kept[node.name] = f"SQNR {noise_db[node.name]:.0f} dB in FP16"
                for name in node.input:  # what makes its inputs too: else they come to it rounded all the same
                    if name in makers:
                        kept.setdefault(makers[name], f"{node.name} needs it exact")
        return kept


def _noise_db(model: Any, left_out: Iterable[str], rows: Iterable[Arrays]) -> dict[str, float]:
    """The SQNR of each node in dB with only its own inputs, weights and results in FP16, the worst of its outputs."""
    import onnx

    floats = set(float_tensors(model))
    twins = onnx.ModelProto()
    pairs: dict[str, tuple[str, str]] = {}
    twins.CopyFrom(model)
    for node in model.graph.node:
        outputs = [name for name in node.output if name in floats]
        if node.name not in left_out and outputs:
            _add_twin(twins.graph, node, floats)
            pairs |= {name: (node.name, f"{name}{TWIN}") for name in outputs}
    energy = {name: np.zeros(2) for name in pairs}
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(twins, Path(folder, "twins.onnx"))
        asked = [*pairs, *(twin for _, twin in pairs.values())]
        for values in watch(Path(folder, "twins.onnx"), asked, rows):
            for name, (_, twin) in pairs.items():
                real, other = values[name].astype(np.float64), values[twin].astype(np.float64)
                finite = np.isfinite(real)  # an infinity is a mask, and FP16 has one too
                energy[name] += np.square(real[finite]).sum(), np.square((other - real)[finite]).sum()
    worst: dict[str, float] = {}
    for name, (node_name, _) in pairs.items():
        signal, noise = energy[name]
        found = 10 * np.log10(signal / noise) if signal and noise else (200.0 if not noise else -200.0)
        worst[node_name] = min(worst.get(node_name, 200.0), float(found) if np.isfinite(found) else -200.0)
    return worst


def _add_twin(graph: Any, node: Any, floats: set[str]) -> None:
    """Adds a copy of the node that reads rounded values and makes rounded ones, `<name>/half`."""
    import onnx
    from onnx import numpy_helper
    from onnxruntime.transformers.float16 import convert_np_to_float16

    made = {name for one in graph.node for name in one.output} | {one.name for one in graph.initializer}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    twin.name = f"{node.name}{TWIN}"
    for place, name in enumerate(node.input):
        rounded = f"{name}/rounded"
        if name in constants and constants[name].data_type == onnx.TensorProto.FLOAT:
            if rounded not in made:
                value = numpy_helper.to_array(constants[name])
                half = convert_np_to_float16(value.reshape(-1)).reshape(value.shape)
                graph.initializer.append(numpy_helper.from_array(half.astype(np.float32), rounded))
        elif name in floats:
            if rounded not in made:
                _add_rounding(graph, name, rounded)
        else:
            continue
        made.add(rounded)
        twin.input[place] = rounded
    for place, name in enumerate(node.output):
        twin.output[place] = f"{name}/exact" if name else ""
    graph.node.append(twin)
    for name in node.output:
        if name in floats:
            _add_rounding(graph, f"{name}/exact", f"{name}{TWIN}")


def _add_rounding(graph: Any, name: str, rounded: str) -> None:
    from onnx import TensorProto, helper

    graph.node.append(helper.make_node("Cast", [name], [f"{rounded}/16"], to=TensorProto.FLOAT16))
    graph.node.append(helper.make_node("Cast", [f"{rounded}/16"], [rounded], to=TensorProto.FLOAT))


def _join(graph: Any) -> None:
    """Takes out the casts to FP16 and back that the conversion puts between neighbours in FP32, where they would
    overflow; and what it wrote twice, which is where two of them read the same tensor."""
    from onnx import TensorProto

    seen: set[str] = set()
    for place, node in reversed([*enumerate(graph.node)]):
        if node.op_type == "Cast" and node.output[0] in seen:
            del graph.node[place]
        seen.update(node.output)
    narrowed = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Cast" and (node.name.endswith("_cast_to_fp16_node") or node.name[:16] == "graph_input_cast")
    }
    ends, replaced = {value.name for value in graph.output}, {}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in narrowed and node.attribute[0].i == TensorProto.FLOAT:
            if node.output[0] in ends:
                node.op_type, node.input[0] = "Identity", narrowed[node.input[0]]
                del node.attribute[:]
            else:
                replaced[node.output[0]] = narrowed[node.input[0]]
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = replaced.get(name, name)
    used = {name for node in graph.node for name in node.input} | ends
    for place, node in reversed([*enumerate(graph.node)]):
        if node.op_type == "Cast" and node.output[0] not in used:
            del graph.node[place]
            used = {name for one in graph.node for name in one.input} | ends


def _check_finite(source: Artifact, path: Path, rows: Iterable[Arrays]) -> None:
    names = [tensor.name for tensor in source.spec.outputs if np.issubdtype(tensor.datatype.numpy, np.floating)]
    for values in watch(path, names, rows):
        if bad := [name for name, value in values.items() if not np.isfinite(value).all()]:
            raise StepError(
                f"{source.spec.name} answers NaN or infinity in {bad[0]!r} in FP16, though each node alone does not; "
                f"leave this variant out of the spec"
            )
