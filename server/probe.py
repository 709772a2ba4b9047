"""A small client for the server's own supervisor: health and inference with binary tensors over HTTP, model control."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from core.datatypes import BY_NAME, from_triton
from core.tensors import Arrays
from server.control import Control
from server.errors import AnswerError, NoAnswerError

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
CONTROL_HEADER: Final = "trident-control-key"
UNLOAD_TIMEOUT_S: Final = 30.0
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True)
class Loaded:
    """A row of the server's model index."""

    name: str
    version: int
    ready: bool
    reason: str


@dataclass(frozen=True)
class Probe:
    """Requests to one server. Each has a connection of its own: after a restart there is none to mend, and threads
    may share a probe. All methods raise AnswerError or NoAnswerError."""

    host: str
    port: int
    control_key: str = ""
    timeout_s: float = 5.0
    grpc_port: int = 0  # for loading and unloading

    def live(self) -> bool:
        """Whether the server answers at all."""
        try:
            self._call("GET", "/v2/health/live")
        except (AnswerError, NoAnswerError):
            return False
        return True

    def server_version(self) -> str:
        """Such as `2.51.0`."""
        return str(self._json("GET", "/v2")["version"])

    def index(self) -> tuple[Loaded, ...]:
        """All models that the server knows and has tried to load."""
        rows = self._json("POST", "/v2/repository/index")
        return tuple(
            Loaded(row["name"], int(row.get("version", 0)), row["state"] == "READY", row.get("reason", ""))
            for row in rows
            if "state" in row
        )

    def load(self, model: str, timeout_s: float, config: str = "") -> None:
        """Loads a model, by another configuration (JSON) than its folder's if given; returns when it is ready. What
        it served before serves on until then, and also if it fails."""
        self._control.load(model, timeout_s, config)

    def unload(self, model: str) -> None:
        """Unloads a model; returns when its requests are done and it is gone."""
        self._control.unload(model, UNLOAD_TIMEOUT_S)

    @property
    def _control(self) -> Control:
        return Control(f"{self.host}:{self.grpc_port}", CONTROL_HEADER, self.control_key)

    def max_batch(self, model: str) -> int:
        """The model's `max_batch_size`."""
        return int(self._json("GET", f"/v2/models/{model}/config")["max_batch_size"])

    def executions(self, model: str) -> int:
        """How many batches the model has computed so far, over all versions."""
        stats = self._json("GET", f"/v2/models/{model}/stats")["model_stats"]
        return sum(int(row["execution_count"]) for row in stats)

    def infer(self, model: str, version: int, inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
        """Sends arrays in full shape, the batch first, and returns the named outputs."""
        header, blobs = _encode(inputs, outputs)
        body = b"".join((header, *blobs))
        path = f"/v2/models/{model}/versions/{version}/infer"
        return _decode(*self._call("POST", path, body, {HEADER_LENGTH: str(len(header))}))

    def _json(self, method: str, path: str) -> Any:
        return json.loads(self._call(method, path)[0])

    def _call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] = NO_HEADERS,
        timeout_s: float | None = None,
    ) -> tuple[bytes, int]:
        """The answer's body, and the length of its JSON part."""
        timeout_s = timeout_s or self.timeout_s
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            connection.request(method, path, body, {**headers, CONTROL_HEADER: self.control_key})
            response = connection.getresponse()
            data = response.read()
        except TimeoutError as error:
            raise NoAnswerError(f"the server did not answer {method} {path} within {timeout_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswerError(
                f"the server did not answer {method} {path}: {str(error) or type(error).__name__}"
            ) from error
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise AnswerError(response.status, _reason(response.status, data))
        return data, int(response.headers.get(HEADER_LENGTH, len(data)))


def _reason(status: int, data: bytes) -> str:
    try:
        return str(json.loads(data)["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {status}"


def _encode(inputs: Arrays, outputs: tuple[str, ...]) -> tuple[bytes, list[bytes]]:
    blobs = [np.ascontiguousarray(array).tobytes() for array in inputs.values()]
    described = [
        {
            "name": name,
            "shape": array.shape,
            "datatype": BY_NAME[array.dtype.name].triton,
            "parameters": {"binary_data_size": len(blob)},
        }
        for (name, array), blob in zip(inputs.items(), blobs, strict=True)
    ]
    wanted = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    return json.dumps({"inputs": described, "outputs": wanted}).encode(), blobs


def _decode(data: bytes, header_length: int) -> Arrays:
    arrays: Arrays = {}
    at = header_length
    for output in json.loads(data[:header_length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        raw = np.frombuffer(data[at : at + size], from_triton(output["datatype"]).numpy)
        arrays[output["name"]] = raw.reshape(output["shape"])
        at += size
    return arrays
