"""Trident beside other servers, on the same cores, with the same users and answers, in turns."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.peers.start import Peer, served
from benchmarks.serving_load import Contestant, Generator
from core.comparison import Claim
from core.intervals import block_ratio
from core.load_results import LoadWindow
from core.machine import cores

USERS: Final = (4, 32)
SECONDS, ROUNDS = 0.5, 10  # short, so that what the machine does meanwhile meets both sides of a ratio
TRY_USERS, TRY_SECONDS = 32, 0.7
HERE: Final = Path(__file__).parent


def onnx_peers(model: Path) -> dict[str, tuple[Peer, ...]]:
    """Peer -> the ways to run it that its pages name: workers, and batches where it forms any."""
    file, many = str(model), str(cores())
    fastapi = {
        dialect: tuple(
            Peer(f"fastapi-{dialect}-{workers}", "fastapi_onnx.py", (file, "{port}", workers), dialect)
            for workers in ("1", many)
        )
        for dialect in ("bytes", "json")
    }
    litserve = tuple(
        Peer(f"litserve-{workers}-{batch}", "litserve_onnx.py", (file, "{port}", workers, batch), "base64")
        for workers, batch in (("1", "8"), ("1", "32"), (many, "8"), (many, "32"))
    )
    mlserver = tuple(
        Peer(f"mlserver-{batch}", "mlserver_onnx.py", (file, "{other}", "{port}", "0", batch, "{folder}"), "grpc")
        for batch in ("1", "32")
    )
    raw, json = fastapi["bytes"], fastapi["json"]
    return {"fastapi_raw": raw, "fastapi_json": json, "litserve": litserve, "mlserver": mlserver}


def torch_peers(network: Path, weights: Path) -> dict[str, tuple[Peer, ...]]:
    """FastAPI before the same network in eager PyTorch."""
    words = (str(network), str(weights), "{port}")
    return {
        "fastapi_torch": tuple(
            Peer(f"fastapi-torch-{workers}", "fastapi_torch.py", (*words, workers), "bytes")
            for workers in ("1", str(cores()))
        )
    }


def interleaved(
    generator: Generator, names: Sequence[str], users: Sequence[int], seconds: float, rounds: int
) -> tuple[LoadWindow, ...]:
    """A window for each contestant and number of users in each round, in a new order in each."""
    shuffle = random.Random(1)
    return tuple(
        generator.window(name, count, seconds, number)
        for number in range(1, rounds + 1)
        for count in users
        for name in shuffle.sample(names, len(names))
    )


def best_rps(windows: Sequence[LoadWindow], name: str) -> list[float]:
    """A contestant's throughput in each round, at that number of users which suits it best over all rounds."""
    mine = [window for window in windows if window.variant == name]
    levels = {window.users: 0.0 for window in mine}
    for window in mine:
        levels[window.users] += window.throughput_rps
    best = max(levels, key=lambda users: levels[users])
    return [window.throughput_rps for window in mine if window.users == best]


def ratio_claim(name: str, ratios: Sequence[float], unit: str, target: float | None) -> Claim:
    """A ratio over rounds, one a round; it holds if all of its interval does."""
    value, interval = block_ratio(ratios)
    return Claim(
        id=name, value=value, ci95=interval, unit=unit, target=target, better="higher",
        holds=target is None or interval[0] >= target,
    )  # fmt: skip


def against(
    ours: Mapping[str, tuple[Contestant, ...]], peers: Mapping[str, tuple[Peer, ...]], pack: Path, folder: Path,
    targets: Mapping[str, float | None],
) -> tuple[tuple[Claim, ...], tuple[LoadWindow, ...]]:  # fmt: skip
    """Each peer beside Trident, `ours` under the peer's name, in turns; on both sides that way which is quickest here.
    Over HTTP both get the load test's raw user."""
    every = tuple(peer for ways in peers.values() for peer in ways)
    mine = {one.name: one for ways in ours.values() for one in ways}
    with served(every, pack, folder) as contestants, Generator([*mine.values(), *contestants]) as generator:
        rps = {name: _tried(generator, name) for name in (*mine, *(peer.name for peer in every))}
        our_way = {name: max((way.name for way in ways), key=lambda way: rps[way]) for name, ways in ours.items()}
        their_way = {name: max((way.name for way in ways), key=lambda way: rps[way]) for name, ways in peers.items()}
        windows = interleaved(generator, sorted({*our_way.values(), *their_way.values()}), USERS, SECONDS, ROUNDS)
    claims = []
    for name, way in their_way.items():
        pairs = zip(best_rps(windows, our_way[name]), best_rps(windows, way), strict=True)
        unit = f"x {way}, {our_way[name]}, each at its best of {' and '.join(map(str, USERS))} users"
        claims.append(ratio_claim(f"{name}_ratio", [one / other for one, other in pairs], unit, targets[name]))
    return tuple(claims), windows


def _tried(generator: Generator, name: str) -> float:
    return generator.window(name, TRY_USERS, TRY_SECONDS).throughput_rps
