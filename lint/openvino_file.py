"""The signature of an OpenVINO IR: `model.xml`, whose weights lie in a `.bin` beside it."""

from __future__ import annotations

import re
import xml.parsers.expat
from pathlib import Path
from typing import Final

from lint.signature import ModelFile, Tensor

MAX_BYTES: Final = 256 << 20
ELEMENT_TYPES: Final = {
    "f32": "FP32", "f16": "FP16", "f64": "FP64", "bf16": "BF16", "boolean": "BOOL", "string": "STRING",
    "i8": "INT8", "i16": "INT16", "i32": "INT32", "i64": "INT64",
    "u8": "UINT8", "u16": "UINT16", "u32": "UINT32", "u64": "UINT64",
}  # fmt: skip
PRECISIONS: Final = {
    **{name: name for name in ELEMENT_TYPES.values()},
    **{f"I{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    "BOOL": "BOOL",
}
OPSET: Final = re.compile(r"opset(\d+)")


def read_openvino(path: Path) -> ModelFile:
    """Reads the layers. No entity is expanded, and a document that declares one is refused: it could grow without
    bound. Trouble with the file becomes its `trouble`."""
    if path.stat().st_size > MAX_BYTES:
        return ModelFile(path, "openvino", trouble=f"it is larger than {MAX_BYTES >> 20} MiB, which no IR's XML is")
    layers = _Layers()
    parser = xml.parsers.expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = layers.start, layers.end
    parser.CharacterDataHandler = layers.characters
    parser.EntityDeclHandler = layers.entity
    parser.buffer_text = True
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
    except (xml.parsers.expat.ExpatError, ValueError) as error:
        return ModelFile(path, "openvino", trouble=f"it is no whole XML document: {error}")
    if not layers.is_net:
        return ModelFile(path, "openvino", trouble="its outermost element is not `net`, so it is no OpenVINO IR")
    return ModelFile(
        path, "openvino", tuple(layers.inputs), tuple(layers.outputs()), knows_signature=True,
        ir_version=layers.ir_version, opset=layers.opset, operators=frozenset(layers.operators),
        needs=(path.with_suffix(".bin").name,) if layers.has_weights else (),
    )  # fmt: skip


class _Layers:
    """The layers and edges of an IR, gathered as the parser meets them. Sub-graphs (`body`) are passed over."""

    def __init__(self) -> None:
        self.is_net, self.has_weights = False, False
        self.ir_version = self.opset = 0
        self.inputs: list[Tensor] = []
        self.operators: set[str] = set()
        self._depth = self._bodies = 0
        self._layer: dict[str, str] = {}
        self._port: dict[str, str] = {}
        self._side, self._text = "", ""
        self._dims: list[int] = []
        self._ports: dict[tuple[str, str], Tensor] = {}
        self._results: list[str] = []
        self._sources: dict[str, tuple[str, str]] = {}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self._depth == 0 and name == "net":
            self.is_net = True
            version = attributes.get("version", "")
            self.ir_version = int(version) if version.isdecimal() else 0
        self._depth += 1
        self._bodies += name in ("body", "then_body", "else_body")
        if self._bodies:
            return
        if name == "layer":
            self._layer = attributes
            match = OPSET.fullmatch(attributes.get("version", ""))
            self.opset = max(self.opset, int(match[1]) if match else 0)
            self.operators.add(f"{attributes.get('version', '')}/{attributes.get('type', '')}")
            if attributes.get("type") == "Result":
                self._results.append(attributes.get("id", ""))
        elif name == "data" and attributes.get("offset"):
            self.has_weights = True
        elif name in ("input", "output"):
            self._side = name
        elif name == "port":
            self._port, self._dims = attributes, []
        elif name == "edge":
            self._sources[attributes.get("to-layer", "")] = (
                attributes.get("from-layer", ""), attributes.get("from-port", "")
            )  # fmt: skip
        self._text = ""

    def characters(self, text: str) -> None:
        self._text += text

    def end(self, name: str) -> None:
        self._depth -= 1
        if name in ("body", "then_body", "else_body"):
            self._bodies -= 1
        elif self._bodies:
            return
        elif name == "dim":
            size = self._text.strip()
            self._dims.append(int(size) if size.isdecimal() else -1)
        elif name == "port" and self._side == "output":
            tensor = self._tensor()
            self._ports[self._layer.get("id", ""), self._port.get("id", "")] = tensor
            if self._layer.get("type") == "Parameter":
                self.inputs.append(tensor)

    def entity(self, *_declaration: object) -> None:
        raise ValueError("it declares an entity, which no IR does")

    def outputs(self) -> list[Tensor]:
        """What the results read."""
        return [self._ports.get(self._sources.get(result, ("", "")), Tensor("")) for result in self._results]

    def _tensor(self) -> Tensor:
        names = self._port.get("names", "").replace("\\,", "\0").split(",")
        name = names[0].replace("\0", ",") or self._layer.get("name", "")
        return Tensor(name, PRECISIONS.get(self._port.get("precision", ""), ""), tuple(self._dims))
