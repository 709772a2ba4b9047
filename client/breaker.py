"""What keeps a client from making a bad time worse: a circuit breaker for each model at each server, and a budget for
retries (both after Google's SRE book, chapters 21 and 22, and gRPC's retry throttling, proposal A6)."""

from __future__ import annotations

import threading
from typing import Literal

from client.forking import renew_after_fork
from client.settings import Breaker, Retry

BreakerState = Literal["closed", "open", "half_open"]


class Circuit:
    """One model at one server. Closed, it lets everything through. After some failures in a row it opens for a while.
    Then it is half open: one request may try, and its fate closes the circuit or opens it for twice as long."""

    def __init__(self, settings: Breaker, model: str = "") -> None:
        self.model = model
        self._settings = settings
        self._failures = 0
        self._open_s = settings.open_s
        self._opens_at_s = 0.0
        self._state: BreakerState = "closed"
        self.after_fork()
        renew_after_fork(self)

    @property
    def state(self) -> BreakerState:
        """What it does now."""
        return self._state

    def after_fork(self) -> None:
        """A lock that nobody holds; whoever was trying is in the parent."""
        self._lock = threading.Lock()
        self._reopen()

    def admit(self, now_s: float) -> float:
        """0 if a request may go now, which makes it the one to try if the circuit was open; else how many seconds it
        should wait at least (0.001 if another one is trying right now)."""
        if self.state == "closed":
            return 0.0
        with self._lock:
            if self._state == "closed":
                return 0.0
            if now_s < self._opens_at_s:
                return self._opens_at_s - now_s if self._state == "open" else 0.001
            # Should whoever tries never say what became of it, another one may after the longest time.
            self._state, self._opens_at_s = "half_open", now_s + self._settings.longest_open_s
            return 0.0

    def succeeded(self) -> bool:
        """A request got an answer. Returns whether that closed the circuit."""
        if self._state == "closed" and not self._failures:
            return False
        with self._lock:
            closed = self._state != "closed"
            self._state, self._failures, self._open_s = "closed", 0, self._settings.open_s
            return closed

    def failed(self, now_s: float) -> bool:
        """A request failed. Returns whether that opened the circuit."""
        with self._lock:
            self._failures += 1
            if self._state == "open" or (self._state == "closed" and self._failures < self._settings.failures):
                return False
            if self._state == "half_open":
                self._open_s = min(2 * self._open_s, self._settings.longest_open_s)
            self._state, self._opens_at_s = "open", now_s + self._open_s
            return True

    def undecided(self) -> None:
        """A request ended without saying anything about the server: it was cancelled. The next one may try."""
        with self._lock:
            self._reopen()

    def _reopen(self) -> None:
        if self._state == "half_open":
            self._state, self._opens_at_s = "open", 0.0


class Budget:
    """What retries are paid from: each request puts the share `budget` in, each retry takes 1 out. It begins with
    `burst` and holds ten times that at most."""

    def __init__(self, settings: Retry) -> None:
        self._settings = settings
        self._most = 10 * settings.burst
        self._balance = settings.burst
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """A lock that nobody holds."""
        self._lock = threading.Lock()

    def put_in(self) -> None:
        """For a request's first attempt."""
        with self._lock:
            self._balance = min(self._balance + self._settings.budget, self._most)

    def take_out(self) -> bool:
        """For a retry; False if it must not be made."""
        with self._lock:
            if self._balance < 1:
                return False
            self._balance -= 1
            return True
