"""HTTP as pure functions: a call to a request, a response to an answer or an error. The sync and the async transport
share them.

Our own, not tritonclient's: with its request and response bodies, one inference of 12 KB takes 0.07 ms longer (0.60 ms
instead of 0.53 ms, over the same connection).
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import numpy as np

from client.calls import Answer, Ask, Call, Infer, Place
from client.datatypes import from_wire, from_wire_bytes, to_wire, wire_name
from client.errors import (
    AnswerError,
    AnswerTooLargeError,
    AuthorizationError,
    OverloadedError,
    RefusedError,
    UnknownModelError,
    UnsupportedError,
)
from client.settings import Compression
from core.errors import InferenceError, InputError
from core.tensors import Arrays

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
LATER: Final = "the server is busy or not ready: send it again later, or less at a time"
_to_json: Final = json.JSONEncoder(separators=(",", ":")).encode  # made once: it takes as long as the encoding
_SHARED: Final = "/v2/systemsharedmemory/region"


class HttpRequest(NamedTuple):
    """A request without its address."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class HttpResponse(NamedTuple):
    """A response. The names of the headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def encode(call: Call, timeout_s: float = 0.0, compression: Compression | None = None) -> HttpRequest:
    """The request for a call. `timeout_s` is how long the server may keep it in its queue, 0 for no limit."""
    if isinstance(call, Ask):
        return _question(call)
    header, blobs = _inference(call, timeout_s)
    body = b"".join((header, *blobs))
    headers = {"Content-Type": "application/octet-stream" if call.binary else "application/json"}
    if call.binary:
        headers[HEADER_LENGTH] = str(len(header))
    if compression:
        headers |= {"Content-Encoding": compression, "Accept-Encoding": compression}
        body = gzip.compress(body, 1) if compression == "gzip" else zlib.compress(body, 1)
    return HttpRequest("POST", f"{_model_path(call.model, call.version)}/infer", headers, body)


def decode(call: Call, response: HttpResponse, max_bytes: int) -> object:
    """What a response answers: an `Answer` to an inference, decoded JSON or a truth to a question. Raises the errors of
    `client.errors`."""
    if isinstance(call, Ask) and call.topic in ("live", "ready"):
        return response.status == 200
    body = _inflate(response, max_bytes)
    if response.status != 200:
        raise error_of(response.status, response.headers, body)
    try:
        if isinstance(call, Infer):
            return _answer(call, body, response.headers.get(HEADER_LENGTH.lower()))
        return json.loads(body) if body else {}
    except (ValueError, KeyError, TypeError, InputError) as error:
        hint = "is this the port of an inference server?"
        raise AnswerError(f"its answer cannot be read as JSON of the protocol ({error}); {hint}") from error


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> InferenceError:
    """The error that a status other than 200 stands for."""
    text = _reason(status, body)
    if status in (401, 403):
        hint = "give a valid one as Settings.token" if status == 401 else "this client may not do that there"
        return AuthorizationError(f"{text} (HTTP {status}); {hint}")
    if status in (429, 502, 503, 504):
        seconds = headers.get("retry-after", "")
        wait_s = float(seconds) if seconds.isdecimal() else 0.0
        return OverloadedError(f"{text} (HTTP {status}); {LATER}", wait_s)
    if status == 404:
        return UnknownModelError(text)
    if status in (405, 501):
        return UnsupportedError(f"{text} (HTTP {status})")
    return RefusedError(text)


def too_large(size: int, max_bytes: int) -> AnswerTooLargeError:
    """The error for an answer above the limit."""
    what = f"the answer has {size} bytes, and this client takes {max_bytes}"
    return AnswerTooLargeError(f"{what}; ask for fewer outputs or raise Settings.max_answer_bytes")


def _question(ask: Ask) -> HttpRequest:
    model = _model_path(ask.model, ask.version) if ask.model else ""
    if ask.region is not None:
        order = json.dumps({"key": ask.region.key, "offset": 0, "byte_size": ask.region.size}).encode()
        body = order if ask.topic == "register" else b""
        return HttpRequest("POST", f"{_SHARED}/{quote(ask.region.name)}/{ask.topic}", {}, body)
    path = {
        "live": "/v2/health/live",
        "ready": f"{model}/ready" if model else "/v2/health/ready",
        "server": "/v2",
        "metadata": model,
        "config": f"{model}/config",
        "statistics": f"{model}/stats" if model else "/v2/models/stats",
        "regions": "/v2/systemsharedmemory/status",
    }[ask.topic]
    return HttpRequest("GET", path, {}, b"")


def _model_path(model: str, version: str) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _inference(call: Infer, timeout_s: float) -> tuple[bytes, list[bytes | memoryview]]:
    """The JSON part of a request, and the binary tensors after it."""
    tensors: list[dict[str, Any]] = []
    blobs: list[bytes | memoryview] = []
    for name, array in call.inputs.items():
        tensor: dict[str, Any] = {"name": name, "shape": array.shape, "datatype": wire_name(array)}
        if name in call.placed:
            tensor["parameters"] = _shared_parameters(call.placed[name])
        elif call.binary:
            blobs.append(blob := to_wire(array))
            tensor["parameters"] = {"binary_data_size": len(blob)}
        else:
            tensor["data"] = [_text(value) for value in array.ravel().tolist()]
        tensors.append(tensor)
    outputs = [
        {
            "name": name,
            "parameters": _shared_parameters(call.placed_outputs[name])
            if name in call.placed_outputs
            else {"binary_data": call.binary},
        }
        for name in call.outputs
    ]
    request: dict[str, Any] = {"inputs": tensors, "outputs": outputs}
    if call.request_id:
        request["id"] = call.request_id
    if parameters := request_parameters(call, timeout_s):
        request["parameters"] = parameters
    return _to_json(request).encode(), blobs


def request_parameters(call: Infer, timeout_s: float) -> dict[str, bool | int | float | str]:
    """All parameters of a request: the caller's, and those that Triton gives a meaning."""
    parameters = dict(call.parameters)
    if call.priority:
        parameters["priority"] = call.priority
    if timeout_s and call.tells_time:
        parameters["timeout"] = int(1e6 * timeout_s) + 1
    if call.sequence:
        part = call.sequence
        parameters |= {"sequence_id": part.id, "sequence_start": part.start, "sequence_end": part.end}
    return parameters


def _shared_parameters(place: Place) -> dict[str, object]:
    return {
        "shared_memory_region": place.region,
        "shared_memory_offset": place.offset,
        "shared_memory_byte_size": place.size,
    }


def _text(value: object) -> object:
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value


def _answer(call: Infer, body: bytes, header_length: str | None) -> Answer:
    at = int(header_length) if header_length else len(body)
    answer = json.loads(body[:at])
    outputs: Arrays = {}
    placed = {}
    view = memoryview(body)
    for tensor in answer["outputs"]:
        name, datatype, shape = tensor["name"], from_wire(tensor["datatype"]), tuple(tensor["shape"])
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is not None:
            outputs[name] = from_wire_bytes(name, view[at : at + size], datatype, shape)
            at += size
        elif "data" in tensor:
            outputs[name] = np.array(tensor["data"], datatype.numpy).reshape(shape)
        else:
            placed[name] = (datatype, shape)
    if missing := [name for name in call.outputs if name not in outputs and name not in placed]:
        raise AnswerError(f"the answer lacks the output {missing[0]!r} that was asked for")
    return Answer(outputs, placed, str(answer.get("model_version", "")))


def _inflate(response: HttpResponse, max_bytes: int) -> bytes:
    encoding = response.headers.get("content-encoding", "identity")
    if encoding not in ("gzip", "deflate"):
        return response.body
    inflater = zlib.decompressobj(wbits=31 if encoding == "gzip" else 15)
    try:
        body = inflater.decompress(response.body, max_bytes + 1)
    except zlib.error as error:
        raise AnswerError(f"its answer cannot be unpacked as {encoding}: {error}") from error
    if len(body) > max_bytes:
        raise too_large(len(body), max_bytes)
    if not inflater.eof:
        raise AnswerError(f"its answer, packed as {encoding}, is cut off")
    return body


def _reason(status: int, body: bytes) -> str:
    try:
        return first_line(str(json.loads(body)["error"]))
    except (ValueError, KeyError, TypeError):
        return first_line(body[:200].decode(errors="replace")) or f"HTTP status {status}"


def first_line(text: str) -> str:
    """What a server says, without the traceback that may follow."""
    return text.strip().partition("\n")[0].rstrip()
