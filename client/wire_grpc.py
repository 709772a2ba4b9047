"""gRPC as pure functions: a call to one of tritonclient's messages, a message to an answer, a status to an error. The
sync and the async transport share them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2 as pb

from client.address import Endpoint
from client.calls import Answer, Ask, Infer, Place
from client.datatypes import from_wire, from_wire_bytes, to_wire, wire_name
from client.errors import (
    AbandonedError,
    AnswerError,
    AnswerTooLargeError,
    AuthorizationError,
    DeadlineError,
    OverloadedError,
    RefusedError,
    TlsError,
    UnknownModelError,
    UnreachableError,
    UnsupportedError,
    WrongProtocolError,
)
from client.settings import Compression, Parameter, Tls
from client.tls import tls_context
from client.wire_http import LATER, first_line, request_parameters
from core.errors import InferenceError, InputError
from core.tensors import Arrays

COMPRESSION: Final[Mapping[Compression | None, grpc.Compression | None]] = {
    None: None,  # to say that there is none costs a header, and time
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}
# The typed fields that a server may answer in, instead of raw bytes. FP16 has none.
_TYPED: Final = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
# What gRPC itself says, with the status of a server that is busy, when a connection broke.
_BROKEN: Final = ("socket closed", "connection reset", "broken pipe", "recvmsg", "goaway", "transport closed",
                  "stream removed", "endpoint closing", "connection refused", "rst_stream", "handshaker")  # fmt: skip
_DISTRUST: Final = ("handshake failed", "certificate", "ssl_error", "verification check failed")
_RESTRICTED: Final = "This protocol is restricted"


def channel_options(max_bytes: int) -> list[tuple[str, int]]:
    """One connection for each client, found again as soon as its server is; retries are our own."""
    return [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", min(max_bytes, (1 << 31) - 1)),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 20_000),  # which is how long connecting may take
        ("grpc.max_reconnect_backoff_ms", 500),
    ]


def credentials(tls: Tls | None) -> grpc.ChannelCredentials:
    """A client's TLS as gRPC wants it. Raises TlsError if a file is no PEM file of its kind."""
    tls_context(tls)  # gRPC itself would only say that nobody answers
    tls = tls or Tls()
    ca, key, certificate = (
        Path(file).read_bytes() if file else None for file in (tls.ca_file, tls.key_file, tls.certificate_file)
    )
    return grpc.ssl_channel_credentials(ca, key, certificate)


def message_of(ask: Ask) -> tuple[str, Any]:
    """The method's name and the message of a question."""
    if ask.region is not None:
        name, key, size = ask.region
        if ask.topic == "register":
            register = pb.SystemSharedMemoryRegisterRequest(name=name, key=key, offset=0, byte_size=size)
            return "SystemSharedMemoryRegister", register
        return "SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(name=name)
    match ask.topic:
        case "live":
            return "ServerLive", pb.ServerLiveRequest()
        case "ready" if ask.model:
            return "ModelReady", pb.ModelReadyRequest(name=ask.model, version=ask.version)
        case "ready":
            return "ServerReady", pb.ServerReadyRequest()
        case "metadata":
            return "ModelMetadata", pb.ModelMetadataRequest(name=ask.model, version=ask.version)
        case "config":
            return "ModelConfig", pb.ModelConfigRequest(name=ask.model, version=ask.version)
        case "statistics":
            return "ModelStatistics", pb.ModelStatisticsRequest(name=ask.model, version=ask.version)
        case "regions":
            return "SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest()
    return "ServerMetadata", pb.ServerMetadataRequest()


def answer_of(ask: Ask, message: Any) -> object:
    """What a message answers, as plain data spelled as over HTTP."""
    if ask.topic in ("live", "ready"):
        return bool(message.live if ask.topic == "live" else message.ready)
    plain = MessageToDict(message, preserving_proto_field_name=True)
    return plain["config"] if ask.topic == "config" else plain


def encode(call: Infer, timeout_s: float = 0.0) -> Any:
    """The `ModelInferRequest` of a call. `timeout_s`: how long the server may keep it in its queue, 0 for no limit."""
    request = pb.ModelInferRequest(model_name=call.model, model_version=call.version, id=call.request_id)
    for name, array in call.inputs.items():
        tensor = request.inputs.add(name=name, datatype=wire_name(array), shape=array.shape)
        if name in call.placed:
            _place(tensor.parameters, call.placed[name])
        else:
            request.raw_input_contents.append(bytes(to_wire(array)))
    for name in call.outputs:
        wanted = request.outputs.add(name=name)
        if name in call.placed_outputs:
            _place(wanted.parameters, call.placed_outputs[name])
    for key, value in request_parameters(call, timeout_s).items():
        _set(request.parameters[key], value, unsigned=key == "priority")
    return request


def decode(call: Infer, response: Any, partial: bool = False) -> Answer:
    """What a `ModelInferResponse` answers. Raises AnswerError if it cannot be read or, unless it may be `partial`,
    lacks an output that was asked for."""
    outputs: Arrays = {}
    placed = {}
    raw = iter(response.raw_output_contents)
    try:
        for tensor in response.outputs:
            name, datatype, shape = tensor.name, from_wire(tensor.datatype), tuple(tensor.shape)
            if name in call.placed_outputs:
                placed[name] = (datatype, shape)
                next(raw, None)  # it is there, and empty
            elif response.raw_output_contents:
                outputs[name] = from_wire_bytes(name, next(raw), datatype, shape)
            else:
                values = getattr(tensor.contents, _TYPED[tensor.datatype])
                outputs[name] = np.array(values, datatype.numpy).reshape(shape)
    except (ValueError, KeyError, StopIteration, InputError) as error:
        raise AnswerError(f"its answer cannot be read: {error}") from error
    missing = [name for name in call.outputs if name not in outputs and name not in placed]
    if missing and not partial:
        raise AnswerError(f"the answer lacks the output {missing[0]!r} that was asked for")
    return Answer(outputs, placed, response.model_version)


def error_of(code: grpc.StatusCode, details: str, endpoint: Endpoint, timeout_s: float) -> InferenceError:
    """The error that a status stands for."""
    details = first_line(details)
    lower = details.lower()
    match code:
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineError(f"the server at {endpoint.address} did not answer within {timeout_s:g} s")
        case grpc.StatusCode.NOT_FOUND:
            return UnknownModelError(details)
        case grpc.StatusCode.UNIMPLEMENTED:
            return UnsupportedError(f"{details or 'the server does not know this call'} (gRPC UNIMPLEMENTED)")
        case grpc.StatusCode.UNAUTHENTICATED:
            return AuthorizationError(f"{details} (gRPC UNAUTHENTICATED); give a valid one as Settings.token")
        case grpc.StatusCode.PERMISSION_DENIED:
            return AuthorizationError(f"{details} (gRPC PERMISSION_DENIED); this client may not do that there")
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in details:
            hint = "ask for fewer outputs or raise Settings.max_answer_bytes"
            return AnswerTooLargeError(f"the answer is larger than this client takes ({details}); {hint}")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return OverloadedError(f"{details} (gRPC RESOURCE_EXHAUSTED); {LATER}")
        case grpc.StatusCode.CANCELLED if details == "Locally cancelled by application!":
            return AbandonedError("the request was cancelled")
        case grpc.StatusCode.CANCELLED:
            return UnreachableError(f"the server at {endpoint.address} gave the request up: {details}", sent=True)
        case grpc.StatusCode.UNAVAILABLE if details.startswith(_RESTRICTED):
            return AuthorizationError(f"{details}; this client may not do that there")
    if any(sign in lower for sign in _DISTRUST):
        hint = "see Settings.tls, and whether the server's certificate is valid"
        return TlsError(f"no encrypted connection to {endpoint.address}: {details}; {hint}")
    hint = "is it running, and is this its gRPC port?"
    if lower.startswith("failed to connect"):
        if lower.endswith("socket closed"):
            what = f"what listens at {endpoint.address} does not speak gRPC ({details})"
            return WrongProtocolError(f"{what}; is this its gRPC port (Triton's is 8001)?")
        return UnreachableError(f"no server answers at {endpoint.address} ({details}); {hint}")
    broken = any(sign in lower for sign in _BROKEN)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN) and broken:
        return UnreachableError(f"no server answers at {endpoint.address} any more ({details}); {hint}", sent=True)
    if code is grpc.StatusCode.UNAVAILABLE:
        return OverloadedError(f"{details} (gRPC UNAVAILABLE); {LATER}")
    return RefusedError(details)


def stream_error(text: str) -> InferenceError:
    """The error for what a stream brings instead of an answer: Triton gives it no status."""
    text = first_line(text)
    return UnknownModelError(text) if "unknown model" in text else RefusedError(text)


def _place(parameters: Any, place: Place) -> None:
    parameters["shared_memory_region"].string_param = place.region
    parameters["shared_memory_offset"].int64_param = place.offset
    parameters["shared_memory_byte_size"].int64_param = place.size


def _set(parameter: Any, value: Parameter, unsigned: bool) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        if unsigned:
            parameter.uint64_param = value
        else:
            parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value
