"""`trident loadtest --web`: Locust's own page for the served variants, as a browser would use it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import psutil

from tests.integration.loadtest_fixtures import Served, write_artifacts
from tests.integration.server_fixtures import wait_for


def ask(url: str, **form: str) -> str:
    """The answer's text; a form is posted."""
    data = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(url, data, timeout=10) as response:
        return str(response.read().decode())


def is_up(url: str) -> bool:
    """Whether the page is there."""
    try:
        return bool(ask(url))
    except OSError:
        return False


def test_the_page_loads_the_chosen_variants_and_is_for_this_machine_only(served: Served, tmp_path: Path) -> None:
    write_artifacts(tmp_path / "artifacts", served.pack, "digits", "rotated")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    page = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "trident.main", "loadtest", "digits", "--artifacts", str(tmp_path / "artifacts")]
    options = ["--url", served.http_url, "--web", str(port)]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: is_up(page), "the page is there", 60)
            addresses = {
                connection.laddr.ip
                for child in psutil.Process(process.pid).children(recursive=True)
                for connection in child.net_connections()
                if connection.status == "LISTEN"
            }
            assert addresses == {"127.0.0.1"}
            ask(f"{page}/swarm", user_count="2", spawn_rate="2", user_classes="rotated")
            wait_for(lambda: requests(page).get("rotated", 0) > 20, "requests were answered", 30)
            assert requests(page).get("digits", 0) == 0  # not chosen
        finally:
            process.send_signal(signal.SIGINT)
            for child in psutil.Process(process.pid).children():
                child.send_signal(signal.SIGINT)  # as the terminal's Ctrl-C does
            _, words = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"Locust's page: {page} (Ctrl-C ends it)" in words.replace("\n", " ")
    assert not (tmp_path / "artifacts" / "digits" / "loadtest").exists()


def requests(page: str) -> dict[str, int]:
    """Model -> how many requests were answered well."""
    rows = json.loads(ask(f"{page}/stats/requests"))["stats"]
    return {row["name"]: row["num_requests"] - row["num_failures"] for row in rows}
