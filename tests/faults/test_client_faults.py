"""The client under load while its server is killed, frozen, or too busy."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.client_faults import deadline_ratios, meanwhile, our_ask, steady_load, storm
from client import InferenceClient, Settings
from client.settings import Breaker, Retry
from client.transport import ProtocolName
from server.options import ServeOptions
from server.supervisor import Server
from tests.integration.server_fixtures import leaves_nothing, linear, rows, wait_for, write_goldens, write_onnx

QUIET = Settings(observers=())
CALLERS = 8
INPUTS = rows(100)


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> ProtocolName:
    """Each test runs once a protocol."""
    return "grpc" if request.param == "grpc" else "http"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One model, supervised: it comes back when it is killed, and is left alone when it is frozen."""
    write_goldens(write_onnx(tmp_path / "repository", "one"))
    options = ServeOptions(tmp_path / "repository", run_dir=tmp_path / "run", exit_timeout_s=1, hang_timeout_s=60)
    with Server(options) as running:
        yield running
    assert leaves_nothing(running)


def url_of(server: Server, protocol: ProtocolName) -> str:
    """Its address for a protocol."""
    return f"{protocol}://{server.grpc_url if protocol == 'grpc' else server.http_url}"


def test_a_killed_server_costs_time_and_no_answer(server: Server, protocol: ProtocolName) -> None:
    with InferenceClient(url_of(server, protocol), settings=QUIET) as client:
        ask = our_ask(client, "one", INPUTS, linear(INPUTS))
        killing = meanwhile(1.5, lambda: os.kill(server.pid, signal.SIGKILL))
        load = steady_load(lambda: ask, CALLERS, seconds=7, pause_s=0.05)
        killing.join()
    assert server.restarts == 1
    assert load.share("wrong") == 0
    assert load.share("right") >= 0.99, {one.outcome for one in load.asked}
    waited = max(one.seconds for one in load.asked)
    assert waited > 0.2  # the outage was felt


def test_without_retries_the_same_kill_costs_answers(server: Server) -> None:
    once = replace(QUIET, retry=Retry(attempts=1), breaker=Breaker(failures=10**6))
    with InferenceClient(server.http_url, settings=once) as client:
        ask = our_ask(client, "one", INPUTS, linear(INPUTS))
        killing = meanwhile(1, lambda: os.kill(server.pid, signal.SIGKILL))
        load = steady_load(lambda: ask, CALLERS, seconds=4, pause_s=0.05)
        killing.join()
    assert load.share("right") < 0.99
    wait_for(lambda: server.restarts == 1 and all(state.ready for state in server.models), "it is back", 30)


def test_a_frozen_server_costs_no_more_than_the_deadline(server: Server, protocol: ProtocolName) -> None:
    timeout_s = 1.0
    with InferenceClient(url_of(server, protocol), timeout_s=timeout_s, settings=QUIET) as client:
        ask = our_ask(client, "one", INPUTS, linear(INPUTS))
        os.kill(server.pid, signal.SIGSTOP)
        thawing = meanwhile(3, lambda: os.kill(server.pid, signal.SIGCONT))
        load = steady_load(lambda: ask, CALLERS, seconds=6, pause_s=0.05)
        thawing.join()
        assert not client._dialogue.servers[0].under_way
    ratios = deadline_ratios(load, timeout_s)
    assert len(ratios) >= 2 * CALLERS
    assert min(ratios) >= 0.9 and max(ratios) <= 1.1, (min(ratios), max(ratios))
    assert load.share("wrong") == 0
    assert [one.outcome for one in sorted(load.asked, key=lambda one: one.began_s)][-1] == "right"


def test_a_busy_server_is_not_stormed() -> None:
    settings = replace(QUIET, connections=100)
    seen = asyncio.run(storm(100, 0.5, (2.0, 5.0), 8.0, settings))
    assert seen.attempts_per_request <= 1.1
    assert seen.peak() <= 1.5
    assert seen.failures == 0
    during = [at for at in seen.arrivals_s if 2.5 <= at < 5.0]
    assert len(during) < 10  # one try now and then


def test_without_breaker_and_budget_it_would_be() -> None:
    reckless = Retry(attempts=100, first_wait_s=0.1, longest_wait_s=0.1, budget=100, burst=100)
    settings = replace(QUIET, connections=100, retry=reckless, breaker=Breaker(failures=10**6))
    seen = asyncio.run(storm(100, 0.5, (1.5, 3.5), 4.0, settings))
    assert seen.attempts_per_request > 2


def test_many_rows_in_parts_survive_a_kill_too(server: Server) -> None:
    with InferenceClient(server.http_url, settings=QUIET) as client:
        client.infer("one", INPUTS)
        os.kill(server.pid, signal.SIGKILL)
        np.testing.assert_array_equal(client.infer("one", INPUTS)["y"], linear(INPUTS))
    wait_for(lambda: all(state.ready for state in server.models), "it is back", 30)
