"""Artifact: one form of the model on disk, as a frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from builder.spec import ModelSpec
from core.files import sha256_file, sha256_parts

Format = Literal["torch", "torchscript", "onnx", "openvino"]

# The files that a version's folder holds, main file first, under the names that Triton's backends look for.
FILES: Final[dict[Format, tuple[str, ...]]] = {
    "torch": ("model.safetensors", "edits.json"),
    "torchscript": ("model.pt",),
    "onnx": ("model.onnx",),
    "openvino": ("model.xml", "model.bin"),
}
BACKENDS: Final[dict[Format, str]] = {"torchscript": "pytorch", "onnx": "onnxruntime", "openvino": "openvino"}
MAX_IR_VERSION: Final = 10  # of ONNX files: the newest that the embedded server's generation (24.10) of runtimes reads


@dataclass(frozen=True)
class Artifact:
    """A model in one format. `folder` holds FILES[format]; a `torch` artifact is a state_dict for the spec's factory,
    changed by the edits beside it, and without a history it is the checkpoint itself, under the user's name. `sha256`
    is over the files' contents, `history` the steps that made it, `key` its identity in the cache."""

    format: Format
    folder: Path
    spec: ModelSpec
    sha256: str
    key: str
    history: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, the main one first."""
        if self.format == "torch" and not self.history:
            return (self.spec.checkpoint.file,)
        return tuple(self.folder / name for name in FILES[self.format])

    @property
    def path(self) -> Path:
        """The main file."""
        return self.files[0]

    @property
    def size_bytes(self) -> int:
        """The files' total size."""
        return sum(file.stat().st_size for file in self.files)


def hash_files(files: tuple[Path, ...]) -> str:
    """One SHA-256 over the contents of several files, in order."""
    return sha256_parts(sha256_file(file) for file in files)
