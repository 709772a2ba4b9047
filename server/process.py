"""One life of the server's process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from server import guard

GRACE_S: Final = 2.0  # on top of the server's own exit timeout
ERROR_LINE: Final = re.compile(r"E\d{4} [^]]*(main|server|model_repository_manager)\.cc:\d+]")
GROUP_DEADLINE_S: Final = 10.0  # for the kernel to end killed processes


class ServerProcess:
    """The server and its stubs, in a process group of their own. Start it in the thread that will stop it: when that
    thread ends, the kernel kills the server."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> None:
        """Starts `command` in `folder`; its output goes to the end of `log`. Raises OSError."""
        self._log = log
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def ended(self) -> str:
        """How the process ended, such as `killed by signal 9`; empty while it runs."""
        status = self._process.poll()
        if status is None:
            return ""
        return f"killed by signal {-status}" if status < 0 else f"exit status {status}"

    def last_error(self) -> str:
        """The last error that this life of the server has logged, or what it said instead of one."""
        with self._log.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read().decode(errors="replace").splitlines()
        logged = [line.partition("] ")[2].strip('" ') for line in lines if ERROR_LINE.match(line)]
        return (logged or lines or ["it said nothing"])[-1]

    def drain(self, timeout_s: float) -> None:
        """Asks the server to finish its requests and end, and waits a little longer than it may take. How it ends does
        not matter: asked at a bad moment, it has been seen to crash."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s + GRACE_S)

    def kill(self) -> None:
        """Ends server and stubs at once, and returns when they are gone."""
        deadline = time.monotonic() + GROUP_DEADLINE_S
        while group_alive(self.pid) and time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.poll()
            time.sleep(0.01)
        self._process.wait(GROUP_DEADLINE_S)


def group_alive(group: int) -> bool:
    """Whether a process of this group still runs; one that has ended and waits for its parent does not count."""
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            state, _parent, its_group = (path / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state not in "ZX":
            return True
    return False
