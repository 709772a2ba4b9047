"""What is written beside a published version: where it comes from, what it needs, how it was judged."""

from __future__ import annotations

import hashlib

from builder.artifact import FILES
from builder.keys import TOOLS, Keys
from builder.recipes import Recipe
from builder.spec import ModelSpec
from builder.worker import Built
from core.files import sha256_file
from core.machine import cores, isa_flags, now, versions
from core.results import Passport


def make_passport(spec: ModelSpec, recipe: Recipe, keys: Keys, key: str, built: Built) -> Passport:
    """The passport of a variant that is about to be published; `key` is its build key."""
    artifact = built.artifact
    calibrated = any(step.calibrates for step in recipe.steps)
    trained = any(step.reads_training for step in recipe.steps)
    return Passport(
        model=spec.name,
        variant=recipe.variant,
        format=artifact.format,
        inputs=spec.inputs,
        outputs=spec.outputs,
        max_batch=spec.batch.max,
        files={name: sha256_file(file) for name, file in zip(FILES[artifact.format], artifact.files, strict=True)},
        history=artifact.history,
        source_sha256=keys.source,
        calibration_sha256=keys.calibration if calibrated else None,
        training_sha256=keys.training if trained else None,
        build_key=key,
        opset=built.opset,
        ir_version=built.ir_version,
        tools=versions(TOOLS),
        isa_flags=isa_flags(),
        cores=cores(),
        golden_sha256=hashlib.sha256(built.golden).hexdigest(),
        golden_tolerance=built.golden_tolerance,
        verdict=built.verdict,
        timing=built.timing,
        costs=built.costs,
        built_at=now(),
    )
