"""Starts the load test's own process and follows it. Imports nothing of Locust, which would patch this process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from core.files import write_atomically
from core.load_results import LoadReport
from loadtest.errors import GeneratorError, recording
from loadtest.events import LoadEvent
from loadtest.plan import LoadPlan

LOG_LINES = 15
STOP_S = 5.0


def run_plan(plan: LoadPlan, out: Path, on_event: Callable[[LoadEvent], None]) -> LoadReport:
    """Runs a plan in a process of its own and hands each of its events to `on_event` as it happens.

    Leaves in `out`: `plan.json`, `load.json` (the report that is returned), `requests.parquet` (each request) and
    `loadtest.log`. Raises GeneratorError with what the process says, and its exit code, if it cannot go on; with the
    log's last lines if it crashes. RecordingError: the folder cannot be written.
    """
    plan_file, report_file, log_file = out / "plan.json", out / "load.json", out / "loadtest.log"
    with recording(plan_file):
        write_atomically(plan_file, plan.to_json())
        report_file.unlink(missing_ok=True)
    failure = ""
    command = [sys.executable, "-m", "loadtest", str(plan_file), "--out", str(out)]
    with log_file.open("w") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            for line in process.stdout or ():
                event = LoadEvent.model_validate_json(line)
                if event.kind == "failed":
                    failure = event.message
                else:
                    on_event(event)
            code = process.wait()
        finally:
            stop(process)
    if failure:
        raise GeneratorError(failure, code)
    if code:
        last = "\n".join(log_file.read_text(errors="replace").splitlines()[-LOG_LINES:])
        raise GeneratorError(f"the load test failed with exit code {code} ({log_file}): {last}")
    return LoadReport.model_validate_json(report_file.read_bytes())


def stop(process: subprocess.Popen[str]) -> None:
    """Ends the process if it still runs, as after Ctrl-C or an error in `on_event`."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
