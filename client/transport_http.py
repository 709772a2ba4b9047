"""HTTP, with tensors as binary: NVIDIA's own client, its errors turned into ours."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from geventhttpclient.response import HTTPParseError
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from client.address import Address
from client.errors import DeadlineError, RefusedError, UnknownModelError, UnreachableError
from core.datatypes import BY_NAME
from core.tensors import Arrays


class HttpTransport:
    """See `client.transport.Transport`."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._client = InferenceServerClient(str(address), connection_timeout=timeout_s, network_timeout=timeout_s)

    def is_ready(self, model: str | None) -> bool:
        with self._our_errors():
            return bool(self._client.is_model_ready(model) if model else self._client.is_server_ready())

    def server(self) -> object:
        with self._our_errors():
            return self._client.get_server_metadata()

    def metadata(self, model: str, version: str) -> object:
        with self._our_errors():
            return self._client.get_model_metadata(model, version)

    def config(self, model: str, version: str) -> object:
        with self._our_errors():
            return self._client.get_model_config(model, version)

    def statistics(self, model: str) -> object:
        with self._our_errors():
            return self._client.get_inference_statistics(model)

    def infer(self, model: str, inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
        tensors = []
        for name, array in inputs.items():
            tensor = InferInput(name, list(array.shape), BY_NAME[array.dtype.name].triton)
            tensors.append(tensor.set_data_from_numpy(array))
        with self._our_errors():
            answer = self._client.infer(model, tensors, outputs=[InferRequestedOutput(name) for name in outputs])
            return {name: answer.as_numpy(name) for name in outputs}

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def _our_errors(self) -> Generator[None]:
        try:
            yield
        except InferenceServerException as error:
            if error.status() == "404":
                raise UnknownModelError(error.message()) from error
            raise RefusedError(error.message()) from error
        except TimeoutError as error:
            raise DeadlineError(f"the server at {self._address} did not answer within {self._timeout_s:g} s") from error
        except ValueError as error:  # no JSON, or an array whose bytes do not fill its shape
            raise RefusedError(f"its answer cannot be read: {error}") from error
        except (OSError, HTTPParseError) as error:
            hint = "is it running, and is this its HTTP port?"
            raise UnreachableError(f"no server answers at {self._address} ({error}); {hint}") from error
