"""A model repository as the server would see it: folders, versions, files, read with care and without following links
out."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tritonclient.grpc import model_config_pb2 as pb

from core.errors import RepositoryError
from lint.config import Config
from lint.finding import Finding
from lint.onnx_file import read_onnx
from lint.openvino_file import read_openvino
from lint.other_files import read_python, read_tensorrt, read_torchscript
from lint.pbtxt import Block, Span
from lint.reading import read_config
from lint.releases import Release
from lint.signature import ModelFile

CONFIG: Final = "config.pbtxt"
NO_VERSIONS: Final = ("warmup", "initial_state", "configs")
"""Folders in a model's folder that Triton keeps for other uses."""
PREFIX: Final = re.compile(r"\s*[+-]?\d+")  # as C's strtoll reads a number, whatever follows it

# backend -> (its usual file, its reader); other backends' files are not opened.
BACKENDS: Final = {
    "onnxruntime": ("model.onnx", read_onnx),
    "openvino": ("model.xml", read_openvino),
    "pytorch": ("model.pt", read_torchscript),
    "tensorrt": ("model.plan", read_tensorrt),
    "python": ("model.py", read_python),
}
PLATFORMS: Final = {
    "onnxruntime_onnx": "onnxruntime", "tensorrt_plan": "tensorrt",
    "pytorch_libtorch": "pytorch", "libtorch": "pytorch", "torch_aoti": "pytorch",
    "tensorflow_savedmodel": "tensorflow", "tensorflow_graphdef": "tensorflow",
}  # fmt: skip
ENSEMBLE: Final = "ensemble"


@dataclass(frozen=True)
class Version:
    """A folder that the server takes for a version, and the number that it reads from its name."""

    number: int
    folder: Path
    files: frozenset[str]


@dataclass(frozen=True)
class Model:
    """A folder of the repository. `config` is None if its file could not be understood; if there is none, it is empty.
    `ignored` are folders that look like versions and are passed over. `file` is that of the newest version with one."""

    name: str
    folder: Path
    config: Config | None
    has_config: bool
    backend: str
    versions: tuple[Version, ...]
    ignored: tuple[Path, ...]
    file_name: str
    file: ModelFile | None
    reading: tuple[Finding, ...]

    @property
    def path(self) -> Path:
        """Where its configuration stands, or would."""
        return self.folder / CONFIG


def model_folders(path: Path) -> tuple[Path, tuple[Path, ...]]:
    """The repository that a path belongs to, and the folders of models that it names: a repository's all, or the one
    that it is itself, or whose `config.pbtxt` it is. Raises RepositoryError."""
    path = path.absolute()
    if path.name.endswith(".pbtxt") and not path.is_dir():
        path = path.parent
    if not path.is_dir():
        raise RepositoryError(f"{path} is no folder; name a model repository, or the folder of one model in it")
    try:
        if os.path.lexists(path / CONFIG):
            return path.parent, (path,)
        folders = tuple(sorted(entry for entry in path.iterdir() if entry.is_dir()))
    except OSError as error:
        raise RepositoryError(f"{path} cannot be read: {error.strerror}; see who may read it") from error
    if not folders:
        raise RepositoryError(f"{path} holds no model: each is a folder with a config.pbtxt; name another repository")
    return path, folders


def read_model(folder: Path, release: Release) -> Model:
    """Reads one model. Trouble becomes findings in `reading`, or the file's `trouble`."""
    name, path = folder.name, folder / CONFIG
    has_config = os.path.lexists(path)
    findings: tuple[Finding, ...] = ()
    if has_config:
        reading = read_config(path, name, release)
        config, findings = reading.config, reading.findings
    else:
        config = Config(path, "", Block((), Span(0, 0)), pb.ModelConfig())
    try:
        versions, ignored = _versions(folder)
    except OSError as error:
        findings += (Finding("TRN110", "error", name, folder, 0, 0, f"the folder cannot be read: {error.strerror}"),)
        versions, ignored = (), ()
    backend = _backend(config, versions)
    file_name = (config.message.default_model_filename if config else "") or BACKENDS.get(backend, ("",))[0]
    file = next((read for version in versions if file_name and (read := _read_file(backend, version, file_name))), None)
    return Model(name, folder, config, has_config, backend, versions, ignored, file_name, file, findings)


def _versions(folder: Path) -> tuple[tuple[Version, ...], tuple[Path, ...]]:
    """Newest first, and the folders passed over."""
    versions, ignored = [], []
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir() or entry.name in NO_VERSIONS:
            continue
        match = PREFIX.match(entry.name)
        if match is None or (len(entry.name) > 1 and entry.name[0] == "0"):
            ignored.append(entry)
            continue
        files = frozenset(child.name for child in entry.iterdir())
        versions.append(Version(int(match.group()), entry, files))
    versions.sort(key=lambda version: (-version.number, version.folder.name))
    return tuple(versions), tuple(ignored)


def _backend(config: Config | None, versions: tuple[Version, ...]) -> str:
    """As the server decides it: what is written, else the platform's, else by the files of a version."""
    if config is not None:
        message = config.message
        if message.platform == ENSEMBLE or message.HasField("ensemble_scheduling"):
            return ENSEMBLE
        if message.backend or message.platform:
            return str(message.backend or PLATFORMS.get(message.platform, message.platform))
        for backend, (file_name, _reader) in BACKENDS.items():
            if message.default_model_filename == file_name:
                return backend
    files = versions[0].files if versions else frozenset()
    return next((backend for backend, (file_name, _reader) in BACKENDS.items() if file_name in files), "")


def _read_file(backend: str, version: Version, file_name: str) -> ModelFile | None:
    path = version.folder / file_name
    if backend not in BACKENDS or not inside(path, version.folder):
        return None
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        reader = read_onnx if backend == "openvino" and path.suffix == ".onnx" else BACKENDS[backend][1]
        if backend == "openvino" and path.suffix not in (".xml", ".onnx"):
            return None
        return reader(path)
    except OSError as error:
        if not os.path.lexists(path):
            return None
        return ModelFile(path, "other", trouble=f"it cannot be read: {error.strerror or error}")


def inside(path: Path, folder: Path) -> bool:
    """Whether a path, as it is written, stays in a folder."""
    return Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder))


def links_out(model: Model, repository: Path) -> Iterator[tuple[Path, str]]:
    """Symbolic links of a model (its folder, versions and their files) whose target is not in the repository."""
    root = repository.resolve()
    below = [
        path
        for version in model.versions
        for path in (version.folder, *(version.folder / n for n in sorted(version.files)))
    ]
    for path in (model.folder, model.path, *below):
        if path.is_symlink():
            target = os.path.realpath(path)
            if not Path(target).is_relative_to(root):
                yield path, target
