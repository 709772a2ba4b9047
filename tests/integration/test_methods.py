"""The rows of the opt-in variants: each leads from a checkpoint to an artifact that is still the model."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.artifact import Artifact
from builder.data import load_samples
from builder.errors import StepError
from builder.recipes import RECIPES
from builder.runtimes import predictor
from builder.source import source_artifact
from builder.spec_file import load_spec
from builder.step import run_recipe
from builder.verify import Accuracy, judge, predict_all, prove_axes
from tests.support.tiny import onnx_spec

# With the least SQNR in dB. NNCF averages the extremes of samples, which clips where a sample is but eight numbers.
VARIANTS = {
    "onnx_int8_entropy": 15, "onnx_int8_percentile": 20, "onnx_int8_smooth": 20, "onnx_int8_weights": 35,
    "onnx_int4_weights": 13, "onnx_fp16": 50, "openvino_int8_smooth": 6, "openvino_int8_weights": 35,
}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The tiny network as an ONNX checkpoint."""
    folder = tmp_path_factory.mktemp("methods")
    return source_artifact(load_spec(onnx_spec(folder)), folder / "cache")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_still_the_model(source: Artifact, variant: str) -> None:
    recipe, spec = RECIPES[variant], source.spec
    steps = recipe.steps_from("onnx")
    assert steps is not None
    artifact = run_recipe(steps, source, source.folder / "cache")
    assert artifact.history[-1] == steps[-1].name
    samples = load_samples(spec, Path(spec.data.evaluation))
    original, made = predictor(source, 1), predictor(artifact, 1)
    prove_axes(made, original, samples.inputs, spec, Accuracy(recipe.tolerance, recipe.faithful))
    outputs = [predict_all(predict, samples.inputs, spec.batch.max) for predict in (original, made)]
    noise = judge(spec, *outputs, samples.labels).sqnr_db["scores"]
    print(f"{variant}: {noise:.1f} dB")
    assert VARIANTS[variant] < noise < 150


def test_what_no_4_bits_are_good_for_is_told_of(source: Artifact) -> None:
    steps = RECIPES["openvino_int4_weights"].steps_from("onnx")
    assert steps is not None
    with pytest.raises(StepError, match=r"^tiny has no weights that can be stored in 4 bits; leave"):  # 8 of a channel
        run_recipe(steps, source, source.folder / "cache")
