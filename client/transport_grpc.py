"""gRPC: NVIDIA's own client, its errors turned into ours."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from client.address import Address
from client.errors import DeadlineError, RefusedError, UnknownModelError, UnreachableError
from core.datatypes import BY_NAME
from core.tensors import Arrays


class GrpcTransport:
    """See `client.transport.Transport`."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._client = InferenceServerClient(str(address))

    def is_ready(self, model: str | None) -> bool:
        with self._our_errors():
            if model:
                return bool(self._client.is_model_ready(model, client_timeout=self._timeout_s))
            return bool(self._client.is_server_ready(client_timeout=self._timeout_s))

    def server(self) -> object:
        with self._our_errors():
            return self._client.get_server_metadata(as_json=True, client_timeout=self._timeout_s)

    def metadata(self, model: str, version: str) -> object:
        with self._our_errors():
            return self._client.get_model_metadata(model, version, as_json=True, client_timeout=self._timeout_s)

    def config(self, model: str, version: str) -> object:
        with self._our_errors():
            answer = self._client.get_model_config(model, version, as_json=True, client_timeout=self._timeout_s)
        return answer["config"]

    def statistics(self, model: str) -> object:
        with self._our_errors():
            return self._client.get_inference_statistics(model, as_json=True, client_timeout=self._timeout_s)

    def infer(self, model: str, inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
        tensors = []
        for name, array in inputs.items():
            tensor = InferInput(name, list(array.shape), BY_NAME[array.dtype.name].triton)
            tensors.append(tensor.set_data_from_numpy(array))
        wanted = [InferRequestedOutput(name) for name in outputs]
        with self._our_errors():
            answer = self._client.infer(model, tensors, outputs=wanted, client_timeout=self._timeout_s)
            return {name: answer.as_numpy(name) for name in outputs}

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def _our_errors(self) -> Generator[None]:
        try:
            yield
        except InferenceServerException as error:
            text, status = error.message(), error.status()
            if status == "StatusCode.NOT_FOUND":
                raise UnknownModelError(text) from error
            if status == "StatusCode.DEADLINE_EXCEEDED":
                late = f"the server at {self._address} did not answer within {self._timeout_s:g} s"
                raise DeadlineError(late) from error
            # A full queue and a server that is not there have the same code; asking again tells them apart.
            if status == "StatusCode.UNAVAILABLE" and not self._is_live():
                hint = "is it running, and is this its gRPC port?"
                raise UnreachableError(f"no server answers at {self._address} ({text}); {hint}") from error
            raise RefusedError(text) from error
        except ValueError as error:  # an array whose bytes do not fill its shape
            raise RefusedError(f"its answer cannot be read: {error}") from error

    def _is_live(self) -> bool:
        try:
            return bool(self._client.is_server_live(client_timeout=self._timeout_s))
        except InferenceServerException:
            return False
