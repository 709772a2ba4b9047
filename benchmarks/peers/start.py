"""Other servers, started from the environment that `make peers` makes: each a process group of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.serving_load import Contestant, Dialect

HERE: Final = Path(__file__).parent
PYTHON: Final = HERE.parent.parent / ".peers/bin/python"
START_S: Final = 60.0
STOP_S: Final = 5.0


@dataclass(frozen=True)
class Peer:
    """A way to serve a model: a script of this folder and its arguments, in which `{port}` and `{other}` become free
    ports and `{folder}` a folder of its own; and how one speaks to it."""

    name: str
    script: str
    arguments: tuple[str, ...]
    dialect: Dialect
    port: str = "port"  # which of the two ports that is


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(peers: Sequence[Peer], pack: Path, folder: Path) -> Iterator[tuple[Contestant, ...]]:
    """The peers, listening. Raises SystemExit if one does not come up; stops all of them in any case."""
    if not PYTHON.exists():
        raise SystemExit("the other servers are not installed: `make peers` does so")
    with ExitStack() as stack:
        yield tuple(stack.enter_context(_running(peer, pack, folder / peer.name)) for peer in peers)


@contextmanager
def _running(peer: Peer, pack: Path, folder: Path) -> Iterator[Contestant]:
    folder.mkdir(parents=True, exist_ok=True)
    ports = {"port": free_port(), "other": free_port()}
    words = [word.format(folder=folder, **ports) for word in peer.arguments]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [str(PYTHON), str(HERE / peer.script), *words], stdout=log, stderr=log, cwd=folder, start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )  # fmt: skip
        try:
            _wait(process, ports[peer.port], folder / "log")
            yield Contestant(
                name=peer.name, dialect=peer.dialect, address=f"127.0.0.1:{ports[peer.port]}", model="model",
                pack=pack, group=process.pid,
            )  # fmt: skip
        finally:
            _end(process)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until the port is listened at."""
    deadline_s = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline_s:
        with socket.socket() as probe:
            # Where nobody listens yet, a connection may by chance find itself.
            if probe.connect_ex(("127.0.0.1", port)) == 0 and probe.getsockname() != probe.getpeername():
                return
        time.sleep(0.1)
    raise SystemExit(f"{log.parent.name} does not start: {log.read_text()[-1000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the whole group, stopped ones too."""
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        for number in (signal.SIGTERM, signal.SIGCONT):
            os.killpg(process.pid, number)
        process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what is left of it
    process.wait()
