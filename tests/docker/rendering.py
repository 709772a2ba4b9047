"""What the tests of this folder share: the container's files, and Compose run on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
BASE = ROOT / "compose.yaml"
HOST_NETWORK = ROOT / "docker" / "compose.host-network.yaml"
DOCKERFILE = ROOT / "docker" / "triton-cpu.Dockerfile"


def tool(name: str) -> Path:
    """A program that this environment's packages brought; the test is skipped where they did not."""
    path = TOOLS / name
    if not path.is_file():
        pytest.skip(f"{name} is not in this environment: run `make setup`")
    return path


def render_text(*files: Path, form: str = "yaml", **env: str) -> str:
    """What `docker compose config` makes of the files, with only `env` in the environment. It must not complain."""
    command = [str(tool("docker-compose")), "--env-file", os.devnull]
    for file in files:
        command += ["-f", str(file)]
    command += ["config", "--format", form]
    env = {"PATH": os.environ["PATH"], "HOME": "/", **env}
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert not result.stderr.strip(), f"Compose warns about the files: {result.stderr}"
    return result.stdout


def render(*files: Path, **env: str) -> dict[str, Any]:
    """The same, parsed."""
    rendered: dict[str, Any] = json.loads(render_text(*files, form="json", **env))
    return rendered
