"""compose.yaml, docker/compose.host-network.yaml and the Dockerfile as Compose reads them: valid, and as closed as
SECURITY.md says. Needs no engine."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable

import pytest

from tests.docker.rendering import BASE, DOCKERFILE, HOST_NETWORK, ROOT, render

Service = dict[str, object]

Conditions = dict[str, tuple[Callable[[Service], bool], Service]]

# What must hold for the service as rendered, each with a change that breaks it: of the network, which the files decide,
BRIDGED: Conditions = {
    "ports on loopback only": (
        lambda s: bool(s["ports"]) and all(port.get("host_ip") == "127.0.0.1" for port in s["ports"]),  # type: ignore[attr-defined]
        {"ports": [{"target": 8000, "published": "8000"}]},
    ),
    "no network of the host": (lambda s: "network_mode" not in s, {"network_mode": "host"}),
}
ON_HOST_NETWORK: Conditions = {
    "the network of the host": (
        lambda s: s.get("network_mode") == "host" and not s.get("networks"),
        {"networks": {"x": None}},
    ),
    "nothing published": (lambda s: not s.get("ports"), {"ports": [{"target": 8000, "published": "8000"}]}),
    "listening on loopback only": (lambda s: option(s, "--host") == "127.0.0.1", {"command": ["--host", "0.0.0.0"]}),
}
# and of all else, whatever they are.
CLOSED: Conditions = {
    "an unprivileged user": (
        lambda s: re.fullmatch(r"[1-9]\d*:[1-9]\d*", str(s.get("user"))) is not None,
        {"user": "0:0"},
    ),
    "a read-only root": (lambda s: s.get("read_only") is True, {"read_only": False}),
    "no capabilities": (lambda s: s.get("cap_drop") == ["ALL"] and not s.get("cap_add"), {"cap_add": ["SYS_ADMIN"]}),
    "no new privileges": (lambda s: s.get("security_opt") == ["no-new-privileges:true"], {"security_opt": []}),
    "not privileged": (lambda s: not s.get("privileged"), {"privileged": True}),
    "volumes read-only": (
        lambda s: all(volume.get("read_only") for volume in s["volumes"]),  # type: ignore[attr-defined]
        {"volumes": [{"type": "bind", "source": "/x", "target": "/models"}]},
    ),
    "shared memory": (lambda s: int(str(s.get("shm_size", 0))) >= 1 << 30, {"shm_size": "67108864"}),
    "no folder made by mistake": (
        lambda s: not any(volume.get("bind", {}).get("create_host_path", True) for volume in s["volumes"]),  # type: ignore[attr-defined]
        {"volumes": [{"type": "bind", "source": "/x", "target": "/models", "read_only": True}]},
    ),
    "bounded memory": (lambda s: 0 < int(str(s.get("mem_limit", 0))) <= 8 << 30, {"mem_limit": "0"}),
    "bounded processes": (lambda s: 0 < int(str(s.get("pids_limit", 0))) <= 1024, {"pids_limit": -1}),
    "a health check": (lambda s: bool(s.get("healthcheck")), {"healthcheck": None}),
    "restart": (lambda s: s.get("restart") == "unless-stopped", {"restart": "no"}),
    "an init": (lambda s: s.get("init") is True, {"init": False}),
    "bounded logs": (lambda s: "max-size" in str(s.get("logging")), {"logging": {"driver": "json-file"}}),
}


FILES = {"bridge": ([BASE], BRIDGED), "host network": ([BASE, HOST_NETWORK], ON_HOST_NETWORK)}
CASES = [(files, condition) for files, (_, network) in FILES.items() for condition in [*network, *CLOSED]]


def option(service: Service, name: str) -> str:
    """The value that `trident serve` is given for one of its options; fails if it is given none, or two."""
    command = service.get("command") or []
    assert isinstance(command, list)
    assert command.count(name) == 1, command
    return str(command[command.index(name) + 1])


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    """The service `triton` of each of FILES, with nothing set in the environment."""
    return {name: render(*files)["services"]["triton"] for name, (files, _) in FILES.items()}


@pytest.mark.parametrize(("files", "condition"), CASES)
def test_service_keeps(services: dict[str, Service], files: str, condition: str) -> None:
    holds, _ = {**FILES[files][1], **CLOSED}[condition]
    assert holds(services[files])


@pytest.mark.parametrize(("files", "condition"), CASES)
def test_service_would_be_caught_without(services: dict[str, Service], files: str, condition: str) -> None:
    holds, broken = {**FILES[files][1], **CLOSED}[condition]
    assert not holds({**services[files], **broken})


@pytest.mark.parametrize("files", FILES)
def test_nothing_but_the_one_service(files: str) -> None:
    rendered = render(*FILES[files][0])
    assert list(rendered["services"]) == ["triton"]
    assert not rendered.get("volumes"), "a named volume would outlive `down`"


def test_host_network_changes_the_network_alone(services: dict[str, Service]) -> None:
    """What the override sets is all that differs, and of the health check only the port that is asked."""
    network = {"network_mode", "networks", "ports", "command"}
    bridged, on_host = ({k: v for k, v in services[name].items() if k not in network} for name in FILES)
    assert bridged == on_host


def test_host_network_takes_the_same_ports() -> None:
    chosen = {"HTTP_PORT": "18000", "GRPC_PORT": "18001", "METRICS_PORT": "18002", "HEALTH_PORT": "18003"}
    published = render(BASE, **chosen)["services"]["triton"]["ports"]
    assert [port["published"] for port in published] == list(chosen.values())
    service = render(BASE, HOST_NETWORK, **chosen)["services"]["triton"]
    assert [option(service, f"--{kind}-port") for kind in ("http", "grpc", "metrics", "health")] == list(
        chosen.values()
    )
    assert "127.0.0.1:18003/readyz" in service["healthcheck"]["test"][-1]


def test_repository_may_lie_elsewhere() -> None:
    volumes = render(BASE, MODEL_REPOSITORY="/srv/models")["services"]["triton"]["volumes"]
    assert [volume["source"] for volume in volumes] == ["/srv/models"]


def test_image_ends_as_an_unprivileged_user() -> None:
    users = re.findall(r"^USER (.+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert users == ["1000:1000"]


def test_build_context_holds_every_package() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{pattern.rstrip('*')}/" for pattern in wanted} <= set(lines)
    assert "*" in lines, "all else stays out of the image"
