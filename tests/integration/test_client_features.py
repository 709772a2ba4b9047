"""What the client does beyond plain requests, against the real Triton, over both protocols."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from client import (
    AbandonedError,
    AsyncInferenceClient,
    Cancellation,
    DeadlineError,
    InferenceClient,
    Options,
    SequenceError,
    Settings,
    SignatureError,
    UnsupportedError,
)
from client.transport import ProtocolName
from server.supervisor import Server
from tests.integration.loadtest_fixtures import IMAGES, logits_of

NUMBERS = np.arange(150528, dtype=np.float32)[None]  # 602 KB
THREADS, TASKS = 32, 1000


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> ProtocolName:
    """Each test runs once a protocol."""
    return "grpc" if request.param == "grpc" else "http"


@pytest.fixture
def url(talking: Server, protocol: ProtocolName) -> str:
    """The server's address for the protocol."""
    return f"{protocol}://{talking.grpc_url if protocol == 'grpc' else talking.http_url}"


@pytest.fixture
def client(url: str) -> Iterator[InferenceClient]:
    """A client with the usual settings."""
    with InferenceClient(url) as opened:
        yield opened


def right(client: InferenceClient, i: int) -> bool:
    """Whether a request is answered rightly."""
    return np.array_equal(
        client.infer("digits", IMAGES[i % 200 : i % 200 + 1])["logits"], logits_of(IMAGES)[i % 200 : i % 200 + 1]
    )


def test_a_server_that_is_there_is_live(client: InferenceClient) -> None:
    assert client.is_live()
    assert {"slow", "count", "sum", "upper", "terms", "long", "digits"} < {row.model for row in client.served()}


def test_texts_go_and_come(client: InferenceClient) -> None:
    for texts in (np.array([["ab"], ["cé"]]), np.array([[b"ab"], ["cé".encode()]], object)):
        answer = client.infer("upper", texts)["y"]
        assert [text.decode() for text in answer.ravel()] == ["AB", "CÉ"]


def test_id_parameters_and_time_left_reach_the_model(client: InferenceClient) -> None:
    options = Options(request_id="r7", priority=1, parameters={"a": 1, "b": "x", "c": True}, timeout_s=9)
    told = client.infer("terms", np.zeros((1, 1), np.float32), options=options)["y"][0, 0].decode()
    name, left_us, _ = told.split(" ", 2)
    assert (name, 8e6 < int(left_us) <= 9e6 + 1) == ("r7", True)
    assert all(part in told for part in ('"a":1', '"b":"x"', '"c":true')), told


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compressed_requests_and_answers(url: str, compression: str) -> None:
    with InferenceClient(url, settings=Settings(compression=compression)) as client:  # type: ignore[arg-type]
        np.testing.assert_array_equal(client.infer("long", NUMBERS)["y"], NUMBERS + 1)


def test_a_stream_of_answers(client: InferenceClient, protocol: ProtocolName) -> None:
    with pytest.raises(SignatureError, match=r"use stream\(\)"):
        client.infer("count", np.array([3], np.int32))
    answers = client.stream("count", np.array([3], np.int32))
    if protocol == "http":
        with pytest.raises(UnsupportedError, match="cannot be streamed over HTTP; open the client with grpc://"):
            next(answers)
    else:
        assert [int(answer["y"][0]) for answer in answers] == [0, 1, 2]


def test_a_sequence_keeps_its_state_and_its_rules(client: InferenceClient) -> None:
    with pytest.raises(SignatureError, match=r"use sequence\(\)"):
        client.infer("sum", np.ones((1, 1), np.int32))
    one, other = client.sequence("sum"), client.sequence("sum")
    sums = [(one.infer(np.full((1, 1), i, np.int32)), other.infer(np.full((1, 1), -i, np.int32))) for i in (1, 2, 3)]
    assert [(int(a["y"][0, 0]), int(b["y"][0, 0])) for a, b in sums] == [(1, -1), (3, -3), (6, -6)]
    with pytest.raises(SignatureError):
        one.infer(np.ones((1, 2), np.int32))
    assert one.infer(np.ones((1, 1), np.int32), last=True)["y"] == 7
    with pytest.raises(SequenceError, match="has ended; begin a new one"):
        one.infer(np.ones((1, 1), np.int32))


def test_a_cancelled_request_ends_at_once(client: InferenceClient) -> None:
    cancellation = Cancellation()
    threading.Timer(0.3, cancellation.cancel).start()
    client.metadata("slow")
    began_s = time.monotonic()
    with pytest.raises(AbandonedError):
        client.infer("slow", np.array([5000], np.float32), options=Options(cancellation=cancellation))
    assert 0.2 < time.monotonic() - began_s < 1.5


def test_deadlines_are_kept(client: InferenceClient) -> None:
    client.metadata("slow")
    began_s = time.monotonic()
    with pytest.raises(DeadlineError, match=r"did not answer within 0\.5 s"):
        client.infer("slow", np.array([1500], np.float32), options=Options(timeout_s=0.5))
    assert 0.45 < time.monotonic() - began_s < 1.2


def left_behind() -> list[Path]:
    """What clients have left in shared memory."""
    return list(Path("/dev/shm").glob("tridentclient*"))


def regions(url: str) -> list[str]:
    """What the server has registered."""
    from client.calls import Ask, Attempt
    from client.shared import region_names

    with InferenceClient(url) as client:
        return region_names(client._transports[0].ask(Ask("regions"), Attempt(5)))


def test_shared_memory_carries_tensors_and_leaves_nothing(url: str) -> None:
    with InferenceClient(url, settings=Settings(shared_memory=True)) as client:
        for value in range(3):
            np.testing.assert_array_equal(client.infer("long", NUMBERS + value)["y"], NUMBERS + value + 1)
        for rows in (1, 8, 50):
            np.testing.assert_array_equal(client.infer("digits", IMAGES[:rows])["logits"], logits_of(IMAGES[:rows]))
        assert client.infer("upper", np.array([["ab"]]))["y"] == b"AB"
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda i: right(client, i), range(200)))
        registered = regions(url)
        assert 2 <= len(registered) <= 12
        assert left_behind() == []  # the names are gone while the regions are in use
    assert regions(url) == []


KILLED = """
import os, sys, signal
import numpy as np
from client import InferenceClient, Settings
client = InferenceClient(sys.argv[1], settings=Settings(shared_memory=True))
client.infer("long", np.zeros((1, 150528), np.float32))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_client_left_registered_is_swept_by_the_next(url: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, url], capture_output=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert left_behind() == []
    assert len(regions(url)) == 1
    with InferenceClient(url, settings=Settings(shared_memory=True)) as client:
        client.infer("long", NUMBERS)
        assert len(regions(url)) == 1  # its own
    assert regions(url) == []


def test_threads_share_a_client(client: InferenceClient) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(lambda i: right(client, i), range(40 * THREADS)))


def test_a_thousand_tasks_share_a_client(url: str) -> None:
    async def one(client: AsyncInferenceClient, i: int) -> bool:
        image = IMAGES[i % 200 : i % 200 + 1]
        return np.array_equal((await client.infer("digits", image))["logits"], logits_of(image))

    async def main() -> None:
        async with AsyncInferenceClient(url) as client:
            assert all(await asyncio.gather(*(one(client, i) for i in range(TASKS))))

    asyncio.run(main())


def test_asyncio_has_streams_sequences_and_cancelled_tasks(url: str, protocol: ProtocolName) -> None:
    async def main() -> None:
        async with AsyncInferenceClient(url) as client:
            sequence = client.sequence("sum")
            sums = [await sequence.infer(np.full((1, 1), i, np.int32), last=i == 3) for i in (1, 2, 3)]
            assert [int(answer["y"][0, 0]) for answer in sums] == [1, 3, 6]
            if protocol == "grpc":
                assert [int(a["y"][0]) async for a in client.stream("count", np.array([2], np.int32))] == [0, 1]
            await client.metadata("slow")
            task = asyncio.create_task(client.infer("slow", np.array([5000], np.float32)))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            answer = await client.infer("digits", IMAGES[:1])
            np.testing.assert_array_equal(answer["logits"], logits_of(IMAGES[:1]))

    asyncio.run(main())


FORKED = """
import os, sys, threading
import numpy as np
from client import InferenceClient, Settings
client = InferenceClient(sys.argv[1], settings=Settings(shared_memory=sys.argv[2] == "shared"))
x = np.full((1, 150528), 1, np.float32)

def right(value):
    return bool((client.infer("long", x * value)["y"] == value + 1).all())

def loop():
    while not ended.is_set():
        assert right(7)

assert right(1)
ended = threading.Event()
threads = [threading.Thread(target=loop) for _ in range(3)]
for thread in threads:
    thread.start()
children = []
for value in range(5):
    pid = os.fork()
    if not pid:
        os._exit(0 if all(right(value + i) for i in range(20)) else 1)
    children.append(pid)
ended.set()
for thread in threads:
    thread.join()
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
assert right(2)
print(codes)
"""


@pytest.mark.parametrize("memory", ["own", "shared"])
def test_a_forked_child_goes_on_using_the_client(url: str, memory: str) -> None:
    """While three threads of the parent are at it."""
    command = [sys.executable, "-c", FORKED, url, memory]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, cwd=Path(__file__).parents[2]
    )
    assert done.stdout == "[0, 0, 0, 0, 0]\n", done.stderr
