"""TorchScript on the CPU: `model.pt`. Parameters: `INTRA_OP_THREAD_COUNT`, `INTER_OP_THREAD_COUNT`."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import ClassVar

# Read when torch loads its OpenMP, whose threads spin for milliseconds while they wait for each other: where anything
# else wants a CPU, each spins away the time slice that the other needs, and a call of 2 ms takes 350. A thousand turns
# (some microseconds), then sleep: as fast on a quiet machine, right on a busy one. Sleeping at once halves the speed.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch

from core.tensors import Arrays
from server.backends.base import PythonBackend
from server.backends.config import ModelConfig, positions


class TritonPythonModel(PythonBackend):
    """Triton looks for this name."""

    default_file = "model.pt"
    failures: ClassVar = (RuntimeError, TypeError, IndexError, KeyError, NotImplementedError)

    def load(self, path: Path, config: ModelConfig) -> None:
        """Loads and freezes the script.

        Frozen, batch normalisation is folded into the convolutions: 7 to 10% faster on small convolutional networks
        than the plain script at batch 1 to 16, and the same at a batch size that was not seen before. The executor's
        fusion, where it applies, must not make code for each batch size: hence dynamic shapes.
        """
        threads = config.count("INTRA_OP_THREAD_COUNT")
        if threads:
            torch.set_num_threads(threads)
        interop_threads = config.count("INTER_OP_THREAD_COUNT")
        if interop_threads:
            torch.set_num_interop_threads(interop_threads)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript itself, which is what is served here
            torch.jit.set_fusion_strategy([("DYNAMIC", 2)])
            script = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
            self._script = torch.jit.freeze(script)
        arguments = [argument.name for argument in self._script.forward.schema.arguments[1:]]
        if len(config.inputs) > len(arguments):
            raise ValueError(f"config.pbtxt has {len(config.inputs)} inputs, the script takes {len(arguments)}")
        self._inputs_order = positions(config.inputs, arguments)
        self._outputs_order = positions(config.outputs, [])

    def run(self, inputs: Arrays) -> Arrays:
        """Runs one batch."""
        given = [torch.from_numpy(inputs[name]) for name in self._inputs_order]
        with torch.inference_mode():
            result = self._script(*given)
        if isinstance(result, dict):
            found = result
        else:
            tensors = [result] if isinstance(result, torch.Tensor) else list(result)
            found = dict(zip(self._outputs_order, tensors, strict=False))
        missing = [name for name in self.config.outputs if name not in found]
        if missing:
            raise ValueError(f"config.pbtxt names the output {', '.join(missing)}, which the script does not return")
        return {name: found[name].numpy() for name in self.config.outputs}
