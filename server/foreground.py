"""The server in the foreground, until a signal ends it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Final

from server.options import ServeOptions
from server.supervisor import Server

ENDING: Final = (signal.SIGINT, signal.SIGTERM)
TICK_S: Final = 0.2


def serve(options: ServeOptions, tell: Callable[[str], None], up: Callable[[Server], None]) -> None:
    """Serves until SIGINT or SIGTERM, then drains; calls `up` once all models have been tried. Must run in the main
    thread. Raises ServerError if the server cannot be started or kept alive."""
    received: list[int] = []  # the handler only appends: it may interrupt anything, and a lock could be held
    former = {number: signal.signal(number, lambda caught, _frame: received.append(caught)) for number in ENDING}
    server = Server(options, tell)
    announced = False
    try:
        server.begin()
        while not received and not server.ended(TICK_S):
            if server.is_up and not announced:
                announced = True
                up(server)
        if received:
            tell(f"{signal.Signals(received[0]).name}: finishing what was asked, then stopping")
    finally:
        server.stop()
        for number, handler in former.items():
            signal.signal(number, handler)
