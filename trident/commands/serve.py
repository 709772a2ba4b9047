"""`trident serve`: the real Triton in the foreground until Ctrl-C, watched and restarted."""

from __future__ import annotations

import argparse
import json

from rich.table import Table

from server.foreground import serve
from server.options import ModelState, ServeOptions
from server.supervisor import Server
from trident.console import progress, result_console

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def run(options: argparse.Namespace) -> int:
    """Serves; 0 after a drained stop."""
    wanted = ServeOptions(
        repository=options.repository,
        http_port=options.http_port,
        grpc_port=options.grpc_port,
        metrics_port=options.metrics_port,
        health_port=options.health_port,
        drain_delay_s=options.drain_delay,
        run_dir=options.run_dir,
        models=tuple(options.models),
        host=options.host,
    )
    if options.host not in LOOPBACK:
        _tell(f"binding to {options.host}: whoever reaches this address may use the server, without any check")
    _tell(f"starting Triton on {options.repository}")
    serve(wanted, _tell, _announce_json if options.json else _announce)
    _tell("stopped")
    return 0


def _tell(sentence: str) -> None:
    progress.print(sentence, soft_wrap=True, markup=False)


def _announce_json(server: Server) -> None:
    """One line of JSON once all models have been tried, for a script that waits for it."""
    models = [
        {"name": m.name, "version": m.version, "ready": m.ready, "golden": m.golden, "reason": m.reason}
        for m in server.models
    ]
    urls = {
        "http": server.http_url,
        "grpc": server.grpc_url,
        "metrics": server.metrics_url,
        "health": server.health_url,
    }
    print(json.dumps({"version": server.version, **urls, "models": models}), flush=True)


def _announce(server: Server) -> None:
    console = result_console()
    table = Table("Model", "Version", "State", title=f"Triton {server.version}", title_justify="left")
    for state in server.models:
        table.add_row(state.name, str(state.version or "-"), _state(state), style=None if state.ready else "red")
    console.print(table)
    console.print(
        f"HTTP http://{server.http_url}  gRPC {server.grpc_url}  metrics http://{server.metrics_url}/metrics  "
        f"health {server.health_url}\n"
        f"log {server.log}\nCtrl-C drains and stops.",
        soft_wrap=True,
    )


def _state(state: ModelState) -> str:
    if not state.ready:
        return state.reason
    return "ready, its golden answers are right" if state.golden else f"ready ({state.reason})"
