"""Runs flows in asyncio: the twin of `client.drive`, and all that is asynchronous about the logic."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from client.calls import Infer
from client.settings import Clock
from client.steps import Flow, Pause, Race, Send, Step, Together
from client.transport import AsyncTransport

T = TypeVar("T")


class AsyncDriver:
    """Does what flows ask for. `transports` are by the servers' numbers."""

    def __init__(self, transports: list[AsyncTransport], clock: Clock) -> None:
        self._transports = transports
        self._clock = clock

    async def run(self, flow: Flow[T]) -> T:
        """The flow's result. A cancelled task cancels what the flow was waiting for."""
        try:
            step = next(flow)
            while True:
                try:
                    result = await self._do(step)
                except BaseException as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration as end:
            value: T = end.value
            return value

    async def _do(self, step: Step) -> Any:
        match step:
            case Send(server, call, attempt):
                transport = self._transports[server]
                if isinstance(call, Infer):
                    return await transport.infer(call, attempt)
                return await transport.ask(call, attempt)
            case Pause(seconds):
                await self._clock.sleep_async(seconds)
            case Together(flows):
                return await _together([self.run(flow) for flow in flows])
            case Race():
                return await self._race(step)
        return None

    async def _race(self, step: Race) -> Any:
        tasks = [asyncio.ensure_future(self.run(step.first))]
        try:
            await asyncio.wait(tasks, timeout=step.after_s)
            if not tasks[0].done() and (second := step.second()) is not None:
                tasks.append(asyncio.ensure_future(self.run(second)))
            waiting = set(tasks)
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if good := next((task for task in done if task.exception() is None), None):
                    return good.result()
            return tasks[0].result()
        finally:
            await _end(tasks)


async def _together(runs: list[Coroutine[Any, Any, T]]) -> list[T]:
    tasks = [asyncio.ensure_future(run) for run in runs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await _end(tasks)


async def _end(tasks: Sequence[asyncio.Future[T]]) -> None:
    """Cancels what still runs, and waits until it is gone."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
