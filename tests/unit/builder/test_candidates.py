"""What `trident optimize` tries for a spec, and what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from builder.candidates import candidates_of
from builder.spec import ModelSpec
from builder.spec_compress import Distillation, FineTuning, LayerFactoring, Training
from tests.support.quadrants import quadrants_spec, samples

TRAINING = Training(epochs=7, lr=0.003, mirror=True)


def ladders(spec: ModelSpec) -> list[str]:
    """The first rung of each."""
    return [ladder[0] for ladder in candidates_of(spec).space.ladders]


def test_a_factored_network_is_taught_or_tuned_by_labels_alone(tmp_path: Path) -> None:
    found = candidates_of(quadrants_spec(tmp_path))
    thin, tuned = found.compressions["thin50"], found.compressions["tuned50"]
    assert thin.structure == tuned.structure
    shape, taught = thin.techniques(TRAINING)
    assert isinstance(shape, LayerFactoring)
    assert shape.share == 0.5
    assert isinstance(taught, Distillation)
    assert (taught.ask, taught.alpha, taught.train) == ("once", 0.9, TRAINING)
    again, alone = tuned.techniques(TRAINING)
    assert again == shape
    assert isinstance(alone, FineTuning)
    assert (alone.epochs, alone.lr, alone.mirror) == (7, 0.003, True)


def test_what_has_no_labels_or_no_samples_is_left_out(tmp_path: Path) -> None:
    spec = quadrants_spec(tmp_path)
    assert ladders(spec) == ["narrow25", "thin25", "tuned25"]
    np.savez(tmp_path / "training.npz", x=samples(50, 3)[0])
    assert ladders(spec) == ["narrow25", "thin25"]
    [*_, taught] = candidates_of(spec).compressions["thin25"].techniques(TRAINING, labelled=False)
    assert isinstance(taught, Distillation)
    assert taught.alpha == 1
    untrained = spec.model_copy(update={"data": spec.data.model_copy(update={"training": None})})
    assert ladders(untrained) == ["narrow25", "thin25"]
    assert not candidates_of(untrained).trains
