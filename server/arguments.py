"""The server's command line, as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from server.probe import CONTROL_HEADER


@dataclass(frozen=True)
class Launch:
    """What the command line is made of."""

    repository: Path
    canaries: Path
    backends: Path
    host: str
    http_port: int
    grpc_port: int
    metrics_port: int
    exit_timeout_s: int
    control_key: str
    shm_prefix: str


@dataclass(frozen=True)
class Argument:
    """A word of the command line, as a template over the fields of Launch, for servers from `since` on."""

    template: str
    since: tuple[int, int] = (0, 0)


# Whoever may load models may run code (a load request can carry a model.py), and log and trace settings name files to
# write: these need this run's key, over both protocols.
_RESTRICTED = f"model-repository,logging,trace:{CONTROL_HEADER}={{control_key}}"

ARGUMENTS: Final = (
    Argument("--model-repository={repository}"),
    Argument("--model-repository={canaries}"),
    Argument("--backend-directory={backends}"),
    # Nothing is loaded at start: the supervisor loads each model, so that one that hangs or fails holds up no other.
    # Also the only mode in which unloading and loading, the cure for a dead stub, is allowed.
    Argument("--model-control-mode=explicit"),
    Argument("--exit-on-error=false"),
    # Else each model's stub starts twice, the first time only to complete a configuration that is complete.
    Argument("--disable-auto-complete-config"),
    Argument("--exit-timeout-secs={exit_timeout_s}"),
    Argument("--http-address={host}"),
    Argument("--http-port={http_port}"),
    Argument("--grpc-address={host}"),
    Argument("--grpc-port={grpc_port}"),
    Argument("--metrics-address={host}"),
    Argument("--metrics-port={metrics_port}"),
    Argument(f"--http-restricted-api={_RESTRICTED}"),
    Argument(f"--grpc-restricted-protocol={_RESTRICTED}"),
    Argument("--allow-gpu-metrics=false"),
    Argument("--allow-sagemaker=false"),
    Argument("--allow-vertex-ai=false"),
    # The name `python` sets it for all Python-based backends; their own names are not looked at.
    Argument("--backend-config=python,shm-region-prefix-name={shm_prefix}"),
    # Newer servers refuse requests above 64 MiB, which a batch of large images passes.
    Argument("--http-max-input-size=268435456", since=(2, 59)),
)


def arguments(launch: Launch, version: tuple[int, int]) -> tuple[str, ...]:
    """The command line, without the program, for a server of this version."""
    values = asdict(launch)
    return tuple(row.template.format_map(values) for row in ARGUMENTS if version >= row.since)
