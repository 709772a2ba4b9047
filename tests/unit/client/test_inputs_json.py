"""Inputs as people write them, and what is refused of them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.datatypes import BYTES
from client.errors import SignatureError
from client.inputs import load_inputs
from client.inputs_json import text_array
from client.metadata import ModelMetadata, TensorInfo
from core.datatypes import BY_NAME
from core.errors import InputError

FLOATS = TensorInfo("x", BY_NAME["float32"], (2,), batched=True)
WHOLE = TensorInfo("n", BY_NAME["uint8"], (1,), batched=True)
MODEL = ModelMetadata("m", ("1",), "", "", (FLOATS,), (), max_batch=2, parameters={})
TWO = replace(MODEL, inputs=(FLOATS, WHOLE))
TEXTS = replace(MODEL, inputs=(TensorInfo("t", BYTES, (1,), batched=True),))


def written(path: Path, value: object) -> list[Path]:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return [path]


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2.5], [3, 4]],
        {"x": [[1, 2.5], [3, 4]]},
        {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2.5, 3, 4]}]},
    ],
)
def test_json_in_its_three_forms(tmp_path: Path, value: object) -> None:
    loaded = load_inputs(written(tmp_path / "x.json", value), MODEL)
    np.testing.assert_array_equal(loaded["x"], np.array([[1, 2.5], [3, 4]], np.float32))
    assert loaded["x"].dtype == np.float32


def test_one_sample_needs_no_batch_axis_and_many_are_allowed(tmp_path: Path) -> None:
    assert load_inputs(written(tmp_path / "x.json", [1, 2]), MODEL)["x"].shape == (1, 2)
    assert load_inputs(written(tmp_path / "x.json", [[1, 2]] * 9), MODEL)["x"].shape == (9, 2)


def test_standard_input_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"x": [[1, 2]], "n": [[255]]}'))
    loaded = load_inputs([Path("-")], TWO)
    assert loaded["n"].dtype == np.uint8


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ("no json", InputError, "cannot be read as JSON"),
        ("3", InputError, r"must hold an object with a list for each input: x: float32 \[N, 2\]"),
        ({"y": [1]}, SignatureError, r"takes x: float32 .*x\.json has y"),
        ({"x": [[1, 2], [3]]}, InputError, "its lists differ in length"),
        ({"x": [["a", "b"]]}, InputError, "'x' must hold float32 only"),
        ({"x": [[1, 2]], "n": [[256]]}, InputError, "numbers that uint8 cannot hold"),
        ({"x": [[1, 2]], "n": [[0.5]]}, InputError, "'n' must hold uint8 only, and has float64"),
        ({"inputs": [{"name": "x", "data": [1]}]}, InputError, "is no request with inputs of name, shape and data"),
        ({"x": [[1, 2, 3]]}, SignatureError, "the arrays given are named x"),
    ],
)
def test_what_is_refused(tmp_path: Path, value: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        load_inputs(written(tmp_path / "x.json", value), TWO)


def test_texts_a_line_each(tmp_path: Path) -> None:
    loaded = load_inputs(written(tmp_path / "x.txt", "one\n\nzwei ü\n"), TEXTS)
    assert loaded["t"].tolist() == [[b"one"], ["zwei ü".encode()]]
    with pytest.raises(InputError, match="has no text; write one sample a line"):
        load_inputs(written(tmp_path / "x.txt", "\n"), TEXTS)
    with pytest.raises(InputError, match="does not exist"):
        load_inputs([tmp_path / "no.txt"], TEXTS)
    with pytest.raises(SignatureError, match=r"takes no text but x: float32 \[N, 2\].*make these arrays of the text"):
        text_array(["a"], MODEL)
    with pytest.raises(InputError, match="several at a time"):
        load_inputs([tmp_path / "x.txt", tmp_path / "y.txt"], TEXTS)
