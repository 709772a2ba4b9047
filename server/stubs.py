"""The server's child processes: one stub a model instance, found and recognised by its command line."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KILL_DEADLINE_S: Final = 5.0


@dataclass(frozen=True)
class Stub:
    """A stub process. Its command line is unique, as it holds the name of its shared-memory region."""

    pid: int
    model: str
    region: str
    command: bytes

    @property
    def alive(self) -> bool:
        """Whether it still runs; a dead one that nobody has waited for yet has an empty command line."""
        return _command(self.pid) == self.command

    @property
    def resident_bytes(self) -> int:
        """Its memory (VmRSS): all pages that it has in RAM, those of shared libraries in full. The proportional size
        (Pss) would divide these among all who use them, and so depend on which other models are served. 0 if dead."""
        status = _read(self.pid, "status").decode(errors="replace") if self.alive else ""
        found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        return int(found[1]) * 1024 if found else 0

    def kill(self) -> None:
        """Ends it at once, and waits until it is gone."""
        deadline = time.monotonic() + KILL_DEADLINE_S
        while self.alive and time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.005)


def find_stubs(prefix: str) -> tuple[Stub, ...]:
    """All stubs whose region's name starts with `prefix`."""
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    stubs = (_parse(pid, _command(pid), prefix) for pid in pids)
    return tuple(stub for stub in stubs if stub)


def _parse(pid: int, command: bytes, prefix: str) -> Stub | None:
    # <stub> <repository>/<model>/<version>/<file> <region> <size> <growth> <server's process> ...
    words = command.decode(errors="replace").split("\0")
    if len(words) < 6 or not words[2].startswith(prefix) or "/" not in words[1]:
        return None
    if _parent(pid) != words[5]:  # a model's own child process, before it becomes another program
        return None
    return Stub(pid, Path(words[1]).parent.parent.name, words[2], command)


def _command(pid: int) -> bytes:
    return _read(pid, "cmdline")


def _parent(pid: int) -> str:
    fields = _read(pid, "stat").decode(errors="replace").rpartition(")")[2].split()
    return fields[1] if len(fields) > 1 else ""


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
