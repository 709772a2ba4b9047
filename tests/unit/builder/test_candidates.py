"""What `trident optimize` tries for a spec, and what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from builder.candidates import candidates_of
from builder.errors import SpecError
from builder.spec import ModelSpec
from builder.spec_compress import Distillation, FineTuning, LayerFactoring, Training
from builder.spec_distill import Teacher
from builder.spec_file import load_spec
from tests.support.quadrants import quadrants, quadrants_spec, samples

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


def test_what_is_taught_is_taught_as_the_spec_says(tmp_path: Path) -> None:
    """By other teachers, at another temperature, and by what an output is, which no metric can tell."""
    path = quadrants(tmp_path)
    teacher = {"state_dict": "wide.pt", "factory": "wide.py:make"}
    wanted = {"answers": {"scores": "likelihoods"}, "temperature": 2.0, "teachers": [{}, teacher]}
    search = {**wanted, "students": ["small.py:make"]}
    path.write_text(path.read_text() + yaml.safe_dump({"optimize": search}))
    found = candidates_of(load_spec(path)).compressions
    for name in ("student1", "narrow50", "thin50"):
        [*_, taught] = found[name].techniques(TRAINING)
        assert isinstance(taught, Distillation)
        assert (taught.answers, taught.temperature, taught.train) == ({"scores": "likelihoods"}, 2.0, TRAINING)
        own, other = taught.teachers
        assert own == Teacher()
        assert (other.state_dict, other.factory) == (tmp_path / "wide.pt", f"{tmp_path}/wide.py:make")
        assert taught.student == (f"{tmp_path}/small.py:make" if name == "student1" else None)
    assert isinstance(found["tuned50"].techniques(TRAINING)[-1], FineTuning)


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        ({"answers": {"score": "numbers"}}, r"optimize\.answers names \['score'\], which are not outputs$"),
        (
            {"teachers": [{"hints": [{"match": "hidden", "layers": {"a": "b"}}]}]},
            "optimize: teachers of a search are asked once, and hints are given by their layers in each epoch; leave",
        ),
        ({"teachers": [{"factory": "wide.py:make"}]}, r"teachers\[0\]: a teacher's state_dict and factory"),
    ],
)
def test_lessons_that_cannot_be(tmp_path: Path, search: dict[str, object], sentence: str) -> None:
    path = quadrants(tmp_path)
    path.write_text(path.read_text() + yaml.safe_dump({"optimize": search}))
    with pytest.raises(SpecError, match=sentence):
        load_spec(path)


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
