"""What a process inherits when it forks, and must not use: connections, locks that a thread held, gRPC's threads."""

from __future__ import annotations

import os
import threading
import time
import weakref
from types import TracebackType
from typing import Final, Protocol

_DRAIN_S: Final = 5.0
_POLL_S: Final = 0.001


class Inherited(Protocol):
    """Something that starts afresh in a forked child."""

    def after_fork(self) -> None:
        """Called in the child, before anything else runs there."""
        ...


_inherited: weakref.WeakSet[Inherited] = weakref.WeakSet()


def renew_after_fork(thing: Inherited) -> None:
    """From now on, and for as long as it lives, `thing.after_fork` is called in each forked child."""
    _inherited.add(thing)


class _Gate:
    """Lets a fork wait for the calls of other threads: gRPC can follow into a child only if it is idle when the process
    forks. A fork waits for `_DRAIN_S` at most."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Nobody is inside: how a forked child begins, whose parent's threads may have held the lock."""
        self._lock = threading.Lock()
        self._calls = 0
        self._forking = False

    def __enter__(self) -> None:
        """While inside, no fork happens, unless it waited too long."""
        while True:
            with self._lock:
                if not self._forking:
                    self._calls += 1
                    return
            time.sleep(_POLL_S)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._calls -= 1

    def close(self) -> None:
        """Before a fork."""
        with self._lock:
            self._forking = True
        until_s = time.monotonic() + _DRAIN_S
        while self._calls and time.monotonic() < until_s:
            time.sleep(_POLL_S)

    def open(self) -> None:
        """After it, in the parent."""
        with self._lock:
            self._forking = False


gate = _Gate()


def _in_child() -> None:
    gate.renew()
    for thing in list(_inherited):
        thing.after_fork()


os.register_at_fork(before=lambda: gate.close(), after_in_parent=lambda: gate.open(), after_in_child=_in_child)
