"""Inference by name against one server, the same over both protocols."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from client.address import parse_address
from client.axes import cut_back, pad_to_buckets
from client.counters import ModelStatistics, parse_statistics
from client.errors import RefusedError, UnknownModelError
from client.metadata import ModelMetadata, parse_metadata
from client.transport import ProtocolName, open_transport
from core.errors import InferenceError
from core.tensors import Arrays


class _WireServer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str


class InferenceClient:
    """A connection to the server at `url` (`host:port`), to be closed or used in a `with` statement.

    Not safe for threads: the HTTP library underneath is built on gevent. Give each thread its own client.

    A request has `timeout_s` for connecting and again for each wait for an answer. What a model takes is asked once and
    remembered; open a new client after publishing a version with other inputs.
    """

    def __init__(self, url: str, protocol: ProtocolName = "http", timeout_s: float = 30.0) -> None:
        self._address = parse_address(url, protocol)
        self._transport = open_transport(self._address, protocol, timeout_s)
        self._metadata: dict[tuple[str, str], ModelMetadata] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives the connection back. The client cannot be used afterwards."""
        self._transport.close()

    def is_ready(self, model: str | None = None) -> bool:
        """Whether the server (all of its models, unless it was told otherwise) or one model takes requests. False, and
        no error, if there is no server."""
        try:
            return self._transport.is_ready(model)
        except InferenceError:
            return False

    def server_version(self) -> str:
        """The server's version, such as `2.51.0`."""
        return _WireServer.model_validate(self._transport.server()).version

    def metadata(self, model: str, version: str = "") -> ModelMetadata:
        """What a model takes and gives. Raises UnknownModelError if the server does not have it, or cannot load it."""
        if (model, version) not in self._metadata:
            try:
                answers = self._transport.metadata(model, version), self._transport.config(model, version)
            except UnknownModelError as error:
                raise self._unknown(model, version, error) from error
            self._metadata[model, version] = parse_metadata(*answers)
        return self._metadata[model, version]

    def statistics(self, model: str) -> ModelStatistics:
        """The server's counters of a model, all versions together."""
        self.metadata(model)  # answers an unknown model with a code of its own, as statistics over HTTP do not
        return parse_statistics(self._transport.statistics(model))

    def infer(self, model: str, inputs: Arrays | NDArray[np.generic], outputs: tuple[str, ...] | None = None) -> Arrays:
        """The outputs by name (all, or those wanted), as read-only arrays.

        `inputs` are arrays by name, or the one array of a model with one input: `[N, ...]`, N at most the model's
        `max_batch`. Where the model has buckets, a request is padded to the next one, and its answer cut back. Raises
        SignatureError before anything is sent if they do not fit, else an error of `client.errors`.
        """
        metadata = self.metadata(model)
        if isinstance(inputs, np.ndarray):
            if len(metadata.inputs) != 1:
                raise metadata.mismatch("one array without a name was given")
            inputs = {metadata.inputs[0].name: inputs}
        metadata.check_inputs(inputs)
        if outputs is None:
            outputs = tuple(tensor.name for tensor in metadata.outputs)
        metadata.check_outputs(outputs)
        padded = pad_to_buckets(inputs, metadata.axes, metadata.buckets)
        try:
            answer = self._transport.infer(model, padded, outputs)
        except UnknownModelError as error:
            raise self._unknown(model, "", error) from error
        except RefusedError as error:
            raise RefusedError(f"the server refused a request for model {model!r}: {error}") from error
        return cut_back(answer, inputs, metadata.axes, metadata.buckets)

    def _unknown(self, model: str, version: str, error: UnknownModelError) -> UnknownModelError:
        wanted = f"model {model!r} version {version}" if version else f"model {model!r}"
        why = str(error).partition("\n")[0]
        return UnknownModelError(f"the server at {self._address} does not serve {wanted}: {why}")
