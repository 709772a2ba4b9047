"""Puts together the folders that the server is started with.

They lie in a temporary folder, since the server passes their paths through a shell without quotes, and the project or
the repository may well lie under `My Documents`. It is also the server's working folder: the stubs look for Python
modules there first, so it must hold nothing of anybody else's.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from server.errors import StartError
from server.locate import Installation

OWN_BACKENDS: Final = Path(__file__).parent / "backends"
SAFE_PATH: Final = re.compile(r"[A-Za-z0-9_./+-]+")


@dataclass(frozen=True)
class Assembly:
    """The folders of one run. `repository` is a link to the real one; `canaries` is a second one, of models that are
    tried out."""

    root: Path
    backends: Path
    repository: Path
    canaries: Path


@contextmanager
def assembled(installation: Installation, repository: Path, prefix: str) -> Iterator[Assembly]:
    """Assembles backends and a link to the repository, in a folder whose name begins with `prefix`; all is removed at
    the end. Raises StartError if the folder for temporary files cannot be used."""
    try:
        root = Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as error:
        raise StartError(f"no temporary folder can be made ({error}); set TMPDIR to a writable folder") from error
    try:
        _check_root(root)
        assembly = Assembly(root, root / "backends", root / "repository", root / "canaries")
        _link_backends(assembly.backends, installation)
        assembly.repository.symlink_to(repository.resolve())
        assembly.canaries.mkdir()
        yield assembly
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _check_root(root: Path) -> None:
    if not SAFE_PATH.fullmatch(str(root)):
        raise StartError(f"the server hands {root} to a shell; set TMPDIR to a folder with a plain name, as /tmp")
    if os.statvfs(root).f_flag & os.ST_NOEXEC:
        raise StartError(
            f"{root.parent} is mounted noexec, but the server maps a library from there; mount it with `exec`, or set "
            "TMPDIR to another folder"
        )


def _link_backends(backends: Path, installation: Installation) -> None:
    python = backends / "python"
    python.mkdir(parents=True)
    # A copy: the server refuses a library that, its links resolved, lies outside of the backend's folder.
    shutil.copy(installation.python_backend / "libtriton_python.so", python)
    for path in (installation.python_backend / "triton_python_backend_utils.py", installation.stub):
        (python / path.name).symlink_to(path)
    for model in OWN_BACKENDS.glob("*/model.py"):
        folder = backends / model.parent.name
        folder.mkdir()
        (folder / model.name).symlink_to(model)


def environment(installation: Installation, inherited: Mapping[str, str]) -> dict[str, str]:
    """The server's environment. The stubs find this Python's packages by the first `python3` on PATH (they ignore
    PYTHONPATH), and the copied library finds its own by LD_LIBRARY_PATH."""
    libraries = [str(installation.libraries), str(installation.libpython_folder), inherited.get("LD_LIBRARY_PATH", "")]
    path = [str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)]
    return {
        **inherited,
        "PATH": os.pathsep.join(filter(None, path)),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
    }
