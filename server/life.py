"""One life of the server: from its launch, through its models, to its end."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from server import regions
from server.arguments import Launch, arguments
from server.assemble import Assembly, environment
from server.errors import AnswerError, GaveUpError, NoAnswerError, PortError, StartError
from server.fleet import Fleet
from server.locate import Installation
from server.options import ServeOptions
from server.ports import Ports, reachable
from server.probe import Probe
from server.process import ServerProcess

POLL_S: Final = 0.05
TICK_S: Final = 0.25
HEALTH_EVERY_S: Final = 1.0
UNANSWERED: Final = 2  # health checks in a row, after which the server counts as hung
LAST_BREATH_S: Final = 1.0  # a killed server closes its connections before the kernel says that it has ended
PORT_TAKEN: Final = "already in use"


@dataclass(frozen=True)
class Place:
    """What all lives of one server share."""

    options: ServeOptions
    installation: Installation
    assembly: Assembly
    names: tuple[str, ...]
    shm_prefix: str
    log: Path
    stopping: threading.Event
    tell: Callable[[str], None]


class Life:
    """Made, it runs. Used from one thread, but for reading `fleet` and `process`."""

    def __init__(self, place: Place, ports: Ports) -> None:
        """Launches the server. Raises OSError."""
        self._place, options = place, place.options
        self._up = False
        self.version = ""  # the server's own, once it has answered
        key = secrets.token_hex(16)
        launch = Launch(
            place.assembly.repository,
            place.assembly.canaries,
            place.assembly.backends,
            options.host,
            *ports,
            exit_timeout_s=options.exit_timeout_s,
            control_key=key,
            shm_prefix=place.shm_prefix,
        )
        self.probe = Probe(reachable(options.host), ports[0], key, options.hang_timeout_s / UNANSWERED, ports[1])
        self.fleet = Fleet(self.probe, options, place.assembly, place.names, place.shm_prefix, place.tell)
        self.process = ServerProcess(
            [str(place.installation.binary), *arguments(launch, place.installation.version)],
            environment(place.installation, os.environ),
            place.assembly.root,
            place.log,
        )

    @property
    def is_up(self) -> bool:
        """Whether it has come up, and its process has not ended."""
        return self._up and not self.process.ended()

    def come_up(self) -> bool:
        """Waits until the server answers and every model is ready or known not to be; False if it is to stop instead.
        Raises StartError if it ends, does not answer in time, or no model is ready; PortError if a port was taken."""
        deadline = time.monotonic() + self._place.options.start_timeout_s
        while not self._greeted():
            self._check_started(deadline)
            if self._place.stopping.wait(POLL_S):
                return False
        self._place.tell(f"Triton {self.version} is up; {len(self.fleet.states)} models to load")
        self.fleet.load_all(lambda: self._place.stopping.is_set() or bool(self.process.ended()))
        self._check_started(deadline=float("inf"))
        if self.fleet.hopeless and not self._place.stopping.is_set():
            if not self.probe.live():
                self._place.stopping.wait(LAST_BREATH_S)
            self._check_started(deadline=float("inf"))
            raise StartError(f"no model could be served; {self.fleet.reasons()}; its log is {self._place.log}")
        self._up = not self._place.stopping.is_set()
        return self._up

    def _greeted(self) -> bool:
        """Whether the server has said its version. Asked once only, here: it may die at any moment, also between two
        questions, and that must be noticed as its end, not as an answer that failed."""
        try:
            self.version = self.probe.server_version()
        except (AnswerError, NoAnswerError):
            return False
        return True

    def _check_started(self, deadline: float) -> None:
        ended = self.process.ended()
        if ended:
            why = self.process.last_error()
            if PORT_TAKEN in why:
                raise PortError(f"the server could not start: {why}; choose another port (0 for any)")
            raise StartError(
                f"the server ended while starting ({ended}): {why or 'no cause'}; its log is {self._place.log}"
            )
        if time.monotonic() > deadline:
            seconds = self._place.options.start_timeout_s
            raise StartError(f"the server did not answer within {seconds:g} s; its log is {self._place.log}")

    def watch(self) -> str:
        """Tends the models until the server ends or hangs, and says how; empty if it is to stop. Raises GaveUpError
        when no model is left that could be served."""
        unanswered, health_due = 0, 0.0
        while not self._place.stopping.wait(TICK_S):
            ended = self.process.ended()
            if ended:
                return f"died ({ended})"
            if time.monotonic() >= health_due:
                unanswered = 0 if self.probe.live() else unanswered + 1
                health_due = time.monotonic() + HEALTH_EVERY_S
            if unanswered >= UNANSWERED:
                return f"hung: it did not answer for {self._place.options.hang_timeout_s:g} s"
            if not unanswered:
                self.fleet.tend()
            if self.fleet.hopeless:
                raise GaveUpError(f"no model is left that could be served; {self.fleet.reasons()}")
        return ""

    def end(self) -> None:
        """Stops the server, lets it finish its requests if it was asked to stop, and removes what is left of it."""
        if self._up and self._place.stopping.is_set() and self.probe.live():
            self.process.drain(self._place.options.exit_timeout_s)
        self.process.kill()
        regions.remove(self._place.shm_prefix)
