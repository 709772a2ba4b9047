"""Giving up a request from another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from client.errors import AbandonedError


class Cancellation:
    """Handed to a request as `Options.cancellation`; `cancel()` ends it with AbandonedError, from any thread, once and
    for all. With asyncio, cancel the task instead."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Ends the requests that this was given to, and those that it will be given to."""
        with self._lock:
            self._cancelled.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def check(self) -> None:
        """Raises AbandonedError if it was cancelled."""
        if self.cancelled:
            raise AbandonedError("the request was cancelled")

    def wait(self, seconds: float) -> None:
        """Sleeps, but for no longer than until it is cancelled, which raises AbandonedError."""
        self._cancelled.wait(seconds)
        self.check()

    @contextmanager
    def calling(self, abort: Callable[[], object]) -> Generator[None]:
        """While inside, `cancel` calls `abort`, at once if it was cancelled already."""
        with self._lock:
            if not self.cancelled:
                self._callbacks.append(abort)
        if self.cancelled:
            abort()
        try:
            yield
        finally:
            with self._lock:
                if abort in self._callbacks:
                    self._callbacks.remove(abort)
