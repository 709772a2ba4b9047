"""The client against the real Triton, over both protocols."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client import (
    DeadlineError,
    InferenceClient,
    InferenceError,
    RefusedError,
    SignatureError,
    UnknownModelError,
    UnreachableError,
)
from client.inputs import load_inputs
from client.outputs import answers
from client.transport import ProtocolName
from tests.integration.loadtest_fixtures import IMAGES, MAX_BATCH, Served, logits_of

BOTH: tuple[ProtocolName, ...] = ("http", "grpc")


@pytest.fixture(params=BOTH)
def protocol(request: pytest.FixtureRequest) -> ProtocolName:
    """Each test runs once a protocol."""
    return "grpc" if request.param == "grpc" else "http"


@pytest.fixture
def client(served: Served, protocol: ProtocolName) -> Iterator[InferenceClient]:
    """A client of the served models."""
    with InferenceClient(served.url(protocol), protocol) as opened:
        yield opened


@pytest.mark.parametrize("batch", [1, 2, 3, MAX_BATCH, MAX_BATCH + 1, 25 * MAX_BATCH])
def test_answers_are_right_at_every_batch_and_beyond(client: InferenceClient, batch: int) -> None:
    outputs = client.infer("digits", IMAGES[:batch])
    assert outputs.keys() == {"logits"}
    assert outputs["logits"].dtype == np.float32
    np.testing.assert_array_equal(outputs["logits"], logits_of(IMAGES[:batch]))


@pytest.mark.parametrize("size", [1, 5])
def test_several_inputs_and_outputs_go_by_name(client: InferenceClient, size: int) -> None:
    left, right = np.arange(2 * size).reshape(2, size), np.full((2, size), 7)
    outputs = client.infer("pair", {"right": right, "left": left})
    np.testing.assert_array_equal(outputs["sum"], left + 7)
    np.testing.assert_array_equal(outputs["difference"], left - 7)


def test_sizes_are_padded_to_buckets_so_that_they_share_batches(served: Served, protocol: ProtocolName) -> None:
    """Sizes 3 and 4 go as 4: Triton may join them, and did so once they wait for each other."""
    start = threading.Barrier(4)

    def ask(size: int) -> list[bool]:
        left, right = np.arange(size)[None], np.full((1, size), 7)
        with InferenceClient(served.url(protocol), protocol) as client:
            client.metadata("padded")
            start.wait(10)
            answers = [client.infer("padded", {"left": left, "right": right}) for _ in range(100)]
        return [np.array_equal(answer["sum"], left + 7) for answer in answers]

    with InferenceClient(served.url(protocol), protocol) as client:
        before = client.statistics("padded")
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(ask, (1, 2, 3, 4)))
        assert results == [[True] * 100] * 4
        counted = client.statistics("padded") - before
        assert counted.inferences == 400
        assert counted.executions < 400
        with pytest.raises(SignatureError, match="axis S may be 1 to 8, and is 9 in the array given for 'left'"):
            client.infer("padded", {"left": np.zeros((1, 9), np.int64), "right": np.zeros((1, 9), np.int64)})


def test_only_the_outputs_wanted_come_back(client: InferenceClient) -> None:
    ones = np.ones((1, 1), np.int64)
    assert list(client.infer("pair", {"left": ones, "right": ones}, ("difference",))) == ["difference"]


def test_arrays_in_any_memory_layout_are_sent_right(client: InferenceClient) -> None:
    turned = IMAGES[:2].transpose(0, 1, 3, 2)
    assert not turned.flags.c_contiguous
    np.testing.assert_array_equal(client.infer("digits", turned)["logits"], logits_of(turned.copy()))


def test_metadata_is_the_same_over_both_protocols(served: Served) -> None:
    found = []
    for protocol in BOTH:
        with InferenceClient(served.url(protocol), protocol) as client:
            found.append((client.metadata("digits"), client.metadata("digits", "1"), client.server_version()))
    assert found[0] == found[1]
    metadata, first_version, _ = found[0]
    assert metadata == first_version
    assert metadata.signature() == f"image: float32 [N, 1, 4, 4], N from 1 to {MAX_BATCH}"
    assert (metadata.backend, metadata.versions) == ("onnxruntime", ("1",))
    assert metadata.parameters["trident.variant"] == "onnx_fp32"


def test_two_clients_at_once_each_get_their_own_answers(served: Served, protocol: ProtocolName) -> None:
    start = threading.Barrier(2)

    def ask(first: int) -> list[bool]:
        with InferenceClient(served.url(protocol), protocol) as client:
            start.wait(10)
            batches = [IMAGES[i : i + 2] for i in range(first, first + 50)]
            return [np.array_equal(client.infer("digits", batch)["logits"], logits_of(batch)) for batch in batches]

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(ask, (0, 100)))
    assert results == [[True] * 50] * 2


@pytest.mark.parametrize(
    ("images", "but"),
    [
        (IMAGES[:1].astype(np.float64), "the array given for 'image' is float64 [1, 1, 4, 4]"),
        (IMAGES[0], "the array given for 'image' is float32 [1, 4, 4]"),
        (IMAGES[:1, :, :3], "the array given for 'image' is float32 [1, 1, 3, 4]"),
        (IMAGES[:0], "the batch given has 0 samples"),
        ({"picture": IMAGES[:1]}, "the arrays given are named picture"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_sent(client: InferenceClient, images: object, but: str) -> None:
    before = client.statistics("digits")
    with pytest.raises(SignatureError) as caught:
        client.infer("digits", images)  # type: ignore[arg-type]
    signature = f"image: float32 [N, 1, 4, 4], N from 1 to {MAX_BATCH}"
    assert str(caught.value) == f"model 'digits' takes {signature}; {but}"
    assert client.statistics("digits") == before


def test_one_array_for_two_inputs_is_refused(client: InferenceClient) -> None:
    with pytest.raises(SignatureError, match=r"takes left: .*, right: .*; one array without a name was given"):
        client.infer("pair", np.ones((1, 1), np.int64))


def test_the_servers_own_refusal_is_passed_on_in_one_sentence(client: InferenceClient) -> None:
    # Both sizes fit the signature, whose axis varies; that they must be equal only the model knows.
    with pytest.raises(RefusedError, match=r"^the server refused a request for model 'pair': .*"):
        client.infer("pair", {"left": np.ones((1, 2), np.int64), "right": np.ones((1, 3), np.int64)})
    test_only_the_outputs_wanted_come_back(client)


@pytest.mark.parametrize(("model", "version"), [("nope", ""), ("digits", "9")])
def test_an_unknown_model_or_version_is_named(client: InferenceClient, model: str, version: str) -> None:
    wanted = f"model '{model}'" + (f" version {version}" if version else "")
    with pytest.raises(UnknownModelError, match=f"does not serve {wanted}: Request for unknown model"):
        client.metadata(model, version)


def test_an_unknown_model_cannot_be_asked(client: InferenceClient) -> None:
    with pytest.raises(UnknownModelError, match="does not serve model 'nope'"):
        client.infer("nope", IMAGES[:1])
    with pytest.raises(UnknownModelError, match="does not serve model 'nope'"):
        client.statistics("nope")


def test_readiness_of_server_and_models(client: InferenceClient) -> None:
    assert client.is_ready()
    assert client.is_ready("digits")
    assert not client.is_ready("nope")


def test_a_server_that_is_down_is_one_sentence_and_not_ready(protocol: ProtocolName) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"127.0.0.1:{listener.getsockname()[1]}"
    with InferenceClient(url, protocol) as client:
        assert not client.is_ready()
        assert not client.is_ready("digits")
        with pytest.raises(UnreachableError, match=f"^no server answers at {url} .*; is it running"):
            client.infer("digits", IMAGES[:1])


def test_a_server_that_says_nothing_is_given_up_in_time(protocol: ProtocolName) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"127.0.0.1:{listener.getsockname()[1]}"
        with InferenceClient(url, protocol, timeout_s=0.3) as client, pytest.raises(InferenceError) as caught:
            client.metadata("digits")
    assert isinstance(caught.value, DeadlineError)
    assert str(caught.value) == f"the server at {url} did not answer within 0.3 s"


def test_the_other_protocols_port_is_recognised(served: Served, protocol: ProtocolName) -> None:
    other = served.grpc_url if protocol == "http" else served.http_url
    with InferenceClient(other, protocol, timeout_s=5) as client, pytest.raises(UnreachableError, match="is this its"):
        client.metadata("digits")


def test_from_a_file_to_labels(client: InferenceClient, tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", IMAGES[0])
    metadata = client.metadata("digits")
    outputs = client.infer("digits", load_inputs([tmp_path / "image.npy"], metadata))
    (answer,) = answers(outputs, metadata)
    best = int(logits_of(IMAGES[:1]).argmax())
    assert answer.guesses[0].label == ("cat", "dog", "eel")[best]
    assert answer.values["logits"] == logits_of(IMAGES[:1])[0].tolist()


def test_an_image_for_a_model_without_preprocessing_is_refused(client: InferenceClient, tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "image.png")
    with pytest.raises(SignatureError, match="does not say how images become image: float32"):
        load_inputs([tmp_path / "image.png"], client.metadata("digits"))
