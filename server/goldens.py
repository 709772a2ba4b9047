"""The golden inference: a version counts as ready only if it still gives the answers that it was published with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from core.errors import InputError
from core.results import Passport
from core.samples import read_arrays, split_pack
from core.tensors import Arrays
from server.probe import Probe


@dataclass(frozen=True)
class Goldens:
    """Inputs `[n, ...]`, the answers expected to them, and for each output the largest absolute difference allowed."""

    inputs: Arrays
    expected: Arrays
    tolerance: dict[str, float]


def read_goldens(version_folder: Path) -> Goldens | None:
    """The goldens of a published version; None for one that was made by hand and has none. Raises InputError if they
    are damaged or do not belong together."""
    path, passport_path = version_folder / "golden.npz", version_folder / "passport.json"
    if not path.exists() or not passport_path.exists():
        return None
    try:
        tolerance = Passport.model_validate_json(passport_path.read_bytes()).golden_tolerance
    except (OSError, ValidationError) as error:
        raise InputError(f"{passport_path} cannot be read; publish the model again") from error
    inputs, expected = split_pack(read_arrays(path))
    if not inputs or not expected or set(expected) != set(tolerance):
        raise InputError(f"{path} and passport.json do not describe the same outputs; publish the model again")
    return Goldens(inputs, expected, tolerance)


def check(probe: Probe, model: str, version: int, goldens: Goldens) -> str:
    """What is wrong with the model's answers, in one sentence, or nothing. Raises AnswerError and NoAnswerError."""
    for inputs, expected in _chunks(goldens, probe.max_batch(model)):
        answers = probe.infer(model, version, inputs, tuple(expected))
        for name, wanted in expected.items():
            complaint = _compare(answers[name], wanted, goldens.tolerance[name])
            if complaint:
                return f"its output {name} {complaint}"
    return ""


def _chunks(goldens: Goldens, max_batch: int) -> Iterator[tuple[Arrays, Arrays]]:
    if max_batch == 0:  # the first axis is no batch
        yield goldens.inputs, goldens.expected
        return
    count = len(next(iter(goldens.inputs.values())))
    for at in range(0, count, max_batch):
        rows = slice(at, at + max_batch)
        yield _rows(goldens.inputs, rows), _rows(goldens.expected, rows)


def _rows(arrays: Arrays, rows: slice) -> Arrays:
    return {name: array[rows] for name, array in arrays.items()}


def _compare(answer: NDArray[np.generic], expected: NDArray[np.generic], tolerance: float) -> str:
    if answer.shape != expected.shape:
        return f"has shape {list(answer.shape)} where {list(expected.shape)} was published"
    difference = float(np.abs(answer.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0))
    if not difference <= tolerance:  # also when it is not a number
        return f"differs from the published answers by up to {difference:.3g}, and {tolerance:.3g} is allowed"
    return ""
