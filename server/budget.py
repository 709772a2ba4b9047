"""How often something that dies may be brought back, and how long to wait before."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

FIRST_DELAY_S: Final = 0.25
LONGEST_DELAY_S: Final = 10.0


@dataclass
class RestartBudget:
    """At most `limit` restarts within any `window_s`."""

    limit: int
    window_s: float
    count: int = 0
    _times: list[float] = field(default_factory=list)

    def spend(self, now_s: float | None = None) -> float | None:
        """Counts one restart. Returns the seconds to wait before it, twice as long each time within the window, or None
        if the budget is used up."""
        now_s = time.monotonic() if now_s is None else now_s
        self._times = [at for at in self._times if now_s - at < self.window_s]
        if len(self._times) >= self.limit:
            return None
        delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** len(self._times))
        self._times.append(now_s)
        self.count += 1
        return delay_s
