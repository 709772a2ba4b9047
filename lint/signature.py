"""What a model's file says of itself, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Format = Literal["onnx", "openvino", "torchscript", "tensorrt", "python", "other"]


@dataclass(frozen=True)
class Tensor:
    """An input or output. `datatype` is Triton's spelling without `TYPE_`, empty where the file does not say it.
    `shape` has -1 for a free axis, the batch axis among them, and is None where the file does not say it."""

    name: str
    datatype: str = ""
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class ModelFile:
    """A model's file, read without its weights and without running anything.

    `defaults` are inputs that have a value where a request gives none. `operators` are `domain/Operator`, the domain of
    plain ONNX being empty. `opset` is ONNX's or OpenVINO's. `made_by` is the TensorRT that made a plan, if it says so.
    `needs` are files that it reads beside itself. `completes`: it fills in its configuration itself. `trouble` says why
    it cannot be what its name promises; the rest is then empty."""

    path: Path
    form: Format
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    defaults: tuple[Tensor, ...] = ()
    knows_signature: bool = False
    ir_version: int = 0
    opset: int = 0
    made_by: str = ""
    operators: frozenset[str] = field(default_factory=frozenset)
    needs: tuple[str, ...] = ()
    completes: bool = False
    trouble: str = ""
