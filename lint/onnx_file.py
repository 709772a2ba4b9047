"""The signature of an ONNX file. Field numbers: onnx/onnx.proto."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Final

from core.datatypes import BY_ONNX
from lint.signature import ModelFile, Tensor
from lint.wire import BYTES, VARINT, Buffer, WireError, fields, text

STRING, BFLOAT16 = 8, 16
OTHER_TYPES: Final = {STRING: "STRING", BFLOAT16: "BF16"}
MAX_DEPTH: Final = 8  # graphs within nodes within graphs


def read_onnx(path: Path) -> ModelFile:
    """Reads signature, versions and operators; weights are skipped over. Trouble with the file becomes its
    `trouble`."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read_model(path, data)
    except (WireError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        return ModelFile(path, "onnx", trouble=f"it is no whole ONNX file: {error}")


def _read_model(path: Path, data: Buffer) -> ModelFile:
    ir_version = opset = 0
    graph: tuple[int, int] | None = None
    for number, kind, a, b in fields(data):
        if (number, kind) == (1, VARINT):
            ir_version = a
        elif (number, kind) == (7, BYTES):
            graph = (a, b)
        elif (number, kind) == (8, BYTES):
            domain, version = _opset(data, a, b)
            opset = version if domain in ("", "ai.onnx") else opset
    if graph is None or not ir_version:
        return ModelFile(path, "onnx", trouble="it has no graph or no IR version, so it is no ONNX model")
    found = _Graph(data)
    found.read(*graph, depth=0)
    weights = found.initializers
    inputs = tuple(_tensor(data, *place) for place in found.inputs)
    return ModelFile(
        path, "onnx", tuple(tensor for tensor in inputs if tensor.name not in weights),
        tuple(_tensor(data, *place) for place in found.outputs),
        tuple(tensor for tensor in inputs if tensor.name in weights), knows_signature=True,
        ir_version=ir_version, opset=opset, operators=frozenset(found.operators), needs=tuple(sorted(found.external)),
    )  # fmt: skip


class _Graph:
    """What is gathered over a graph and the graphs within it; inputs and outputs are the outermost one's."""

    def __init__(self, data: Buffer) -> None:
        self._data = data
        self.inputs: list[tuple[int, int]] = []
        self.outputs: list[tuple[int, int]] = []
        self.initializers: set[str] = set()
        self.operators: set[str] = set()
        self.external: set[str] = set()

    def read(self, start: int, end: int, depth: int) -> None:
        for number, kind, a, b in fields(self._data, start, end):
            if kind != BYTES:
                continue
            if number == 1:
                self._node(a, b, depth)
            elif number == 5:
                self._initializer(a, b)
            elif number == 11 and depth == 0:
                self.inputs.append((a, b))
            elif number == 12 and depth == 0:
                self.outputs.append((a, b))

    def _node(self, start: int, end: int, depth: int) -> None:
        operator = domain = ""
        for number, kind, a, b in fields(self._data, start, end):
            if (number, kind) == (4, BYTES):
                operator = text(self._data, a, b)
            elif (number, kind) == (7, BYTES):
                domain = text(self._data, a, b)
            elif (number, kind) == (5, BYTES) and depth < MAX_DEPTH:
                self._attribute(a, b, depth)
        self.operators.add(f"{'' if domain == 'ai.onnx' else domain}/{operator}")

    def _attribute(self, start: int, end: int, depth: int) -> None:
        for number, kind, a, b in fields(self._data, start, end):
            if number in (6, 11) and kind == BYTES:  # a graph, or one of several
                self.read(a, b, depth + 1)

    def _initializer(self, start: int, end: int) -> None:
        for number, kind, a, b in fields(self._data, start, end):
            if (number, kind) == (8, BYTES):
                self.initializers.add(text(self._data, a, b))
            elif (number, kind) == (13, BYTES):
                key, value = _pair(self._data, a, b)
                if key == "location":
                    self.external.add(value)


def _pair(data: Buffer, start: int, end: int) -> tuple[str, str]:
    found = {number: text(data, a, b) for number, kind, a, b in fields(data, start, end) if kind == BYTES}
    return found.get(1, ""), found.get(2, "")


def _opset(data: Buffer, start: int, end: int) -> tuple[str, int]:
    domain, version = "", 0
    for number, kind, a, b in fields(data, start, end):
        if (number, kind) == (1, BYTES):
            domain = text(data, a, b)
        elif (number, kind) == (2, VARINT):
            version = a
    return domain, version


def _tensor(data: Buffer, start: int, end: int) -> Tensor:
    """A ValueInfoProto."""
    name, tensor = "", Tensor("")
    for number, kind, a, b in fields(data, start, end):
        if (number, kind) == (1, BYTES):
            name = text(data, a, b)
        elif (number, kind) == (2, BYTES):
            for inner, inner_kind, c, d in fields(data, a, b):
                if (inner, inner_kind) == (1, BYTES):  # of the kinds of types, a tensor
                    tensor = _tensor_type(data, c, d)
    return Tensor(name, tensor.datatype, tensor.shape)


def _tensor_type(data: Buffer, start: int, end: int) -> Tensor:
    datatype, shape = "", None
    for number, kind, a, b in fields(data, start, end):
        if (number, kind) == (1, VARINT):
            datatype = BY_ONNX[a].triton if a in BY_ONNX else OTHER_TYPES.get(a, "")
        elif (number, kind) == (2, BYTES):
            shape = tuple(
                _dim(data, c, d) for inner, c_kind, c, d in fields(data, a, b) if (inner, c_kind) == (1, BYTES)
            )
    return Tensor("", datatype, shape)


def _dim(data: Buffer, start: int, end: int) -> int:
    """A size, or -1 for one that has a name or nothing."""
    for number, kind, a, _b in fields(data, start, end):
        if (number, kind) == (1, VARINT):
            return a if 0 <= a < 1 << 63 else -1
    return -1
