"""gRPC: messages serialized before the load, on one channel a user.

A serialized protobuf message may be cut between its fields. So the part that names the model is made apart and put
before the part with the tensor, and the channel sends bytes as they are.
"""

from __future__ import annotations

from typing import Final

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from client.address import Address
from core.datatypes import BY_NAME, from_triton
from core.tensors import Arrays
from loadtest.wire import Answer

_SERVICE: Final = "/inference.GRPCInferenceService"
_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),  # else channels to one address share one connection
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A restarted server is found again as soon as over HTTP; the library's own pause grows from 1 s to 2 minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
)
# The typed fields that a server may answer in, instead of raw bytes. FP16 has none.
_TYPED: Final = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents",
}  # fmt: skip


def head(model: str) -> bytes:
    """The part of a serialized `ModelInferRequest` that names the model."""
    return bytes(service_pb2.ModelInferRequest(model_name=model).SerializeToString())


def encode(inputs: Arrays, output: str) -> bytes:
    """All of a serialized `ModelInferRequest` but the model's name. The tensors are raw bytes, one output is asked
    for."""
    request = service_pb2.ModelInferRequest()
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=BY_NAME[array.dtype.name].triton, shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    request.outputs.add(name=output)
    return bytes(request.SerializeToString())


def read_answer(message: bytes, expected_bytes: int) -> Answer:
    """The one output in a serialized `ModelInferResponse`. One of another size than `expected_bytes` is a failure."""
    response = service_pb2.ModelInferResponse.FromString(message)
    if response.raw_output_contents:
        data = bytes(response.raw_output_contents[0])
    else:
        data = b"".join(_typed_bytes(output) for output in response.outputs[:1])
    if len(data) != expected_bytes:
        return Answer(b"", f"gRPC OK, but the output has {len(data)} bytes instead of {expected_bytes}")
    return Answer(data)


def _typed_bytes(output: service_pb2.ModelInferResponse.InferOutputTensor) -> bytes:
    if output.datatype not in _TYPED:
        return b""
    values = getattr(output.contents, _TYPED[output.datatype])
    return np.array(values, from_triton(output.datatype).numpy).tobytes()


class GrpcConnection:
    """One channel with one connection of its own. See `loadtest.wire.Connection`."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(str(address), _OPTIONS)
        # Without serializers, bytes go out and come in as they are.
        self._infer = self._channel.unary_unary(f"{_SERVICE}/ModelInfer")
        self._live = self._channel.unary_unary(f"{_SERVICE}/ServerLive")

    def open(self) -> None:
        """Connects, by a question that the server does not count."""
        self._is_live()

    def close(self) -> None:
        """Disconnects for good."""
        self._channel.close()

    def exchange(self, request: bytes, expected_bytes: int) -> Answer:
        """Sends one request and waits for its answer. A failure is told by status code and details."""
        try:
            message = self._infer(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            code = error.code()
            # A full queue and a server that is not there have the same code; asking again tells them apart.
            lost = code is grpc.StatusCode.UNAVAILABLE and not self._is_live()
            return Answer(b"", f"gRPC {code.name}: {error.details()[:200]}", lost)
        return read_answer(message, expected_bytes)

    def _is_live(self) -> bool:
        try:
            self._live(b"", timeout=self._timeout_s)
        except grpc.RpcError:
            return False
        return True
