"""What happens to the server while it is loaded, and what the load test says of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from core.scenario import OpenLoop, Scenario
from loadtest import LoadEvent, LoadPlan, Target, run_plan
from server.options import ServeOptions
from server.supervisor import Server
from tests.integration.loadtest_fixtures import IMAGES, WEIGHTS, digits, logits_of, write_digits_pack, write_model

FROZEN_S = 1.0


def test_a_frozen_server_shows_in_the_corrected_latency_and_not_in_the_uncorrected(tmp_path: Path) -> None:
    """Four connections send 150 requests a second for 4 s. While the server stands still, each of them waits for one
    answer: 4 of 600 are seen to be slow, less than one in a hundred. The 150 that were due meanwhile are not sent."""
    write_model(tmp_path / "repository", "digits", digits(WEIGHTS), {})
    write_digits_pack(tmp_path / "pack", logits_of(IMAGES).argmax(axis=1))
    options = ServeOptions(repository=tmp_path / "repository", run_dir=tmp_path / "run", golden_interval_s=0)
    load = OpenLoop(rate_rps=150, arrivals="constant", seconds=4, connections=4)

    def freeze() -> None:
        os.killpg(server.pid, signal.SIGSTOP)
        time.sleep(FROZEN_S)  # this is the fault
        os.killpg(server.pid, signal.SIGCONT)

    def begin(event: LoadEvent) -> None:
        if event.kind == "accuracy":  # 0.2 s of warm-up follow, and then the window
            threading.Timer(2.0, freeze).start()

    with Server(options) as server:
        plan = LoadPlan(
            model="digits",
            url=server.http_url,
            pack=tmp_path / "pack",
            targets=(Target(variant="digits", triton_name="digits"),),
            scenario=Scenario(name="frozen", load=load, passes=1, warmup_s=0.1),
        )
        (window,) = run_plan(plan, tmp_path / "out", begin).windows
    assert (window.requests, window.failures) == (600, 0)
    assert window.p99_ms is not None
    assert window.p99_ms > 0.8 * FROZEN_S * 1000
    assert window.uncorrected_p99_ms is not None
    assert window.uncorrected_p99_ms < 0.1 * FROZEN_S * 1000
