"""What is left of a training that was planned, and perhaps begun."""

from __future__ import annotations

from pathlib import Path

from builder.finetune import fit, labelled_task
from builder.recipes import Recipe
from builder.search_work import Cost, training_left_s
from builder.source import load_torch, source_artifact
from builder.spec_compress import FineTuning, Training, WeightPruning
from builder.step import run_recipe, unfinished
from builder.steps.fine_tune import FineTune
from builder.steps.prune_weights import PruneWeights
from builder.worker import Workplace
from tests.support.quadrants import quadrants_spec

COST = Cost(before_s=10.0, epoch_s=100.0)


def test_what_was_done_of_a_training_need_not_be_done_again(tmp_path: Path) -> None:
    spec, place = quadrants_spec(tmp_path / "model"), Workplace(tmp_path, tmp_path / "cache")
    steps = (
        PruneWeights(WeightPruning(step="prune_weights", share=0.5)),
        FineTune(FineTuning(step="finetune", epochs=3, batch=200)),
    )
    recipe = Recipe("small_onnx_fp32", steps, 0.0)
    assert training_left_s(spec, recipe, 3, COST, place) == 310
    source = source_artifact(spec, place.cache)
    folder = unfinished(steps, source, place.cache)
    assert folder is not None
    network = load_torch(spec)
    fit(network, labelled_task(spec, Training(epochs=2, batch=200), network, folder / "training.pt"))
    assert training_left_s(spec, recipe, 3, COST, place) == 110
    (folder / "training.pt").write_bytes(b"damaged")
    assert training_left_s(spec, recipe, 3, COST, place) == 310
    run_recipe(steps[:1], source, place.cache)
    assert unfinished(steps, source, place.cache) == folder
    run_recipe(steps, source, place.cache)
    assert not folder.exists()  # it was what the step went on from
    assert training_left_s(spec, recipe, 3, COST, place) == 0
