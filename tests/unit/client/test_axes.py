"""Named axes of a request: their ranges, and padding to buckets there and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from client.errors import SignatureError
from client.fake import FakeModel, FakeServer
from client.inference import InferenceClient
from client.metadata import ModelMetadata, parse_metadata
from core.errors import InferenceError
from core.tensors import Arrays

AXES = '{"S": {"min": 2, "max": 16, "at": {"ids": [1], "mask": [1], "tokens": [1]}}}'
BUCKETS = '{"S": {"sizes": [4, 8, 16], "pad": {"ids": 9, "mask": 0}}}'
METADATA = {
    "name": "text",
    "inputs": [{"name": name, "datatype": "INT64", "shape": [-1, -1]} for name in ("ids", "mask")],
    "outputs": [
        {"name": "tokens", "datatype": "INT64", "shape": [-1, -1]},
        {"name": "total", "datatype": "INT64", "shape": [-1, 1]},
    ],
}


def _config(axes: str = AXES, buckets: str = BUCKETS) -> dict[str, object]:
    parameters = {"trident.axes": {"string_value": axes}, "trident.buckets": {"string_value": buckets}}
    return {"max_batch_size": 4, "parameters": parameters}


def _arrays(size: int, mask_size: int | None = None) -> Arrays:
    return {"ids": np.full((2, size), 5, np.int64), "mask": np.ones((2, mask_size or size), np.int64)}


def _echo(inputs: Arrays) -> Arrays:
    """The input, and the sum over the mask."""
    return {"tokens": inputs["ids"], "total": (inputs["ids"] * inputs["mask"]).sum(1, keepdims=True)}


def _client(buckets: str = BUCKETS) -> tuple[InferenceClient, FakeServer]:
    ids, total = ("int64", (-1,)), ("int64", (1,))
    parameters = {"trident.axes": AXES, "trident.buckets": buckets}
    model = FakeModel(_echo, {"ids": ids, "mask": ids}, {"tokens": ids, "total": total}, 4, parameters)
    fake = FakeServer({"text": model})
    return InferenceClient(transports=[fake]), fake


@pytest.mark.parametrize(("size", "bucket"), [(2, 4), (4, 4), (5, 8), (9, 16), (16, 16)])
def test_a_request_is_padded_to_the_next_bucket_and_its_answer_cut_back(size: int, bucket: int) -> None:
    asking, fake = _client()
    given = _arrays(size)
    answer = asking.infer("text", given)
    sent = fake.sent[0][0].inputs
    assert sent["ids"].shape == sent["mask"].shape == (2, bucket)
    assert (sent["ids"][:, size:] == 9).all()
    assert (sent["mask"][:, size:] == 0).all()
    assert sent["ids"].dtype == np.int64
    assert (answer["tokens"] == given["ids"]).all()
    assert (answer["total"] == 5 * size).all()
    assert given["ids"].shape == (2, size)


def test_without_buckets_nothing_is_padded() -> None:
    asking, fake = _client(buckets="{}")
    asking.infer("text", given := _arrays(5))
    assert fake.sent[0][0].inputs["ids"] is given["ids"]


@pytest.mark.parametrize(
    ("arrays", "but"),
    [
        (_arrays(1), "axis S may be 2 to 16, and is 1 in the array given for 'ids'"),
        (_arrays(17), "axis S may be 2 to 16, and is 17 in the array given for 'ids'"),
        (_arrays(5, 7), "axis S must have one size in all arrays, and is 5 in 'ids', 7 in 'mask'"),
    ],
)
def test_a_size_out_of_range_is_refused_with_the_range(arrays: Arrays, but: str) -> None:
    asking, fake = _client()
    with pytest.raises(SignatureError) as caught:
        asking.infer("text", arrays)
    assert str(caught.value).endswith(f"; {but}")
    assert fake.sent == []


@pytest.mark.parametrize("bad", ["[1]", '{"S": {"min": 1}}', "no json"])
def test_parameters_that_cannot_be_read_are_one_sentence(bad: str) -> None:
    with pytest.raises(InferenceError, match=r"trident\.axes and trident\.buckets cannot be read"):
        parse_metadata(METADATA, _config(axes=bad))


def test_a_model_without_named_axes_takes_any_size() -> None:
    metadata: ModelMetadata = parse_metadata(METADATA, {"max_batch_size": 4})
    config: dict[str, Any] = dict(metadata.axes)
    assert config == {}
    metadata.check_inputs(_arrays(500))
