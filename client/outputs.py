"""From a model's outputs to plain data for people and JSON."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from client.metadata import ModelMetadata
from core.errors import InferenceError
from core.tensors import Arrays

_LABELS: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])


@dataclass(frozen=True)
class Guess:
    """One class that a sample may belong to."""

    label: str
    probability: float


@dataclass(frozen=True)
class Answer:
    """What the model said about one sample: `guesses`, the likeliest first (none if the model has no labels), and
    `values`, each output as nested lists."""

    guesses: tuple[Guess, ...]
    values: dict[str, object]


def labels_of(metadata: ModelMetadata) -> tuple[str, ...]:
    """The class names in the parameter `trident.labels`; empty if there are none. Raises InferenceError if it is not a
    JSON list of texts."""
    text = metadata.parameters.get("trident.labels", "[]")
    try:
        return _LABELS.validate_json(text)
    except ValidationError as error:
        raise InferenceError(f"model {metadata.name!r}: its parameter trident.labels is no list of names") from error


def answers(outputs: Arrays, metadata: ModelMetadata, top: int = 3) -> tuple[Answer, ...]:
    """One answer for each sample of a batched model's outputs, with the `top` likeliest labels where it has any."""
    labels = labels_of(metadata)
    classes = next((array for array in outputs.values() if labels and array.shape[1:] == (len(labels),)), None)
    samples = len(next(iter(outputs.values())))
    return tuple(
        Answer(
            guesses=_guess(classes[i], labels, top) if classes is not None else (),
            values={name: _plain(array[i]) for name, array in outputs.items()},
        )
        for i in range(samples)
    )


def _plain(array: NDArray[np.generic]) -> object:
    if array.dtype.kind != "O":
        return array.tolist()
    texts = np.array(array, object)
    return np.vectorize(lambda text: text.decode(errors="replace"), otypes=[object])(texts).tolist()


def _guess(scores: NDArray[np.generic], labels: tuple[str, ...], top: int) -> tuple[Guess, ...]:
    probabilities = as_probabilities(scores)
    best = np.argsort(-probabilities, kind="stable")[:top]
    return tuple(Guess(labels[i], float(probabilities[i])) for i in best)


def as_probabilities(scores: NDArray[np.generic]) -> NDArray[np.float64]:
    """`[classes]` as they are if they are probabilities already (none negative, sum 1), else their softmax."""
    values = scores.astype(np.float64)
    if values.min() >= 0 and abs(values.sum() - 1) < 1e-3:
        return values
    powers: NDArray[np.float64] = np.exp(values - values.max())
    probabilities: NDArray[np.float64] = powers / powers.sum()
    return probabilities
