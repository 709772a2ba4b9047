"""Signatures: what a model takes, and which arrays are refused before anything is sent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from client.errors import SignatureError
from client.metadata import ModelMetadata, parse_metadata
from core.errors import InferenceError
from core.tensors import Arrays

HTTP_METADATA = {
    "name": "digits",
    "versions": ["1", "2"],
    "platform": "",
    "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 2, 2]}],
    "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}],
}
HTTP_CONFIG = {
    "backend": "onnxruntime",
    "max_batch_size": 4,
    "parameters": {"trident.model": {"string_value": "digits"}},
    "instance_group": [{"count": 1}],
}
# The same as gRPC's JSON has it: whole numbers as text, what is empty or zero left out.
GRPC_METADATA = {
    "name": "digits",
    "versions": ["1", "2"],
    "inputs": [{"name": "image", "datatype": "FP32", "shape": ["-1", "1", "2", "2"]}],
    "outputs": [{"name": "logits", "datatype": "FP32", "shape": ["-1", "3"]}],
}
DIGITS = parse_metadata(HTTP_METADATA, HTTP_CONFIG)
PAIR = parse_metadata(
    {
        "name": "pair",
        "inputs": [
            {"name": "ids", "datatype": "INT64", "shape": [-1, -1]},
            {"name": "mask", "datatype": "INT64", "shape": [-1, -1]},
        ],
        "outputs": [{"name": "score", "datatype": "FP32", "shape": [-1]}],
    },
    {"max_batch_size": 2},
)


def images(n: int, dtype: str = "float32") -> Arrays:
    return {"image": np.zeros((n, 1, 2, 2), dtype)}


def test_both_protocols_give_the_same_metadata() -> None:
    assert parse_metadata(GRPC_METADATA, HTTP_CONFIG | {"max_batch_size": "4"}) == DIGITS


def test_metadata_carries_dims_without_the_batch_axis_and_the_parameters() -> None:
    assert DIGITS.inputs[0].dims == (1, 2, 2)
    assert DIGITS.outputs[0].datatype.name == "float32"
    assert DIGITS.max_batch == 4
    assert DIGITS.parameters == {"trident.model": "digits"}


def test_a_model_without_batch_axis_keeps_all_its_dims() -> None:
    metadata = parse_metadata(HTTP_METADATA, {})
    assert metadata.inputs[0].dims == (-1, 1, 2, 2)
    assert metadata.signature() == "image: float32 [?, 1, 2, 2]"
    metadata.check_inputs(images(9))


def test_a_data_type_that_we_do_not_carry_is_one_sentence() -> None:
    tensor = {"name": "half", "datatype": "BF16", "shape": [-1, 1]}
    with pytest.raises(InferenceError, match=r"^model 'digits' cannot be used from here: data type BF16 is not supp"):
        parse_metadata(HTTP_METADATA | {"inputs": [tensor]}, HTTP_CONFIG)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_every_batch_up_to_the_largest_fits(n: int) -> None:
    DIGITS.check_inputs(images(n))


@pytest.mark.parametrize(
    ("arrays", "but"),
    [
        (images(0), "the batch given has 0 samples"),
        (images(5), "the batch given has 5 samples"),
        (images(1, "float64"), "the array given for 'image' is float64 [1, 1, 2, 2]"),
        (images(1, ">f4"), "the array given for 'image' is >f4 [1, 1, 2, 2]"),
        ({"image": np.zeros((1, 2, 2), "float32")}, "the array given for 'image' is float32 [1, 2, 2]"),
        ({"image": np.zeros((1, 1, 2, 3), "float32")}, "the array given for 'image' is float32 [1, 1, 2, 3]"),
        ({"img": np.zeros((1, 1, 2, 2), "float32")}, "the arrays given are named img"),
        (images(1) | {"more": np.zeros(1)}, "the arrays given are named image, more"),
        ({}, "the arrays given are named nothing"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_the_signature(arrays: Arrays, but: str) -> None:
    with pytest.raises(SignatureError) as caught:
        DIGITS.check_inputs(arrays)
    assert str(caught.value) == f"model 'digits' takes image: float32 [N, 1, 2, 2], N from 1 to 4; {but}"


def test_inputs_must_share_one_batch() -> None:
    with pytest.raises(SignatureError, match=r"differ in their batches: \[1, 2\]"):
        PAIR.check_inputs({"ids": np.zeros((1, 7), "int64"), "mask": np.zeros((2, 7), "int64")})


def test_an_axis_that_varies_takes_any_size() -> None:
    for size in (1, 7, 512):
        PAIR.check_inputs({"ids": np.zeros((2, size), "int64"), "mask": np.zeros((2, size), "int64")})


def test_unknown_outputs_are_refused_with_the_known_ones() -> None:
    DIGITS.check_outputs(("logits",))
    with pytest.raises(SignatureError, match="model 'digits' has no output probs; it has logits"):
        DIGITS.check_outputs(("logits", "probs"))


def test_metadata_is_a_value() -> None:
    other: ModelMetadata = replace(DIGITS, max_batch=8)
    assert other != DIGITS
    assert other.signature().endswith("N from 1 to 8")
