"""The table of variants: an id, and the steps that lead there from the checkpoint. A new technique is one row here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from builder.artifact import Format
from builder.imports import Imported, examine_import
from builder.spec import ModelSpec
from builder.spec_checkpoint import RUN_THEIR_CONTENT
from builder.spec_compress import WeightPruning
from builder.step import Step
from builder.steps.cluster_weights import ShareWeights
from builder.steps.distill import Distill
from builder.steps.export_onnx import ExportOnnx
from builder.steps.fine_tune import FineTune
from builder.steps.fold_onnx import FoldOnnx
from builder.steps.lottery_ticket import DrawTicket
from builder.steps.low_rank import FactorLayers
from builder.steps.prune_channels import PruneChannels
from builder.steps.prune_weights import PruneWeights
from builder.steps.quantize_onnx_dynamic import QuantizeOnnxDynamic
from builder.steps.quantize_onnx_mixed import QuantizeOnnxMixed
from builder.steps.quantize_onnx_static import QuantizeOnnxStatic
from builder.steps.quantize_onnx_weights import QuantizeOnnxWeights
from builder.steps.quantize_openvino import QuantizeOpenVino
from builder.steps.quantize_openvino_controlled import QuantizeOpenVinoControlled
from builder.steps.quantize_openvino_mixed import QuantizeOpenVinoMixed
from builder.steps.quantize_openvino_weights import QuantizeOpenVinoWeights
from builder.steps.smooth_onnx import SmoothOnnx
from builder.steps.to_onnx_fp16 import ToOnnxFp16
from builder.steps.to_openvino import ToOpenVino
from builder.steps.trace_torchscript import TraceTorchScript
from builder.steps.train_quantized import TrainQuantized


@dataclass(frozen=True)
class Recipe:
    """`tolerance`: how far an answer may lie from another of the same variant (other batch, other machine), relative to
    the output's largest value: rounding in floating point; in INT8 now and then a step of the quantizer; in dynamic
    INT8 the other samples of the batch, which decide the steps' width. `faithful`: only rounding lies between it and
    the original, so that the same tolerance holds against the original. `imported`: made by another tool, no steps."""

    variant: str
    steps: tuple[Step, ...]
    tolerance: float
    faithful: bool = False
    imported: Imported | None = None

    @property
    def produces(self) -> Format:
        """The format of the variant's files."""
        return self.imported.format if self.imported else self.steps[-1].produces

    def steps_from(self, source: Format) -> tuple[Step, ...] | None:
        """The steps still to do for a checkpoint of this format, or None if the recipe does not lead through it. Only
        an export may be left out: a checkpoint in a later format has skipped nothing else."""
        if self.imported:
            return ()
        if self.steps[0].accepts == source:
            return self.steps
        exported = self.steps[0].produces == source and not self.steps[0].trains
        return self.steps[1:] if exported else None


FP32, FP16, INT8, DYNAMIC = 1e-3, 1e-2, 5e-2, 0.2
EXPORT: Final = (ExportOnnx(), FoldOnnx())
PRUNE: Final = PruneWeights(WeightPruning(step="prune_weights", share=0.3))
TRAINED: Final = (TrainQuantized(), FoldOnnx())

RECIPES: Final = {
    recipe.variant: recipe
    for recipe in (
        Recipe("torch_fp32", (TraceTorchScript(),), FP32, faithful=True),
        Recipe("onnx_fp32", EXPORT, FP32, faithful=True),
        Recipe("onnx_int8_dynamic", (*EXPORT, QuantizeOnnxDynamic()), DYNAMIC),
        Recipe("onnx_int8_static", (*EXPORT, QuantizeOnnxStatic()), INT8),
        Recipe("openvino_fp32", (*EXPORT, ToOpenVino()), FP32, faithful=True),
        Recipe("openvino_fp16", (*EXPORT, ToOpenVino(half=True)), FP32),
        Recipe("openvino_int8", (*EXPORT, ToOpenVino(), QuantizeOpenVino()), INT8),
        Recipe("pruned_onnx_fp32", (PRUNE, *EXPORT), FP32),
        Recipe("pruned_openvino_int8", (PRUNE, *EXPORT, ToOpenVino(), QuantizeOpenVino()), INT8),
        Recipe("onnx_int8_mixed", (*EXPORT, QuantizeOnnxMixed()), INT8),
        Recipe("openvino_int8_mixed", (*EXPORT, ToOpenVino(), QuantizeOpenVinoMixed()), INT8),
        Recipe("openvino_int8_controlled", (*EXPORT, ToOpenVino(), QuantizeOpenVinoControlled()), INT8),
        Recipe("onnx_int8_qat", TRAINED, INT8),
        Recipe("openvino_int8_qat", (*TRAINED, ToOpenVino()), INT8),
        Recipe("onnx_int8_entropy", (*EXPORT, QuantizeOnnxStatic(method="entropy")), INT8),
        Recipe("onnx_int8_percentile", (*EXPORT, QuantizeOnnxStatic(method="percentile")), INT8),
        Recipe("onnx_int8_smooth", (*EXPORT, SmoothOnnx(alpha=0.75), QuantizeOnnxStatic(products_only=True)), INT8),
        Recipe("onnx_int8_weights", (*EXPORT, QuantizeOnnxWeights(bits=8)), FP32),
        Recipe("onnx_int4_weights", (*EXPORT, QuantizeOnnxWeights(bits=4)), FP32),
        Recipe("onnx_fp16", (*EXPORT, ToOnnxFp16()), FP16),
        Recipe("openvino_int8_smooth", (*EXPORT, ToOpenVino(), QuantizeOpenVino(smooth=0.95)), INT8),
        Recipe("openvino_int8_weights", (*EXPORT, ToOpenVino(), QuantizeOpenVinoWeights(bits=8)), INT8),
        Recipe("openvino_int4_weights", (*EXPORT, ToOpenVino(), QuantizeOpenVinoWeights(bits=4)), INT8),
    )
}


# What a spec may put before a recipe: the technique's name there, and the step that it becomes.
TECHNIQUES: Final[dict[str, Callable[[Any], Step]]] = {
    "finetune": FineTune,
    "prune_weights": PruneWeights,
    "prune_channels": PruneChannels,
    "lottery_ticket": DrawTicket,
    "distill": Distill,
    "low_rank": FactorLayers,
    "cluster_weights": ShareWeights,
}


def recipe_of(spec: ModelSpec, variant: str) -> Recipe:
    """The recipe of one of the spec's own variants; with the steps of its compression, if any, before the others."""
    if variant in RECIPES:
        return RECIPES[variant]
    compression, _, base = variant.partition("_")
    steps = tuple(TECHNIQUES[part.step](part) for part in spec.compress[compression])
    return replace(RECIPES[base], variant=variant, steps=(*steps, *RECIPES[base].steps), faithful=False)


def recipes_of(spec: ModelSpec) -> list[Recipe]:
    """The recipes of all variants that a spec asks for, those made by other tools last. What such a file holds cannot
    be told from outside, so it has the widest tolerance. Raises CheckpointError for one that is missing or not safe."""
    own = [recipe_of(spec, variant) for variant in spec.variants]
    foreign = {name: examine_import(spec, name) for name in spec.imports}
    return own + [Recipe(f"imported_{name}", (), DYNAMIC, imported=found) for name, found in foreign.items()]


def unavailable(spec: ModelSpec, recipe: Recipe) -> str | None:
    """Why a variant cannot be made of this checkpoint or on this machine, or None if it can."""
    kind = spec.checkpoint.kind
    steps = recipe.steps_from("onnx" if kind == "onnx" else "torch")
    if steps is None:
        return f"the checkpoint is an ONNX file, and {recipe.steps[0].name} works on a PyTorch network"
    edits = next((step.name for step in steps if step.accepts == step.produces == "torch"), None)
    if edits and kind in RUN_THEIR_CONTENT:
        return f"{edits} works on the layers of a PyTorch network, and a {kind} file has none; give its state_dict"
    return next((reason for step in steps if (reason := step.unavailable())), None)
