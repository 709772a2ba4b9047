"""The options of `trident loadtest`, which has more than others."""

from __future__ import annotations

import argparse
from pathlib import Path

from trident.quantities import parse_count, parse_port, parse_price


def add(parser: argparse.ArgumentParser) -> None:
    """Adds those that no other command has."""
    parser.add_argument("--url", help="a running server, host:port (HTTP); default: start the embedded one")
    parser.add_argument(
        "--grpc-url", help="its address for gRPC, host:port; without it, only HTTP is tested with --url"
    )
    parser.add_argument(
        "--protocols", choices=("http", "grpc", "raw"), nargs="+", default=["http", "grpc"],
        help="raw is HTTP by a user that costs less, for fast models; default: http grpc",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="default: <artifacts>/<model>/loadtest")
    parser.add_argument(
        "--scenario", default="levels", metavar="NAME|FILE.yaml",
        help="what is sent: levels, single, closed, ab, constant, poisson, step, ramp, capacity, soak, mixed, or your "
        "own; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--users", type=parse_count, nargs="+", metavar="N", help="users of a closed loop, by window")
    parser.add_argument("--rate", type=float, metavar="RPS", help="requests a second of an open loop, at its highest")
    parser.add_argument(
        "--connections", type=parse_count, metavar="N", help="of an open loop: requests under way at most"
    )
    parser.add_argument("--p99", type=float, metavar="MS", help="what a capacity search has to hold")
    parser.add_argument("--seconds", type=float, help="length of one window, or of one probe of a search")
    parser.add_argument("--passes", type=parse_count, metavar="N", help="how often all is repeated, in another order")
    parser.add_argument(
        "--price",
        type=parse_price,
        metavar="AMOUNT",
        help="of this machine an hour: adds the cost of a million inferences",
    )
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn by chance; default: %(default)s")
    parser.add_argument(
        "--metrics-port",
        type=parse_port,
        metavar="PORT",
        help="Prometheus metrics while it runs, on 127.0.0.1; 0: a free one",
    )
    parser.add_argument(
        "--web", type=parse_port, nargs="?", const=8089, metavar="PORT",
        help="no load test, but Locust's own page on 127.0.0.1, to try loads by hand; default: 8089",
    )  # fmt: skip
    many = parser.add_argument_group("several load generators, by Locust's master and workers")
    many.add_argument("--processes", type=parse_count, default=1, metavar="N", help="on this machine; default: 1")
    many.add_argument(
        "--expect-workers", type=int, choices=range(257), default=0, metavar="N", help="to wait for, from other hosts"
    )
    many.add_argument(
        "--master-bind-host", default="127.0.0.1", metavar="HOST",
        help="where they come to; anyone there may take part, so trust the network; default: %(default)s",
    )  # fmt: skip
    many.add_argument("--master-bind-port", type=parse_port, default=5557, metavar="PORT", help="default: %(default)s")
    many.add_argument("--worker", action="store_true", help="be such a worker, run after run, until Ctrl-C")
    many.add_argument("--master-host", default="127.0.0.1", metavar="HOST", help="the worker's master")
    many.add_argument("--master-port", type=parse_port, default=5557, metavar="PORT", help="default: %(default)s")
