"""The hash of the code that builds, so that a new Trident does not trust an old one's results."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from core.files import sha256_file, sha256_parts


@cache
def own_code() -> str:
    """Of all files of `builder` and `core`."""
    import builder
    import core

    folders = [Path(package.__file__).parent for package in (builder, core) if package.__file__]
    return sha256_parts(sha256_file(file) for folder in folders for file in sorted(folder.rglob("*.py")))
