"""CPU time and memory of the server's processes, where they run on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import psutil  # Locust's own dependency


class Usage(NamedTuple):
    """CPU time used, and memory held at the end; none where a process is not known or has ended."""

    cpu_s: float | None = None
    resident_bytes: int | None = None
    server_bytes: int | None = None


def read_usage(server_pid: int | None, model_pids: tuple[int, ...]) -> Usage:
    """CPU time so far of the server's process and the model's together; their memory apart, since the server's is
    shared by all models."""
    if server_pid is None:
        return Usage()
    try:
        models = [psutil.Process(pid) for pid in model_pids]
        server = psutil.Process(server_pid)
        cpu_s = sum(_cpu_s(process) for process in (server, *models))
        return Usage(cpu_s, sum(process.memory_info().rss for process in models) or None, server.memory_info().rss)
    except psutil.NoSuchProcess:
        return Usage()


def used(before: Iterable[Usage], after: Iterable[Usage]) -> list[Usage]:
    """What was used between two readings."""
    return [
        two._replace(cpu_s=None if one.cpu_s is None or two.cpu_s is None else two.cpu_s - one.cpu_s)
        for one, two in zip(before, after, strict=True)
    ]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
