"""Keeps a server alive: starts it, waits until its models give right answers, restarts it when it dies or hangs."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from server import regions
from server.assemble import assembled
from server.budget import RestartBudget
from server.errors import GaveUpError, PortError, StartError
from server.health import told_over_http
from server.life import Life, Place
from server.locate import find
from server.options import ModelState, Refusal, ServeOptions
from server.ports import Ports, reachable, reserve
from server.repository import find_models
from server.stubs import find_stubs

POLL_S: Final = 0.05
PORT_ATTEMPTS: Final = 3  # a free port may be taken by another process before the server has it


class Server:
    """One served repository. Use it as a context manager, or `start()` and `stop()`.

    All that happens is told to `tell`, one sentence each, from a thread of this object's own. That thread starts,
    watches and stops the server; the properties may be read from any thread.
    """

    def __init__(self, options: ServeOptions, tell: Callable[[str], None] = lambda _sentence: None) -> None:
        self._options, self._tell = options, tell
        self._stopping, self._up, self._draining = threading.Event(), threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="server")
        self._keeper: Future[None] | None = None
        self._ports: Ports = (options.http_port, options.grpc_port, options.metrics_port)
        self._health_port: int | None = None
        self._life: Life | None = None
        self.log = (options.run_dir or Path("artifacts", "server", str(os.getpid()))).absolute() / "triton.log"
        self._cause = ""
        self.shm_prefix = ""  # what the names of its shared-memory regions begin with
        self.version = ""
        self.restarts = 0

    @property
    def http_url(self) -> str:
        """`host:port` for HTTP."""
        return f"{reachable(self._options.host)}:{self._ports[0]}"

    @property
    def grpc_url(self) -> str:
        """`host:port` for gRPC."""
        return f"{reachable(self._options.host)}:{self._ports[1]}"

    @property
    def metrics_url(self) -> str:
        """`host:port` for Prometheus; its path is `/metrics`."""
        return f"{reachable(self._options.host)}:{self._ports[2]}"

    @property
    def health_url(self) -> str | None:
        """`host:port` of the supervisor's own pages (`server.health`), if it has them."""
        return None if self._health_port is None else f"{reachable(self._options.host)}:{self._health_port}"

    @property
    def pid(self) -> int:
        """The server's present process, or its last one; 0 before the first."""
        return self._life.process.pid if self._life else 0

    @property
    def models(self) -> tuple[ModelState, ...]:
        """The present state of every served version, and of every model that could not be loaded."""
        states = self._life.fleet.states.values() if self._life else ()
        return tuple(state for versions in states for state in versions)

    @property
    def refused(self) -> dict[str, Refusal]:
        """By model, the versions that its folder asks for and that are not served, but what was before."""
        return dict(self._life.fleet.refused) if self._life else {}

    @property
    def is_serving(self) -> bool:
        """Whether the server is up, and is to stay so."""
        return self._life is not None and self._life.is_up and not self._draining.is_set()

    @property
    def reloads(self) -> int:
        """How often the present server has loaded a model again."""
        return self._life.fleet.reloads if self._life else 0

    def resident_bytes(self) -> dict[str, int]:
        """The memory that each model's processes hold now, by its Triton name; see `server.stubs.Stub`."""
        held: Counter[str] = Counter()
        for stub in find_stubs(self.shm_prefix) if self.shm_prefix else ():
            held[stub.model] += stub.resident_bytes
        return dict(held)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def begin(self) -> None:
        """Begins to start and returns at once; then ask `is_up` and `ended`."""
        self._keeper = self._pool.submit(self._keep)

    def start(self) -> None:
        """Returns when every model is ready or known not to be, and at least one is. Raises ServerError."""
        self.begin()
        try:
            while not self._up.wait(POLL_S) and not self.ended():
                pass
        finally:
            if not self._up.is_set():
                self.stop()

    @property
    def is_up(self) -> bool:
        """Whether it has come up once."""
        return self._up.is_set()

    def ended(self, wait_s: float = 0.0) -> bool:
        """Whether it is down for good, waiting so long for that. Raises the ServerError that brought it down."""
        if self._keeper:
            try:
                self._keeper.result(wait_s)
            except TimeoutError:
                return False
        return True

    def stop(self) -> None:
        """Drains and stops the server and removes all that it left. Raises the ServerError that brought it down before,
        if one did."""
        self._draining.set()
        try:
            if self.is_up:
                self.ended(self._options.drain_delay_s)
        finally:
            self._stopping.set()
            self._pool.shutdown()
        self.ended()

    def _keep(self) -> None:
        """All that this object's thread does."""
        options = self._options
        names, installation = find_models(options.repository, options.models), find()
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with regions.leased_prefix() as prefix, assembled(installation, options.repository, prefix) as assembly:
                self.shm_prefix = prefix
                place = Place(options, installation, assembly, names, prefix, self.log, self._stopping, self._tell)
                with self._told():
                    self._keep_alive(place)
        except OSError as error:
            raise StartError(f"the server cannot run: {error}; its folder is {self.log.parent}") from error

    @contextmanager
    def _told(self) -> Iterator[None]:
        if self._options.health_port is None:
            yield
            return
        with told_over_http(self, self._options.host, self._options.health_port) as self._health_port:
            yield

    def _keep_alive(self, place: Place) -> None:
        budget = RestartBudget(self._options.restart_limit, self._options.restart_window_s)
        self._first_life(place)
        while not self._stopping.is_set():
            delay_s = budget.spend()
            if delay_s is None:
                where = "" if str(self.log) in self._cause else f"; its log is {self.log}"
                raise GaveUpError(
                    f"the server ended {budget.limit + 1} times within {budget.window_s:g} s, the last time because it "
                    f"{self._cause}{where}"
                )
            self._tell(f"the server {self._cause}; it is started again")
            self._stopping.wait(delay_s)
            self.restarts += 1
            try:
                self._live(place)
            except (StartError, PortError) as error:
                self._cause = f"could not start again: {error}"

    def _first_life(self, place: Place) -> None:
        wanted = (self._options.http_port, self._options.grpc_port, self._options.metrics_port)
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self._ports = reserve(self._options.host, wanted)
            try:
                self._live(place)
                break
            except PortError:
                if attempt == PORT_ATTEMPTS:
                    raise

    def _live(self, place: Place) -> None:
        """One life; leaves in `_cause` what ended it."""
        self._life = life = Life(place, self._ports)
        try:
            if life.come_up():
                self.version = life.version
                self._up.set()
                self._cause = life.watch()
        finally:
            life.end()
