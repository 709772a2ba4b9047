"""gRPC messages against NVIDIA's own, and the connection against a scripted server."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferInput, InferRequestedOutput, service_pb2
from tritonclient.grpc._utils import _get_inference_request

from client.address import Address
from core.datatypes import DATA_TYPES
from loadtest.wire import Answer
from loadtest.wire_grpc import GrpcConnection, encode, head, read_answer

Reply = Callable[[bytes, grpc.ServicerContext], bytes]
FOUR = Answer(b"\x01\x02\x03\x04")


def raw(data: bytes) -> bytes:
    """A serialized response with one output of raw bytes."""
    response = service_pb2.ModelInferResponse(model_name="m", raw_output_contents=[data])
    response.outputs.add(name="logits", datatype="FP32", shape=[1, 1])
    return bytes(response.SerializeToString())


def test_a_request_is_what_nvidias_client_would_send() -> None:
    rng = np.random.default_rng(0)
    arrays = {row.name: rng.integers(0, 2, (1, 2, 3)).astype(row.numpy) for row in DATA_TYPES}
    theirs = [InferInput(row.name, [1, 2, 3], row.triton).set_data_from_numpy(arrays[row.name]) for row in DATA_TYPES]
    expected = _get_inference_request(
        inputs=theirs, model_name="m", model_version="", request_id="", sequence_id=0, sequence_start=False,
        sequence_end=False, priority=0, timeout=None, outputs=[InferRequestedOutput("logits")], parameters=None,
    )  # fmt: skip
    body = encode(arrays, "logits")
    assert service_pb2.ModelInferRequest.FromString(head("m") + body) == expected
    assert service_pb2.ModelInferRequest.FromString(body).model_name == ""


def test_raw_answers_count_only_with_the_right_size() -> None:
    assert read_answer(raw(b"\x01\x02\x03\x04"), 4) == FOUR
    assert read_answer(raw(b"abc"), 4) == Answer(b"", "gRPC OK, but the output has 3 bytes instead of 4")
    assert read_answer(b"", 4) == Answer(b"", "gRPC OK, but the output has 0 bytes instead of 4")


@pytest.mark.parametrize(
    ("datatype", "field", "name"),
    [
        ("FP32", "fp32_contents", "float32"),
        ("FP64", "fp64_contents", "float64"),
        ("INT8", "int_contents", "int8"),
        ("INT64", "int64_contents", "int64"),
        ("UINT8", "uint_contents", "uint8"),
        ("UINT64", "uint64_contents", "uint64"),
        ("BOOL", "bool_contents", "bool"),
    ],
)
def test_typed_answers_are_read_as_the_same_bytes(datatype: str, field: str, name: str) -> None:
    values = np.array([[1, 0, 1]], name)
    response = service_pb2.ModelInferResponse()
    output = response.outputs.add(name="logits", datatype=datatype, shape=[1, 3])
    getattr(output.contents, field).extend(values[0].tolist())
    assert read_answer(response.SerializeToString(), values.nbytes) == Answer(values.tobytes())


@contextmanager
def scripted(reply: Reply, live: bool = True) -> Iterator[tuple[Address, set[str]]]:
    """A server that answers inference by `reply`, and whether it is live. The set tells who connected."""
    peers: set[str] = set()

    def infer(request: bytes, context: grpc.ServicerContext) -> bytes:
        peers.add(context.peer())
        return reply(request, context)

    def say_live(_: bytes, context: grpc.ServicerContext) -> bytes:
        if not live:
            context.abort(grpc.StatusCode.UNAVAILABLE, "no")
        return b""

    handlers = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(infer),
        "ServerLive": grpc.unary_unary_rpc_method_handler(say_live),
    }
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield Address("127.0.0.1", port), peers
    finally:
        server.stop(None).wait()


def exchange(address: Address, timeout_s: float = 10.0) -> Answer:
    """One request on a connection of its own."""
    connection = GrpcConnection(address, timeout_s)
    try:
        connection.open()
        return connection.exchange(b"request", 4)
    finally:
        connection.close()


def refuse(code: grpc.StatusCode) -> Reply:
    """Answers with a status code."""

    def reply(_: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(code, "because")
        raise AssertionError

    return reply


def test_each_connection_is_one_of_its_own_and_is_kept() -> None:
    with scripted(lambda _request, _context: raw(b"\x01\x02\x03\x04")) as (address, peers):
        connections = [GrpcConnection(address, 10.0) for _ in range(3)]
        answers = [connection.exchange(b"", 4) for connection in connections * 2]
        for connection in connections:
            connection.close()
    assert answers == [FOUR] * 6
    assert len(peers) == 3


def test_a_request_goes_out_as_it_is() -> None:
    with scripted(lambda request, _: raw(request[:4])) as (address, _):
        assert exchange(address) == Answer(b"requ")


def test_a_refusal_is_a_failure_with_code_and_details() -> None:
    with scripted(refuse(grpc.StatusCode.NOT_FOUND)) as (address, _):
        assert exchange(address) == Answer(b"", "gRPC NOT_FOUND: because")


@pytest.mark.parametrize("live", [True, False])
def test_a_full_queue_is_no_lost_connection(live: bool) -> None:
    with scripted(refuse(grpc.StatusCode.UNAVAILABLE), live) as (address, _):
        assert exchange(address) == Answer(b"", "gRPC UNAVAILABLE: because", lost=not live)


def test_a_server_that_says_nothing_is_a_failure_in_time() -> None:
    def reply(_: bytes, context: grpc.ServicerContext) -> bytes:
        while context.is_active():  # until the caller has given up
            time.sleep(0.01)
        return b""

    with scripted(reply) as (address, _):
        answer = exchange(address, timeout_s=0.3)
    assert answer.failure.startswith("gRPC DEADLINE_EXCEEDED")


def test_nobody_listening_is_a_lost_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address(*listener.getsockname())
    answer = exchange(address)
    assert answer.lost
    assert answer.failure.startswith("gRPC UNAVAILABLE: ")
