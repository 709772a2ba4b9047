"""The container's files under linters made for them: hadolint for the Dockerfile, compose-lint for Compose's security.

Each is clean, whatever the finding's severity, and each would say so if it were not. Needs no engine.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.docker.rendering import BASE, DOCKERFILE, HOST_NETWORK, ROOT, render_text, tool

# The files as they are run, with the rules that the linter may not hold against them.
STACKS = {
    "bridge": ([BASE], ROOT / "docker" / "compose-lint.yaml"),
    "host network": ([BASE, HOST_NETWORK], ROOT / "docker" / "compose-lint.host-network.yaml"),
}
# Replaced in the Dockerfile -> by what, and the rule that minds.
WORSE_IMAGES = {
    "a folder changed by cd": ("WORKDIR /src\n", "RUN cd /src\n", "DL3003"),
    "ends as root": ("USER 1000:1000\n", "USER root\n", "DL3002"),
    "an entry point in a shell": ('CMD ["--host", "0.0.0.0"]', "CMD --host 0.0.0.0", "DL3025"),
    "remote files": ("COPY . .\n", "ADD . .\n", "DL3020"),
}
# Replaced in the rendered YAML -> by what, and the rule that minds.
WORSE_STACKS = {
    "root": ("user: 1000:1000", "user: root", "CL-0018"),
    "capabilities": ("    cap_drop:\n      - ALL\n", "    cap_add:\n      - SYS_ADMIN\n", "CL-0006"),
    "new privileges": ("no-new-privileges:true", "no-new-privileges:false", "CL-0003"),
    "a writable root": ("read_only: true\n    security_opt", "read_only: false\n    security_opt", "CL-0007"),
    "no confinement": ("no-new-privileges:true", "no-new-privileges:true\n      - seccomp:unconfined", "CL-0009"),
    "the engine's socket": ("volumes:\n", "volumes:\n      - /var/run/docker.sock:/s:ro\n", "CL-0001"),
    "no logs": ("driver: json-file", "driver: none", "CL-0014"),
}
WORSE_BRIDGED = {"open ports": ("host_ip: 127.0.0.1", "host_ip: 0.0.0.0", "CL-0005")}


def hadolint(dockerfile: str) -> list[str]:
    """The rules that the Dockerfile breaks, down to matters of style."""
    command = [str(tool("hadolint")), "--format", "json", "--failure-threshold", "style", "-"]
    env = {"PATH": os.environ["PATH"], "HOME": os.devnull, "XDG_CONFIG_HOME": os.devnull}  # no settings of the user's
    result = subprocess.run(
        command, input=dockerfile, env=env, cwd="/", capture_output=True, text=True, timeout=60, check=False
    )
    rules = [finding["code"] for finding in json.loads(result.stdout)]
    assert (result.returncode == 0) == (not rules), result.stderr
    return rules


def compose_lint(folder: Path, compose: str, config: Path) -> tuple[list[str], list[str]]:
    """The rules that the rendered file breaks, and those that it breaks with leave. A setting that the linter does not
    understand, or a service that it could not read, is an error."""
    file = folder / "compose.yaml"
    file.write_text(compose)
    command = [
        str(tool("compose-lint")), "check", "--config", str(config), "--strict-config", "--fail-on", "low", "--no-env",
        "--format", "json", str(file),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode in (0, 1), result.stderr
    answer = json.loads(result.stdout)
    assert not answer["errors"] and not answer["warnings"], answer
    broken = [finding["rule_id"] for finding in answer["findings"] if not finding.get("suppressed")]
    assert (result.returncode == 0) == (not broken), result.stderr
    return broken, [finding["rule_id"] for finding in answer["findings"] if finding.get("suppressed")]


def changed(text: str, old: str, new: str) -> str:
    """The text with one passage replaced, which must be there."""
    assert text.count(old) == 1, f"{old!r} is not there once"
    return text.replace(old, new)


def test_dockerfile_is_clean() -> None:
    text = DOCKERFILE.read_text()
    assert hadolint(text) == []
    assert "hadolint ignore" not in text


@pytest.mark.parametrize("case", WORSE_IMAGES)
def test_worse_dockerfile_is_caught(case: str) -> None:
    old, new, rule = WORSE_IMAGES[case]
    assert rule in hadolint(changed(DOCKERFILE.read_text(), old, new))


@pytest.mark.parametrize("stack", STACKS)
def test_compose_is_clean(tmp_path: Path, stack: str) -> None:
    files, config = STACKS[stack]
    broken, allowed = compose_lint(tmp_path, render_text(*files), config)
    assert broken == []
    # A rule that is no longer broken needs no leave: it would only hide a later fault.
    assert sorted(allowed) == sorted(yaml.safe_load(config.read_text())["rules"])


def test_compose_is_clean_as_written(tmp_path: Path) -> None:
    """Before Compose has put in what the variables stand for, as one reads it."""
    assert compose_lint(tmp_path, BASE.read_text(), STACKS["bridge"][1])[0] == []


@pytest.mark.parametrize(
    ("stack", "case"),
    [(stack, case) for stack in STACKS for case in WORSE_STACKS] + [("bridge", case) for case in WORSE_BRIDGED],
)
def test_worse_compose_is_caught(tmp_path: Path, stack: str, case: str) -> None:
    files, config = STACKS[stack]
    old, new, rule = {**WORSE_STACKS, **WORSE_BRIDGED}[case]
    rendered = render_text(*files)
    assert old in rendered
    assert rule in compose_lint(tmp_path, rendered.replace(old, new), config)[0]


def test_only_the_override_may_use_the_network_of_the_host(tmp_path: Path) -> None:
    rendered = render_text(BASE, HOST_NETWORK)
    assert compose_lint(tmp_path, rendered, STACKS["bridge"][1])[0] == ["CL-0008"]
