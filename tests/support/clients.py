"""What the client's tests share: a clock that only sleeping moves, and a fake server of one small model."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from client import Clock, Settings
from client.events import Event
from client.fake import FakeModel, FakeServer
from core.tensors import Arrays

MAX_BATCH = 4
ROWS = np.arange(24, dtype=np.float32).reshape(12, 2)


def double(inputs: Arrays) -> Arrays:
    """`x` `[N, 2]` to twice that."""
    return {"y": inputs["x"] * np.float32(2)}


def doubler(**parameters: str) -> FakeModel:
    """The model of `double`, in batches of 4."""
    return FakeModel(double, {"x": ("float32", (2,))}, {"y": ("float32", (2,))}, MAX_BATCH, parameters)


def fake_server() -> FakeServer:
    """A server of the model `double`."""
    return FakeServer({"double": doubler()})


@dataclass
class Moments:
    """A clock for tests: time passes by sleeping only, and is noted; `chance` is what every draw gives."""

    now_s: float = 1000.0
    chance: float = 0.5
    slept_s: list[float] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        self.slept_s.append(seconds)
        self.now_s += seconds

    async def sleep_async(self, seconds: float) -> None:
        """The same for asyncio."""
        self.sleep(seconds)

    def settings(self) -> Settings:
        """Settings with this clock, whose events are kept here."""
        clock = Clock(lambda: self.now_s, lambda: self.chance, self.sleep, self.sleep_async)
        return Settings(clock=clock, observers=(self.events.append,))
