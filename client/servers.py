"""The servers that a client may send to, and which one the next attempt goes to."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from client.address import Endpoint
from client.breaker import Circuit
from client.events import BreakerChanged
from client.forking import renew_after_fork
from client.settings import Settings


class Server:
    """One endpoint and what is known of it: how many attempts are under way there, whether it ever answered (`met`),
    and a circuit for each model."""

    def __init__(self, index: int, endpoint: Endpoint, settings: Settings) -> None:
        self.index = index
        self.endpoint = endpoint
        self.name = str(endpoint)
        self.met = False
        self.under_way = 0
        self._settings = settings
        self._circuits: dict[str, Circuit] = {}
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Nothing of the child's is under way."""
        self._lock = threading.Lock()
        self.under_way = 0

    def circuit(self, model: str) -> Circuit:
        """The circuit of a model; "" for questions about the server."""
        found = self._circuits.get(model)
        if found is None:
            with self._lock:
                found = self._circuits.setdefault(model, Circuit(self._settings.breaker, model))
        return found

    def count(self, more: int) -> None:
        """So many more attempts are under way."""
        with self._lock:
            self.under_way += more

    def answered(self, circuit: Circuit) -> None:
        """It gave an answer, if only an error of the request's own."""
        self.met = True
        if circuit.succeeded():
            self._tell(circuit, "closed")

    def failed(self, circuit: Circuit) -> None:
        """It gave none, or was too busy."""
        if circuit.failed(self._settings.clock.now()):
            self._tell(circuit, "open")

    def admit(self, model: str, now_s: float) -> float:
        """As `Circuit.admit`."""
        circuit = self.circuit(model)
        wait_s = circuit.admit(now_s)
        if not wait_s and circuit.state == "half_open":
            self._tell(circuit, "half_open")
        return wait_s

    def _tell(self, circuit: Circuit, state: str) -> None:
        for observer in self._settings.observers:
            observer(BreakerChanged(self.name, circuit.model, state))


def choose(
    servers: Sequence[Server], model: str, settings: Settings, avoid: Server | None = None
) -> tuple[Server | None, float]:
    """The server for the next attempt, and 0; or none, and the seconds to wait at least until one may be tried.

    Among those whose circuit is closed, the one with the fewest attempts under way; chance decides among equals. The
    one to `avoid`, which failed a moment ago, only if there is no other. An open circuit whose time has come gets one
    request to try. As long as none ever answered, circuits are not heeded: there is nothing to spare.
    """
    if len(servers) == 1:
        (server,) = servers
        wait_s = server.admit(model, settings.clock.now()) if server.met else 0.0
        return (None, wait_s) if wait_s else (server, 0.0)
    if not any(server.met for server in servers):
        return _least_busy(servers, avoid, settings), 0.0
    if healthy := [server for server in servers if server.circuit(model).state == "closed"]:
        return _least_busy(healthy, avoid, settings), 0.0
    waits_s = []
    now_s = settings.clock.now()
    for server in servers:
        if not (wait_s := server.admit(model, now_s)):
            return server, 0.0
        waits_s.append(wait_s)
    return None, min(waits_s)


def _least_busy(servers: Sequence[Server], avoid: Server | None, settings: Settings) -> Server:
    others = [server for server in servers if server is not avoid]
    random = settings.clock.random
    return min(others or servers, key=lambda server: (server.under_way, random()))
