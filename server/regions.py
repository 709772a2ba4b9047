"""Shared memory of one run of the server, and what earlier runs left behind.

Every stub has a region, a file in /dev/shm. Triton removes it only when it ends in peace, so each run gives its
regions a prefix of its own and holds a lock on a file beside them. The kernel drops the lock when the run's process
ends, however it ends: a prefix whose lock can be had is nobody's, and its files can go, with the temporary folders of
that name. (Process ids would not do, as containers may share /dev/shm but not those.)
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from server.errors import StartError

SHARED_MEMORY: Final = Path("/dev/shm")
PREFIX: Final = "trident_"
LOCK: Final = "lock"


@contextmanager
def leased_prefix(folder: Path = SHARED_MEMORY) -> Iterator[str]:
    """A prefix for the names of this run's regions. All files of that prefix are removed at the end; those of dead runs
    at the start. Raises StartError if `folder` cannot be written."""
    sweep(folder)
    prefix = f"{PREFIX}{secrets.token_hex(6)}_"
    try:
        lock = os.open(folder / f"{prefix}{LOCK}", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise StartError(
            f"{folder} cannot be written ({error.strerror}), and the server passes all tensors through it; "
            "mount it as a writable tmpfs"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield prefix
    finally:
        remove(prefix, folder)
        (folder / f"{prefix}{LOCK}").unlink(missing_ok=True)
        os.close(lock)


def remove(prefix: str, folder: Path = SHARED_MEMORY, keep: Set[str] = frozenset()) -> tuple[str, ...]:
    """Removes the regions of a prefix, neither its lock nor those to `keep`, and returns their names. Their processes
    must have ended."""
    names = tuple(path.name for path in folder.glob(f"{prefix}*") if path.name not in {*keep, f"{prefix}{LOCK}"})
    for name in names:
        (folder / name).unlink(missing_ok=True)
    return names


def sweep(folder: Path = SHARED_MEMORY) -> tuple[str, ...]:
    """Removes what dead runs of this user left, and returns the regions' names."""
    removed: list[str] = []
    for path in folder.glob(f"{PREFIX}*_{LOCK}"):
        try:
            lock = os.open(path, os.O_RDWR)
        except OSError:  # another user's, or just gone
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            prefix = path.name.removesuffix(LOCK)
            removed += remove(prefix, folder)
            for temporary in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
                shutil.rmtree(temporary, ignore_errors=True)
            path.unlink(missing_ok=True)
        except BlockingIOError:  # a living run's
            continue
        finally:
            os.close(lock)
    return tuple(removed)
