"""Folds an ONNX graph: what can be computed once is computed once, and the file stays portable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from builder.artifact import Artifact, Format
from builder.errors import StepError
from builder.onnx_names import rename_values
from builder.step import Step

if TYPE_CHECKING:
    import onnx

MIN_OPSET = 14  # below it, per-channel Q/DQ (13) and what runtimes optimize best do not exist


@dataclass(frozen=True)
class FoldOnnx(Step):
    """ONNX Runtime's *basic* level: constants folded, batch norms merged into convolutions, dead and redundant nodes
    dropped. Higher levels write nodes for one kind of CPU and one version of the runtime into the file; they are
    applied whenever the model is loaded instead."""

    name: ClassVar[str] = "fold_onnx"
    accepts: ClassVar[Format] = "onnx"
    produces: ClassVar[Format] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.onnx`. Raises StepError if nodes came in that other runtimes may lack."""
        import onnx
        import onnxruntime

        target = out_dir / "model.onnx"
        before = _raised(onnx.load(source.path), source.spec.name)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(before.SerializeToString(), options, providers=["CPUExecutionProvider"])
        model = onnx.load(target)
        rename_values(
            model.graph, "InsertedPrecisionFreeCast_", "folded/"
        )  # it gives these names anew to the next file
        del model.graph.value_info[:]  # stale: folding transposes weights and leaves their old shapes there
        domains = {node.domain for node in model.graph.node}
        if added := domains - {node.domain for node in before.graph.node}:
            raise StepError(f"{source.spec.name}: folding added operators of {', '.join(sorted(added))}; please report")
        for entry in [entry for entry in model.opset_import if entry.domain not in domains | {""}]:
            model.opset_import.remove(entry)  # ONNX Runtime names all that it knows
        onnx.checker.check_model(model, full_check=True)
        target.write_bytes(model.SerializeToString(deterministic=True))


def _raised(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model at MIN_OPSET if it is older. Raises StepError if ONNX's converter cannot."""
    import onnx.version_converter

    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=MIN_OPSET)
    if opset >= MIN_OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, MIN_OPSET)
    except (RuntimeError, ValueError) as error:
        why = str(error).strip().splitlines()[0]
        raise StepError(
            f"{name} is at opset {opset}, and ONNX cannot convert it to {MIN_OPSET} ({why}); export it at a newer opset"
        ) from error
