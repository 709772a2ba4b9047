"""What the three backends share: Triton calls it, and it calls the runtime.

Imported inside Triton's stub processes only, where `triton_python_backend_utils` exists.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import triton_python_backend_utils as triton

from core.tensors import Arrays
from server.backends.batching import batch_sizes, merge, split
from server.backends.config import ModelConfig, parse_config
from server.backends.messages import cause


class PythonBackend(ABC):
    """One model instance. Triton calls `initialize`, `execute` and `finalize`; a backend gives the rest."""

    default_file: ClassVar[str]
    """The model's file in its version folder, if the configuration names no other: as in the native backend."""
    failures: ClassVar[tuple[type[Exception], ...]]
    """What its runtime raises when a model cannot be loaded or run; ValueError is understood."""

    @property
    def _all_failures(self) -> tuple[type[Exception], ...]:
        return (ValueError, *self.failures)

    @abstractmethod
    def load(self, path: Path, config: ModelConfig) -> None:
        """Loads the model. Raises one of `failures`, or ValueError if configuration and file do not fit together."""

    @abstractmethod
    def run(self, inputs: Arrays) -> Arrays:
        """Runs one batch. The outputs may be views that live until the next call."""

    def initialize(self, args: dict[str, Any]) -> None:
        """Loads the model of the version that Triton names. Raises TritonModelException, with one sentence."""
        self.config = parse_config(args["model_config"])
        folder = Path(args["model_repository"], args["model_version"])
        path = folder / (self.config.file_name or self.default_file)
        if path.parent != folder or not path.is_file():
            raise triton.TritonModelException(f"{path} is missing; publish the model again")
        try:
            self.load(path, self.config)
        except self._all_failures as error:
            raise triton.TritonModelException(f"{path} cannot be loaded: {cause(error)}") from None

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers requests, each by its response or its error."""
        inputs = [self._inputs(request) for request in requests]
        together = len(inputs) == 1 or self.config.max_batch_size > 0
        if together:
            try:
                return [_response(outputs) for outputs in self._run_together(inputs)]
            except self._all_failures as error:
                if len(inputs) == 1:
                    return [self._failure(error)]
        # Without a batch axis, or because one of them is to blame, and only that one shall fail.
        return [self._respond_alone(arrays) for arrays in inputs]

    def _respond_alone(self, inputs: Arrays) -> Any:
        try:
            (outputs,) = self._run_together([inputs])
        except self._all_failures as error:
            return self._failure(error)
        return _response({name: array.copy() for name, array in outputs.items()})  # before the next run

    def _failure(self, error: Exception) -> Any:
        message = f"model {self.config.name} failed on this request: {cause(error)}"
        return triton.InferenceResponse([], triton.TritonError(message))

    def _inputs(self, request: Any) -> Arrays:
        return {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in self.config.inputs}

    def _run_together(self, inputs: list[Arrays]) -> list[Arrays]:
        outputs = self.run(merge(inputs))
        return [outputs] if self.config.max_batch_size == 0 else split(outputs, batch_sizes(inputs))


def _response(outputs: Arrays) -> Any:
    return triton.InferenceResponse([triton.Tensor(name, array) for name, array in outputs.items()])
