"""Whether the load test's verdicts can be believed: how often they cry wolf between equals, and how often they find a
model that is 5% slower. From recorded blocks, resampled, and live; and what a frozen server does to p99.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.claims import counted
from core.comparison import Claim
from core.load_results import Contrast, LoadWindow
from core.scenario import ClosedLoop, OpenLoop, Scenario
from loadtest import LoadEvent, LoadPlan, Target, run_plan
from loadtest.verdicts import FIELDS, FIGURES, Figure, contrast, contrasts
from server.supervisor import Server

BLOCKS: Final = 20  # passes of one run, as in the scenario `ab`
RESAMPLINGS: Final = 2000
SLOWER: Final = 1.05
RUNS: Final = 2
FROZEN_S: Final = 1.0
FROZEN_LOAD: Final = OpenLoop(rate_rps=150, arrivals="constant", seconds=4, connections=4)


def false_alarms(blocks: Sequence[tuple[LoadWindow, LoadWindow]], figure: Figure, slower: float = 1.0) -> float:
    """Percent of resamplings with a verdict other than `no significant difference`.

    A block is two windows of the same model in one pass. Each resampling takes `BLOCKS` passes that follow one another,
    from a random place on (the blocks closed to a ring), and says by chance which of the two windows is whose, as the
    load test's random order does: so neighbours stay neighbours, and nobody is the faster one. With `slower`, one of
    the two is made slower by that factor; then the percentage is that of being found.
    """
    random = np.random.default_rng(3)
    found = 0
    for _ in range(RESAMPLINGS):
        rows = (random.integers(len(blocks)) + np.arange(BLOCKS)) % len(blocks)
        swapped = random.random(BLOCKS) < 0.5
        pairs = [blocks[row][:: -1 if swap else 1] for row, swap in zip(rows, swapped, strict=True)]
        mine = [slowed(pair[0], slower, number) for number, pair in enumerate(pairs)]
        base = [pair[1].model_copy(update={"pass_number": number}) for number, pair in enumerate(pairs)]
        verdict = contrast(mine, base, figure).verdict
        found += verdict == "slower" if slower > 1 else verdict not in ("no significant difference", "none")
    return 100 * found / RESAMPLINGS


def slowed(window: LoadWindow, factor: float, number: int) -> LoadWindow:
    """The window as if the model took longer by a factor, as pass `number`."""
    changed: dict[str, float | int] = {"pass_number": number}
    for figure in FIGURES:
        value = getattr(window, FIELDS[figure])
        changed[FIELDS[figure]] = value / factor if figure == "throughput" else value * factor
    return window.model_copy(update=changed)


def pairs_of(windows: Sequence[LoadWindow], one: str, other: str) -> Iterator[tuple[LoadWindow, LoadWindow]]:
    """The windows of two variants, pass by pass."""
    theirs = {window.pass_number: window for window in windows if window.variant == other}
    return ((mine, theirs[mine.pass_number]) for mine in windows if mine.variant == one)


def verdict_claims(server: Server, pack: Path, folder: Path) -> tuple[tuple[Claim, ...], tuple[LoadWindow, ...]]:
    """Several live runs of a model, its twin and one that is really 5% slower; and resamplings of the first two."""
    windows: list[LoadWindow] = []
    for number in range(RUNS):
        plan = LoadPlan(
            model="deep", url=server.http_url, pack=pack, accuracy_s=1, seed=number,
            targets=tuple(Target(variant=name, triton_name=f"{name}_onnx_fp32") for name in ("deep", "twin", "slow")),
            scenario=Scenario(name="ab", load=ClosedLoop(users=(4,), seconds=0.8), passes=BLOCKS),
        )  # fmt: skip
        run = run_plan(plan, folder / f"run{number}", lambda _event: None).windows
        windows += [w.model_copy(update={"pass_number": w.pass_number + number * BLOCKS}) for w in run]
    return judge(windows), tuple(windows)


def judge(windows: Sequence[LoadWindow]) -> tuple[Claim, ...]:
    """What the recorded runs say of the verdicts; run by run, the passes numbered through."""
    verdicts = list[Contrast]()
    for number in range(RUNS):
        run = [w for w in windows if number * BLOCKS < w.pass_number <= (number + 1) * BLOCKS]
        verdicts += contrasts(run, "deep")
    blocks = list(pairs_of(windows, "deep", "twin"))
    few = f"of {RESAMPLINGS} resamplings of {len(blocks)} recorded blocks, {BLOCKS} at a time"
    claims = []
    for figure in FIGURES:
        suffix = "" if figure == "throughput" else f"_{figure}"
        alarms, power = false_alarms(blocks, figure), false_alarms(blocks, figure, SLOWER)
        claims += [
            counted(f"aa_false_alarm_pct{suffix}", alarms, f"% {few}, {figure}; 3 at least", 8.0, "lower"),
            counted(f"power_5pct_slowdown_pct{suffix}", power, f"% {few}, {figure}", 90.0, "higher"),
        ]
    claims = [judged(one) for one in claims]
    for variant, wanted, name in (("twin", "no significant difference", "aa"), ("slow", "slower", "5pct_slower")):
        mine = [one for one in verdicts if one.variant == variant and one.figure == "throughput"]
        right = sum(one.verdict == wanted for one in mine)
        told = ", ".join(f"{one.ratio:.3f}" for one in mine if one.ratio)
        unit = f"of {len(mine)} verdicts on throughput are `{wanted}`; ratios {told}"
        claims.append(counted(f"live_{name}", right, unit, len(mine), "higher"))
    return tuple(claims)


def judged(claim: Claim) -> Claim:
    """False alarms must not be too rare either: then the intervals are too wide. A tail of latency is for comparison:
    what a single window knows of its p99 is little, and 5% of it are not asked for."""
    if claim.id.endswith("_p99"):
        return claim.model_copy(update={"target": None, "holds": True})
    if claim.id.startswith("aa_"):
        return claim.model_copy(update={"holds": 3 <= claim.value <= 8})
    return claim


def frozen_claims(server: Server, pack: Path, folder: Path) -> tuple[tuple[Claim, ...], tuple[LoadWindow, ...]]:
    """p99 of windows in which the server was stopped for a second, from when requests were due and from when they
    were sent."""

    def freeze() -> None:
        os.killpg(server.pid, signal.SIGSTOP)
        time.sleep(FROZEN_S)  # this is the fault
        os.killpg(server.pid, signal.SIGCONT)

    passes = 3

    def begin(event: LoadEvent) -> None:
        # Less than half a second of warm-up follows, and then the window.
        if event.kind != "note" and event.done < event.total:
            threading.Timer(2.0, freeze).start()

    plan = LoadPlan(
        model="tiny", url=server.http_url, pack=pack, accuracy_s=1,
        targets=(Target(variant="tiny", triton_name="tiny_onnx_fp32"),),
        scenario=Scenario(name="frozen", load=FROZEN_LOAD, passes=passes, warmup_s=0.1),
    )  # fmt: skip
    windows = run_plan(plan, folder, begin).windows
    corrected = min(window.p99_ms or 0.0 for window in windows)
    uncorrected = max(window.uncorrected_p99_ms or 0.0 for window in windows)
    load = f"{FROZEN_LOAD.rate_rps:g} requests/s over {FROZEN_LOAD.connections} connections, {FROZEN_LOAD.seconds:g} s"
    return (
        counted("frozen_corrected_p99_ms", corrected, f"ms, the least of {passes} windows; {load}", 800.0, "higher"),
        counted("frozen_uncorrected_p99_ms", uncorrected, f"ms, the largest of {passes} windows", 100.0, "lower"),
    ), windows
