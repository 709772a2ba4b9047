"""Files that other tools made, as variants beside ours: looked over, and copied as they are.

What is published, timed and served is the other tool's own file; only its form is checked here. Whether it computes the
same is for `verify` to say, as with any other variant.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from builder.artifact import FILES, Artifact
from builder.errors import CheckpointError
from builder.signature import check_onnx_signature, check_openvino_signature
from builder.source import hash_input, save_onnx
from builder.spec import ModelSpec
from core.files import sha256_parts, write_atomically


@dataclass(frozen=True)
class Imported:
    """One of the spec's `imports`. `sha256` is over all of its files."""

    name: str
    format: Literal["onnx", "openvino"]
    sha256: str


def examine_import(spec: ModelSpec, name: str) -> Imported:
    """Finds and hashes an import's files, without loading a runtime. Raises CheckpointError for one that is missing, or
    that keeps its weights anywhere but beside it."""
    file = spec.imports[name]
    field = f"`imports.{name}`"
    main = hash_input(file, field, spec.name)
    more = _weights(file) if file.suffix == ".xml" else _external(file)
    return Imported(
        name,
        "openvino" if file.suffix == ".xml" else "onnx",
        sha256_parts([main, *(hash_input(path, field, spec.name) for path in more)]),
    )


def import_artifact(spec: ModelSpec, imported: Imported, cache: Path) -> Artifact:
    """The artifact, its files copied into the cache. Raises CheckpointError for a file that is damaged, uses operators
    that nothing here knows, or has other inputs and outputs than the spec."""
    file = spec.imports[imported.name]
    folder = cache / f"import-{imported.sha256[:32]}"
    copy = _copy_onnx if imported.format == "onnx" else _copy_openvino
    copy(spec, file, folder)
    if examine_import(spec, imported.name) != imported:
        raise CheckpointError(f"{file} changed while it was being read; build again")
    history = (f"import_{imported.format}",)
    return Artifact(imported.format, folder, spec, imported.sha256, key=imported.sha256, history=history)


def _external(file: Path) -> list[Path]:
    from builder.onnx_file import external_files

    return external_files(file)


def _weights(file: Path) -> list[Path]:
    weights = file.with_suffix(".bin")
    if weights.is_symlink() or not weights.is_file():
        raise CheckpointError(f"{file} needs its weights as {weights.name} beside it, and that is missing or a link")
    return [weights]


def _copy_onnx(spec: ModelSpec, file: Path, folder: Path) -> None:
    from builder.onnx_file import read_onnx

    model = read_onnx(file)
    check_onnx_signature(spec, file, model.graph)
    save_onnx(model, file, folder)


def _copy_openvino(spec: ModelSpec, file: Path, folder: Path) -> None:
    import openvino

    try:
        model: Any = openvino.Core().read_model(file)
    except RuntimeError as error:
        why = [line.strip() for line in str(error).splitlines() if line.strip()][-1][:200]
        raise CheckpointError(f"{file} cannot be read as an OpenVINO model: {why}") from error
    check_openvino_signature(spec, file, model)
    for name, path in zip(FILES["openvino"], (file, file.with_suffix(".bin")), strict=True):
        write_atomically(folder / name, path.read_bytes())
