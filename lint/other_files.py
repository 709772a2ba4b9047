"""TorchScript, TensorRT and Python models: what can be read without running any of it."""

from __future__ import annotations

import ast
import pickletools
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Final

from lint.signature import ModelFile, Tensor

MAX_SCRIPT_BYTES: Final = 64 << 20
MAX_SOURCE_BYTES: Final = 4 << 20
# What zipfile and pickletools raise on archives that are cut off, spoiled, encrypted or compressed in unknown ways.
BROKEN: Final = (
    *(zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError),
    *(EOFError, ValueError, LookupError, OSError),
)
FORWARD: Final = re.compile(r"def forward\(\s*self\s*:?[^,)]*(?P<rest>[^)]*)\)", re.DOTALL)
ARGUMENT: Final = re.compile(r"(\w+)\s*:\s*(\w+)")


def read_torchscript(path: Path) -> ModelFile:
    """The names of `forward`'s arguments, from the source in the archive. The pickle in it is looked through, not
    loaded."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(path, archive)
    except BROKEN as error:
        return ModelFile(path, "torchscript", trouble=f"it is no whole archive, so no TorchScript: {error}")


def _read_archive(path: Path, archive: zipfile.ZipFile) -> ModelFile:
    entries = {name.partition("/")[2]: name for name in archive.namelist()}
    if "constants.pkl" not in entries or "data.pkl" not in entries:
        what = "weights only (a `torch.save`d checkpoint)" if "data.pkl" in entries else "neither code nor weights"
        return ModelFile(path, "torchscript", trouble=f"it holds {what}; TorchScript is what `torch.jit.save` writes")
    version = next((_entry(archive, entries[name]) for name in ("version", ".data/version") if name in entries), b"")
    ir_version = int(version) if version.strip().isdigit() else 0
    module = _root_module(_entry(archive, entries["data.pkl"]))
    source_name = entries.get(f"code/{module.rpartition('.')[0].replace('.', '/')}.py")
    if source_name is None:
        return ModelFile(path, "torchscript", ir_version=ir_version)
    source = _entry(archive, source_name).decode("utf-8", "replace")
    kind = re.search(rf"class {re.escape(module.rpartition('.')[2])}\(Module\)", source)
    match = FORWARD.search(source, kind.end()) if kind else None
    if match is None:
        return ModelFile(path, "torchscript", ir_version=ir_version)
    inputs = tuple(Tensor(name) for name, annotation in ARGUMENT.findall(match["rest"]) if annotation == "Tensor")
    return ModelFile(path, "torchscript", inputs, ir_version=ir_version)


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    size = archive.getinfo(name).file_size
    if size > MAX_SCRIPT_BYTES:
        raise ValueError(f"{name} in it is larger than {MAX_SCRIPT_BYTES >> 20} MiB")
    return archive.read(name)


def _root_module(pickled: bytes) -> str:
    """The class of the outermost module, such as `__torch__.net.Net`."""
    for operation, argument, _at in pickletools.genops(pickled):
        if operation.name == "GLOBAL" and isinstance(argument, str):
            return argument.replace(" ", ".")
    return ""


def read_tensorrt(path: Path) -> ModelFile:
    """The first bytes. TensorRT's plans begin with `ftrt`; where the next word is 0 (TensorRT 8.6 and later), bytes 24
    to 27 are the version that made it, as NVIDIA's own `trtexec --getPlanVersionOnly` reads them. An engine of TensorRT
    for RTX begins with `vtrt`."""
    with path.open("rb") as file:
        head = file.read(28)
    if head[1:4] != b"trt":
        return ModelFile(path, "tensorrt", trouble="it does not begin as a TensorRT plan does")
    if head[:4] == b"vtrt":
        return ModelFile(
            path, "tensorrt", trouble="it is an engine of TensorRT for RTX, which Triton's backend cannot read"
        )
    says = len(head) == 28 and head[:8] == b"ftrt" + bytes(4) and head[24]
    return ModelFile(path, "tensorrt", made_by=".".join(map(str, head[24:28])) if says else "")


def read_python(path: Path) -> ModelFile:
    """Whether the source parses and gives the class that Triton asks for."""
    if path.stat().st_size > MAX_SOURCE_BYTES:
        return ModelFile(path, "python", trouble=f"it is larger than {MAX_SOURCE_BYTES >> 20} MiB, which no source is")
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return ModelFile(path, "python", trouble=f"it is no Python source: {error}")
    names = {name for node in ast.walk(tree) for name in _defined(node)}
    if not names & {"TritonPythonModel", "*"}:
        return ModelFile(path, "python", trouble="it defines no class `TritonPythonModel`")
    return ModelFile(path, "python", completes="auto_complete_config" in names)


def _defined(node: ast.AST) -> list[str]:
    """The names that a node gives."""
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            return [name]
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return [alias.asname or alias.name for alias in names]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case _:
            return []
