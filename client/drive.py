"""Runs flows in the calling thread. Only what must happen at the same time gets threads of its own."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, Final, TypeVar

from client.calls import Infer
from client.forking import renew_after_fork
from client.settings import Clock
from client.steps import Flow, Pause, Race, Send, Step, Together
from client.transport import Transport

T = TypeVar("T")
_THREADS: Final = 32


class Driver:
    """Does what flows ask for. `transports` are by the servers' numbers. Safe for threads."""

    def __init__(self, transports: list[Transport], clock: Clock) -> None:
        self._transports = transports
        self._clock = clock
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """The parent's threads are not here."""
        self._lock = threading.Lock()
        # Of parts and of races, apart: a part waits for its race, which must never wait for a thread behind it.
        self._pools: dict[type[Step], ThreadPoolExecutor] = {}

    def run(self, flow: Flow[T]) -> T:
        """The flow's result."""
        try:
            step = next(flow)
            while True:
                try:
                    result = self._do(step)
                except BaseException as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration as end:
            value: T = end.value
            return value

    def close(self) -> None:
        """Ends the threads once they are done."""
        for pool in self._pools.values():
            pool.shutdown(wait=False)

    def _do(self, step: Step) -> Any:
        if type(step) is Send:  # nearly all are
            server, call, attempt = step
            transport = self._transports[server]
            return transport.infer(call, attempt) if isinstance(call, Infer) else transport.ask(call, attempt)
        match step:
            case Pause(seconds, None):
                self._clock.sleep(seconds)
            case Pause(seconds, cancellation):
                assert cancellation is not None
                cancellation.wait(seconds)
            case Together():
                return self._together(step)
            case Race():
                return self._race(step)
        return None

    def _together(self, step: Together) -> list[Any]:
        futures = [self._submit(Together, flow) for flow in step.flows]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        failed = [error for future in done if (error := future.exception())]
        if failed:
            step.give_up.cancel()
            wait(futures)
            raise failed[0]
        return [future.result() for future in futures]

    def _race(self, step: Race) -> Any:
        futures = [self._submit(Race, step.first)]
        wait(futures, step.after_s)
        if not futures[0].done() and (second := step.second()) is not None:
            futures.append(self._submit(Race, second))
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            if good := next((future for future in done if future.exception() is None), None):
                for future, cancellation in zip(futures, step.give_up, strict=False):
                    if future is not good:
                        cancellation.cancel()
                return good.result()
        return futures[0].result()

    def _submit(self, kind: type[Step], flow: Flow[T]) -> Future[T]:
        with self._lock:
            if kind not in self._pools:
                self._pools[kind] = ThreadPoolExecutor(_THREADS, f"trident-client-{kind.__name__.lower()}")
            return self._pools[kind].submit(self.run, flow)
