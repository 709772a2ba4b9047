"""What a caller decides about a server, and what it tells in return."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ServeOptions:
    """How to serve a repository.

    A port of 0 is replaced by a free one. `models` are Triton names, none meaning all. Logs go to `run_dir`
    (default `artifacts/server/<pid>`). `host` other than loopback opens the server to the network, unencrypted and
    without authentication: only inside a container.
    """

    repository: Path
    http_port: int = 0
    grpc_port: int = 0
    metrics_port: int = 0
    run_dir: Path | None = None
    models: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    health_port: int | None = None  # of the supervisor's own pages; None: it has none
    start_timeout_s: float = 120.0
    drain_delay_s: float = 0.0  # between being unready and refusing requests: for balancers to notice
    exit_timeout_s: int = 8  # below the 10 s that container engines give
    golden_interval_s: float = 30.0  # 0: goldens are checked after each load only
    look_interval_s: float = 1.0  # how often the repository is looked at for what was published; 0: never
    hang_timeout_s: float = 10.0  # without any answer for so long, the server counts as hung
    restart_limit: int = 5  # deaths of the server, or of one model, that are made good within the window
    restart_window_s: float = 300.0


@dataclass(frozen=True)
class Refusal:
    """Versions that a model's folder asks for and does not get; what was served before is. `at`: seconds since 1970."""

    versions: tuple[int, ...]
    reason: str
    at: float


@dataclass(frozen=True)
class ModelState:
    """One served version, or a model of which none could be served (`version` 0).

    `ready`: loaded, and its golden answers are right where it has any. `golden`: None if it has none. `reason`: why it
    is not ready, or why its goldens were not checked.
    """

    name: str
    version: int
    ready: bool
    golden: bool | None
    reason: str = ""
