"""Tensors through POSIX shared memory, for a server on the same machine.

A region belongs to one request at a time and is kept for the next. Its name is removed from the machine as soon as the
server has it open, so that nothing stays behind however this process ends; what a killed process leaves registered at
the server is found by the name, and unregistered by the next client.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Final

import numpy as np

from client.calls import Answer, Ask, Attempt, Infer, Place, Region
from client.errors import AnswerError, RefusedError, UnsupportedError
from client.forking import gate, renew_after_fork
from client.servers import Server
from client.steps import Flow, Send
from core.errors import InferenceError
from core.tensors import Arrays

_ALIGN: Final = 64
_PREFIX: Final = "tridentclient"
_OURS: Final = re.compile(rf"{_PREFIX}_(?P<owner>(?P<namespace>\d+)_(?P<pid>\d+)_\d+)_[0-9a-f]+")


@dataclass(frozen=True)
class Held:
    """A region that a server has open."""

    region: Region
    memory: SharedMemory


class Regions:
    """The regions that no request is using, by server. Safe for threads; a forked child begins without any."""

    def __init__(self) -> None:
        self._idle: dict[int, list[Held]] = {}
        self._lost: dict[int, list[Region]] = {}
        self._swept: set[int] = set()
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """The parent goes on using its own."""
        self._lock = threading.Lock()
        self._idle, self._lost, self._swept = {}, {}, set()

    def infer(self, server: Server, call: Infer, attempt: Attempt, sizes: dict[str, int]) -> Flow[Answer]:
        """Sends a request with its tensors in shared memory; outputs of known `sizes` in bytes come back that way too,
        and are copied. A region whose request did not end well is not used again: the server may still write to it."""
        arrays = {name: array for name, array in call.inputs.items() if array.dtype.kind not in "OSU" and array.size}
        places, total = _layout({name: array.nbytes for name, array in arrays.items()}, 0)
        output_places, total = _layout(sizes, total)
        while True:
            held, fresh = yield from self._take(server, total, attempt)
            at = held.region.name
            placed = call._replace(
                placed={name: Place(at, *place) for name, place in places.items()},
                placed_outputs={name: Place(at, *place) for name, place in output_places.items()},
            )
            try:
                _write(held.memory, arrays, places)
                answer: Answer = yield Send(server.index, placed, attempt)
                outputs = _read(held.memory, answer, output_places)
            except RefusedError as error:
                self._lose(server, held)
                if fresh or "shared memory region" not in str(error):
                    raise
                self._forget(server)  # the server was started anew since, and knows none of them
            except BaseException:
                self._lose(server, held)
                raise
            else:
                with self._lock:
                    self._idle.setdefault(server.index, []).append(held)
                return Answer(outputs, {}, answer.version)

    def end(self, servers: tuple[Server, ...], attempt: Attempt) -> Flow[None]:
        """Unregisters all regions at the servers, as far as these still answer."""
        for server in servers:
            self._forget(server)
            yield from self._unregister_lost(server, attempt)

    def _take(self, server: Server, size: int, attempt: Attempt) -> Flow[tuple[Held, bool]]:
        """A region of at least `size` bytes, and whether it was made for this."""
        if server.index not in self._swept:
            self._swept.add(server.index)
            yield from _sweep(server, attempt)
        with self._lock:
            idle = self._idle.setdefault(server.index, [])
            found = next((held for held in idle if held.region.size >= size), None)
            if found is not None:
                idle.remove(found)
            elif idle:
                self._lost.setdefault(server.index, []).append(idle.pop(0).region)  # outgrown
        yield from self._unregister_lost(server, attempt)
        if found is not None:
            return found, False
        name = f"{_PREFIX}_{_owner(os.getpid())}_{secrets.token_hex(4)}"
        with gate:  # a child forked meanwhile would inherit a held lock of multiprocessing's
            memory = SharedMemory(name, create=True, size=max(4096, 1 << (size - 1).bit_length()))
        try:
            region = Region(name, f"/{name}", memory.size)
            yield Send(server.index, Ask("register", region=region), attempt)
        except (RefusedError, UnsupportedError) as error:
            hint = "the server must run on this machine and allow it (--allow-client-shm), else leave it off"
            raise UnsupportedError(f"the server does not take shared memory: {error}; {hint}") from error
        finally:
            with gate:
                memory.unlink()
        return Held(region, memory), True

    def _unregister_lost(self, server: Server, attempt: Attempt) -> Flow[None]:
        with self._lock:
            lost = self._lost.pop(server.index, [])
        for region in lost:
            with contextlib.suppress(InferenceError):
                yield Send(server.index, Ask("unregister", region=region), attempt)

    def _lose(self, server: Server, held: Held) -> None:
        with self._lock:
            self._lost.setdefault(server.index, []).append(held.region)

    def _forget(self, server: Server) -> None:
        with self._lock:
            lost = [held.region for held in self._idle.pop(server.index, [])]
            self._lost.setdefault(server.index, []).extend(lost)


def _layout(sizes: Mapping[str, int], start: int) -> tuple[dict[str, tuple[int, int]], int]:
    """Name -> offset and size, one after the other from `start`, and where the last ends."""
    places = {}
    for name, size in sizes.items():
        places[name] = (start, size)
        start += -(-size // _ALIGN) * _ALIGN
    return places, start


def _write(memory: SharedMemory, arrays: Arrays, places: Mapping[str, tuple[int, int]]) -> None:
    for name, (offset, _) in places.items():
        array = arrays[name]
        np.ndarray(array.shape, array.dtype, memory.buf, offset)[...] = array


def _read(memory: SharedMemory, answer: Answer, places: Mapping[str, tuple[int, int]]) -> Arrays:
    outputs = dict(answer.outputs)
    for name, (datatype, shape) in answer.placed.items():
        offset, size = places[name]
        if int(np.prod(shape)) * datatype.numpy.itemsize > size:
            raise AnswerError(f"its answer {name!r} has the shape {list(shape)}, which is more than its metadata says")
        outputs[name] = np.ndarray(shape, datatype.numpy, memory.buf, offset).copy()
    return outputs


def _sweep(server: Server, attempt: Attempt) -> Flow[None]:
    """Unregisters what clients of this machine that are no more have left at a server."""
    with contextlib.suppress(InferenceError):
        answer = yield Send(server.index, Ask("regions"), attempt)
        for name in region_names(answer):
            if is_left_behind(name):
                yield Send(server.index, Ask("unregister", region=Region(name, "", 0)), attempt)


def region_names(answer: object) -> list[str]:
    """The names in a server's list of regions, as HTTP or gRPC spell it."""
    if isinstance(answer, dict):
        return list(answer.get("regions", {}))
    return [str(row["name"]) for row in answer] if isinstance(answer, list) else []


def is_left_behind(name: str) -> bool:
    """Whether a region's name is that of a client of ours whose process has ended. Only for processes that this one
    could see if they lived: those of the same PID namespace."""
    match = _OURS.fullmatch(name)
    if match is None or match["namespace"] != _namespace():
        return False
    return match["owner"] != _owner(int(match["pid"]))


def _owner(pid: int) -> str:
    """What tells a process from all others, before and after it: namespace, number, and when it started."""
    try:
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        started = "0"
    return f"{_namespace()}_{pid}_{started}"


def _namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)  # noqa: PTH116  # no file of ours
    except OSError:
        return "0"
