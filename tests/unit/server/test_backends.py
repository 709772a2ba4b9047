"""The parts of the backends that know nothing of Triton."""

from __future__ import annotations

import json

import numpy as np
import pytest

from server.backends.batching import batch_sizes, merge, split
from server.backends.config import check_names, parse_config, positions
from server.backends.messages import cause


def _arrays(*sizes: int) -> list[dict[str, np.ndarray]]:
    return [{"a": np.full((size, 2), at), "b": np.full(size, at)} for at, size in enumerate(sizes)]


def test_merge_and_split_are_inverse() -> None:
    requests = _arrays(1, 3, 2)
    merged = merge(requests)
    assert merged["a"].shape == (6, 2) and merged["b"].tolist() == [0, 1, 1, 1, 2, 2]
    for part, request in zip(split(merged, batch_sizes(requests)), requests, strict=True):
        for name in request:
            np.testing.assert_array_equal(part[name], request[name])


def test_one_request_is_not_copied() -> None:
    (request,) = _arrays(3)
    assert merge([request]) is request
    assert split(request, [3]) == [request]


def test_parts_are_views() -> None:
    merged = merge(_arrays(1, 2))
    assert all(np.shares_memory(part["a"], merged["a"]) for part in split(merged, [1, 2]))


@pytest.mark.parametrize("output", [np.zeros((4, 2)), np.zeros((1, 3)), np.float32(1)])
def test_an_output_without_batch_axis_is_refused(output: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"output y has shape .* for a batch of 3; its first axis must be the batch"):
        split({"y": np.asarray(output)}, [1, 2])


def _config(**fields: object) -> str:
    return json.dumps(
        {
            "name": "m",
            "max_batch_size": 4,
            "input": [{"name": "x"}],
            "output": [{"name": "y"}, {"name": "z"}],
            "parameters": {"threads": {"string_value": "2"}, "bad": {"string_value": "0"}, "no": {"string_value": "x"}},
            **fields,
        }
    )


def test_config_is_read() -> None:
    config = parse_config(_config(default_model_filename="other.onnx"))
    assert (config.name, config.max_batch_size, config.inputs, config.outputs) == ("m", 4, ("x",), ("y", "z"))
    assert config.file_name == "other.onnx"
    assert (config.count("threads"), config.count("absent")) == (2, None)


@pytest.mark.parametrize("name", ["bad", "no"])
def test_a_count_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"parameter {name} is .* must be a whole number from 1 up"):
        parse_config(_config()).count(name)


def test_names_that_the_file_lacks_are_named() -> None:
    check_names("input", ["b"], ["a", "b"])
    with pytest.raises(ValueError, match=r"names the output q, r, but the file has a, b"):
        check_names("output", ["a", "q", "r"], ["a", "b"])


@pytest.mark.parametrize(
    ("names", "arguments", "order"),
    [
        (["b", "a"], ["a", "b"], ["a", "b"]),  # by the arguments' names
        (["OUT__1", "OUT__0"], ["a", "b"], ["OUT__0", "OUT__1"]),  # by position
        (["x__10", "x__9"], [], ["x__9", "x__10"]),
        (["q", "p"], ["a", "b"], ["q", "p"]),  # as they stand
        (["q", "p__0"], ["a", "b"], ["q", "p__0"]),
    ],
)
def test_order_of_a_scripts_tensors(names: list[str], arguments: list[str], order: list[str]) -> None:
    assert positions(names, arguments) == order


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Exception from a.cpp:1:\nCheck failed:\nthe shapes differ\n\n", "the shapes differ"),
        ("The following operation failed in the TorchScript interpreter.\nTrace\nRuntimeError: bad\n", "bad"),
        ("invalid dimensions\n index: 1 Got: 2\n", "invalid dimensions index: 1 Got: 2"),
        ("", "KeyError"),
    ],
)
def test_cause_of_a_runtimes_error(text: str, expected: str) -> None:
    assert cause(KeyError() if not text else RuntimeError(text)) == expected
