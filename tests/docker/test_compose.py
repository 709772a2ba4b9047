"""compose.yaml and the Dockerfile as Compose reads them: valid, and as closed as SECURITY.md says. Needs no engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPOSE = Path(sys.executable).parent / "docker-compose"
DOCKERFILE = ROOT / "docker" / "triton-cpu.Dockerfile"

Service = dict[str, object]

# What must hold for the service as rendered, each with a change that breaks it.
CONDITIONS: dict[str, tuple[Callable[[Service], bool], Service]] = {
    "ports on loopback only": (
        lambda s: bool(s["ports"]) and all(port.get("host_ip") == "127.0.0.1" for port in s["ports"]),  # type: ignore[attr-defined]
        {"ports": [{"target": 8000, "published": "8000"}]},
    ),
    "no network of the host": (lambda s: "network_mode" not in s, {"network_mode": "host"}),
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
    "a health check": (lambda s: bool(s.get("healthcheck")), {"healthcheck": None}),
    "restart": (lambda s: s.get("restart") == "unless-stopped", {"restart": "no"}),
    "an init": (lambda s: s.get("init") is True, {"init": False}),
    "bounded logs": (lambda s: "max-size" in str(s.get("logging")), {"logging": {"driver": "json-file"}}),
}


@pytest.fixture(scope="module")
def service() -> Service:
    """The service `triton` as `docker compose config` renders it, with nothing set in the environment."""
    if not COMPOSE.is_file():
        pytest.skip("docker-compose is not in this environment: run `make setup`")
    env = {"PATH": os.environ["PATH"], "HOME": "/"}
    command = [str(COMPOSE), "-f", str(ROOT / "compose.yaml"), "config", "--format", "json"]
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert not result.stderr.strip(), "Compose warns about the file"
    services: dict[str, Service] = json.loads(result.stdout)["services"]
    assert list(services) == ["triton"]
    return services["triton"]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_service_keeps(service: Service, condition: str) -> None:
    holds, _ = CONDITIONS[condition]
    assert holds(service)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_service_would_be_caught_without(service: Service, condition: str) -> None:
    holds, broken = CONDITIONS[condition]
    assert not holds({**service, **broken})


def test_image_ends_as_an_unprivileged_user() -> None:
    users = re.findall(r"^USER (.+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert users == ["1000:1000"]


def test_build_context_holds_every_package() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{pattern.rstrip('*')}/" for pattern in wanted} <= set(lines)
    assert "*" in lines, "all else stays out of the image"
