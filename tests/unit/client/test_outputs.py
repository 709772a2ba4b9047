"""From outputs to plain data."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from client.metadata import ModelMetadata, TensorInfo
from client.outputs import Guess, answers, as_probabilities, labels_of
from core.datatypes import BY_NAME
from core.errors import InferenceError

LOGITS = TensorInfo("logits", BY_NAME["float32"], (3,), batched=True)
UNLABELLED = ModelMetadata("pets", ("1",), "", "onnxruntime", (), (LOGITS,), max_batch=4, parameters={})
PETS = replace(UNLABELLED, parameters={"trident.labels": json.dumps(["cat", "dog", "eel"])})
OUTPUT = np.array([[0.0, 2.0, 1.0], [5.0, 0.0, 0.0]], np.float32)


def test_labels_come_with_their_softmax_probability_the_likeliest_first() -> None:
    first, second = answers({"logits": OUTPUT}, PETS, top=2)
    total = 1 + np.e + np.e**2
    assert [guess.label for guess in first.guesses] == ["dog", "eel"]
    assert [guess.probability for guess in first.guesses] == pytest.approx([np.e**2 / total, np.e / total])
    assert second.guesses[0].label == "cat"


def test_probabilities_are_left_as_they_are() -> None:
    given = np.array([0.2, 0.5, 0.3], np.float32)
    np.testing.assert_array_equal(as_probabilities(given), given.astype(np.float64))
    answer = answers({"logits": given[None]}, PETS, top=1)[0]
    assert answer.guesses == (Guess("dog", pytest.approx(0.5)),)


def test_softmax_survives_large_logits() -> None:
    np.testing.assert_allclose(as_probabilities(np.array([1e4, 1e4, -1e4])), [0.5, 0.5, 0])


def test_without_labels_there_are_values_only_ready_for_json() -> None:
    rows = answers({"logits": OUTPUT}, UNLABELLED)
    assert [row.guesses for row in rows] == [(), ()]
    assert json.loads(json.dumps(rows[0].values)) == {"logits": [0.0, 2.0, 1.0]}


def test_an_output_of_another_size_is_not_labelled() -> None:
    assert answers({"mask": np.zeros((1, 2, 2), np.float32)}, PETS)[0].guesses == ()


@pytest.mark.parametrize("text", ["no json", '{"a": 1}', "[1, 2]"])
def test_labels_that_are_no_list_of_texts_are_one_sentence(text: str) -> None:
    with pytest.raises(InferenceError, match=r"^model 'pets': its parameter trident\.labels is no list of names$"):
        labels_of(replace(PETS, parameters={"trident.labels": text}))
