"""The hashes that decide whether anything has to be built, made without loading any of the heavy libraries."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from builder.data import data_sha256, metric_key, training_sha256
from builder.own_code import own_code
from builder.recipes import Recipe
from builder.source import hash_input, more_tools, source_sha256
from builder.spec import ModelSpec
from core.files import sha256_parts
from core.machine import cores, isa_flags, versions

TOOLS: Final = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "numpy", "torch-pruning")
# What the server is told, not what the artifact is: a change of these replaces config.pbtxt and builds nothing.
SERVING_ONLY: Final = {
    "serving", "labels", "postprocess", "target", "variants", "imports", "compress", "optimize", "pad",
}  # fmt: skip


@dataclass(frozen=True)
class Keys:
    """The hashes that decide whether anything has to be done. `base` covers all but the variant."""

    model: str
    source: str
    calibration: str
    training: str  # the calibration's where the spec names no training data
    base: str

    def of(self, recipe: Recipe) -> str:
        """The build key of one variant."""
        files = [hash_input(file, "`compress`", self.model) for step in recipe.steps for file in step.reads()]
        return sha256_parts([self.base, recipe.variant, repr(recipe), *files])


def make_keys(spec: ModelSpec) -> Keys:
    """Hashes everything that decides the results, without loading any of the heavy libraries."""
    source = source_sha256(spec)
    calibration, evaluation = data_sha256(spec)
    # Paths are left out: their contents are hashed, and the same model elsewhere is the same model.
    wishes = spec.model_dump_json(exclude={*SERVING_ONLY, "checkpoint", "data", "metric"})
    tools = json.dumps(versions((*TOOLS, *more_tools(spec))), sort_keys=True)
    facts = f"{cores()} {isa_flags()} {own_code()}"
    training = training_sha256(spec) or calibration
    parts = [source, calibration, evaluation, training, wishes, metric_key(spec), tools, facts]
    return Keys(spec.name, source, calibration, training, sha256_parts(parts))
