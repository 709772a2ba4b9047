"""What `trident loadtest` does besides a load test: being another's worker, and Locust's own page."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import loadtest
from core.errors import LoadTestError
from core.scenario import Protocol
from loadtest.plan import Target
from trident.console import progress

LOCUSTFILE: Final = Path(loadtest.__file__).parent / "locustfile.py"
WEB_HOST: Final = "127.0.0.1"


def work(options: argparse.Namespace, pack: Path) -> int:
    """A worker for one load test after the other, until Ctrl-C. Raises LoadTestError if it cannot go on."""
    place = f"{options.master_host}:{options.master_port}"
    command = [
        sys.executable, "-m", "loadtest.worker", "--master-host", options.master_host,
        "--master-port", str(options.master_port), "--pack", str(pack),
        "--parent", str(os.getpid()),
    ]  # fmt: skip
    while True:
        progress.print(f"waiting for the load test at {place}; Ctrl-C ends this worker", soft_wrap=True, markup=False)
        environment = {**os.environ, "GEVENT_BACKEND": "select"}  # see loadtest.__main__
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            words = process.stderr.read() if process.stderr else ""
        if process.returncode:
            last = words.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
            raise LoadTestError(f"this worker ended: {last[0]}")


def show_page(options: argparse.Namespace, pack: Path, targets: tuple[Target, ...], urls: dict[Protocol, str]) -> int:
    """Locust's page for the served variants, until Ctrl-C. Each variant is one of its user classes."""
    protocol = next(iter(urls))
    scheme = "grpc" if protocol == "grpc" else "http"
    command = [
        sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", f"{scheme}://{urls[protocol]}",
        "--web-host", WEB_HOST, "--web-port", str(options.web), "--class-picker", "--loglevel", "WARNING",
        *(["--processes", str(options.processes)] if options.processes > 1 else []),
    ]  # fmt: skip
    names = ",".join(target.triton_name for target in targets)
    environment = {**os.environ, "TRIDENT_PACK": str(pack), "TRIDENT_MODEL": names}
    progress.print(
        f"Locust's page: http://{WEB_HOST}:{options.web} (Ctrl-C ends it). Choose the variants there; all at once are "
        "mixed traffic. Its percentiles are rounded, and nothing is kept or judged.",
        soft_wrap=True, markup=False,
    )  # fmt: skip
    with subprocess.Popen(command, env=environment) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()  # Ctrl-C has reached it too
            raise
    if code:
        raise LoadTestError(f"Locust ended with exit code {code}; its own words stand above")
    return 0
