"""The fake that is shipped: it answers like a server, and is as strict."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from client import AsyncInferenceClient, InferenceClient, SignatureError, UnknownModelError, UnsupportedError
from client.fake import AsyncFakeServer, FakeModel, FakeServer
from client.settings import Options, Settings
from core.tensors import Arrays
from tests.support.clients import ROWS, doubler, fake_server


def count(inputs: Arrays) -> list[Arrays]:
    """As many answers as asked."""
    return [{"y": np.array([i], np.int32)} for i in range(int(inputs["x"][0]))]


COUNT = FakeModel(count, {"x": ("int32", (1,))}, {"y": ("int32", (1,))}, decoupled=True)
TEXT = FakeModel(lambda inputs: {"y": inputs["x"]}, {"x": ("text", (1,))}, {"y": ("text", (1,))}, version="3")


def test_it_answers_and_knows_what_it_was_sent() -> None:
    fake = fake_server()
    client = InferenceClient(transports=[fake])
    assert client.is_live() and client.is_ready("double") and not client.is_ready("nope")
    assert client.server_version() == "0"
    assert client.metadata("double").signature() == "x: float32 [N, 2], N from 1 to 4"
    np.testing.assert_array_equal(client.infer("double", {"x": ROWS[:2]})["y"], ROWS[:2] * 2)
    call, attempt = fake.sent[0]
    assert (call.model, attempt.timeout_s <= 30) == ("double", True)
    assert client.statistics("double").requests == 1
    assert [row.model for row in client.served()] == ["double"]


def test_it_refuses_what_a_server_would_never_see() -> None:
    fake = fake_server()
    client = InferenceClient(transports=[fake])
    with pytest.raises(SignatureError, match=r"takes x: float32 \[N, 2\].*; the array given for 'x' is float64"):
        client.infer("double", ROWS.astype(np.float64))
    with pytest.raises(UnknownModelError):
        client.infer("nope", ROWS)
    with pytest.raises(UnknownModelError, match="version 9"):
        client.metadata("double", "9")
    assert fake.sent == []


def test_texts_versions_and_streams() -> None:
    client = InferenceClient(transports=[FakeServer({"text": TEXT, "count": COUNT})])
    assert client.infer("text", np.array(["a"]), options=Options(version="3"))["y"][0] == "a"
    assert client.metadata("text").signature() == "x: text [1]"
    assert [int(answer["y"][0]) for answer in client.stream("count", np.array([3], np.int32))] == [0, 1, 2]
    with pytest.raises(SignatureError, match=r"use stream\(\)"):
        client.infer("count", np.array([3], np.int32))


def test_a_stateful_model_wants_a_sequence() -> None:
    model = FakeModel(lambda inputs: inputs, {"x": ("int32", (1,))}, {"x": ("int32", (1,))}, stateful=True)
    fake = FakeServer({"state": model})
    client = InferenceClient(transports=[fake])
    with pytest.raises(SignatureError, match=r"use sequence\(\)"):
        client.infer("state", np.zeros(1, np.int32))
    sequence = client.sequence("state")
    for last in (False, False, True):
        sequence.infer(np.zeros(1, np.int32), last=last)
    parts = [call.sequence for call, _ in fake.sent]
    assert [(part.start, part.end) for part in parts if part] == [(True, False), (False, False), (False, True)]
    assert len({part.id for part in parts if part}) == 1


def test_it_has_no_shared_memory() -> None:
    client = InferenceClient(settings=Settings(shared_memory=True), transports=[fake_server()])
    with pytest.raises(UnsupportedError, match="leave it off"):
        client.infer("double", ROWS[:1])


def test_the_same_for_asyncio() -> None:
    async def main() -> None:
        fake = FakeServer({"double": doubler(), "count": COUNT})
        async with AsyncInferenceClient(transports=[AsyncFakeServer(fake)]) as client:
            np.testing.assert_array_equal((await client.infer("double", ROWS))["y"], ROWS * 2)
            assert [int(a["y"][0]) async for a in client.stream("count", np.array([2], np.int32))] == [0, 1]
            assert (await client.metadata("double")).max_batch == 4
            assert (await client.statistics("double")).requests == 3
            assert await client.server_version() == "0"

    asyncio.run(main())
