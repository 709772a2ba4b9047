"""Metrics, log records and trace context."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from client import InferenceClient, OverloadedError, RefusedError, Settings, trace
from client.events import log_event
from client.fake import FakeServer
from client.metrics import ClientMetrics
from client.settings import Breaker
from client.tracing import child_of, current_traceparent
from core.errors import InputError
from tests.support.clients import ROWS, Moments, doubler

PARENT = f"00-{'0123456789abcdef' * 2}-{'fedcba9876543210'}-01"


def fake_with_variant() -> FakeServer:
    """A server whose model says which variant it is."""
    return FakeServer({"double": doubler(**{"trident.variant": "onnx_fp32"})})


def test_metrics_count_requests_attempts_and_time() -> None:
    registry, moments, fake = CollectorRegistry(), Moments(), fake_with_variant()
    settings = replace(moments.settings(), observers=(ClientMetrics(registry),))
    client = InferenceClient(settings=settings, transports=[fake])
    client.infer("double", ROWS[:1])
    fake.fail(OverloadedError("busy"))
    client.infer("double", ROWS[:1])
    fake.fail(RefusedError("no"))
    with pytest.raises(RefusedError):
        client.infer("double", ROWS[:1])
    subject = {"model": "double", "variant": "onnx_fp32", "protocol": "http"}

    def value(name: str, **more: str) -> float | None:
        return registry.get_sample_value(name, subject | more)

    assert value("trident_client_requests_total", outcome="ok") == 2
    assert value("trident_client_requests_total", outcome="RefusedError") == 1
    assert value("trident_client_attempts_total", outcome="ok") == 2
    assert value("trident_client_attempts_total", outcome="OverloadedError") == 1
    assert value("trident_client_request_seconds_count") == 3
    assert value("trident_client_request_seconds_sum") == pytest.approx(0.05)
    assert b'le="0.05"' in generate_latest(registry)


def test_metrics_show_the_breaker() -> None:
    registry, moments, fake = CollectorRegistry(), Moments(), fake_with_variant()
    settings = replace(moments.settings(), observers=(ClientMetrics(registry),), breaker=Breaker(failures=1))
    client = InferenceClient(settings=settings, transports=[fake])
    where = {"endpoint": "http://127.0.0.1:8000", "model": "double"}
    client.infer("double", ROWS[:1])
    (server,) = client._dialogue.servers
    server.failed(server.circuit("double"))
    assert registry.get_sample_value("trident_client_breaker_open", where) == 1
    client.infer("double", ROWS[:1])
    assert registry.get_sample_value("trident_client_breaker_open", where) == 0


def test_log_records_carry_their_event_as_plain_data(caplog: pytest.LogCaptureFixture) -> None:
    moments, fake = Moments(), fake_with_variant()
    client = InferenceClient(settings=replace(moments.settings(), observers=(log_event,)), transports=[fake])
    client.infer("double", ROWS[:1])
    assert caplog.records == []  # what goes well is for debugging
    fake.fail(OverloadedError("busy"))
    client.infer("double", ROWS[:1])
    (record,) = caplog.records
    assert record.getMessage() == "double at http://127.0.0.1:8000, attempt 1: OverloadedError: busy"
    assert json.loads(json.dumps(record.trident))["event"] == "AttemptEnded"  # type: ignore[attr-defined]
    assert record.trident["model"] == "double"  # type: ignore[attr-defined]
    with caplog.at_level(logging.DEBUG, "trident.client"):
        client.infer("double", ROWS[:1])
    assert [record.levelname for record in caplog.records[1:]] == ["DEBUG", "DEBUG"]


def test_a_trace_is_passed_on_with_a_span_for_each_attempt() -> None:
    fake = fake_with_variant()
    client = InferenceClient(settings=Settings(observers=()), transports=[fake])
    client.infer("double", ROWS[:1])
    with trace(PARENT):
        assert current_traceparent() == PARENT
        client.infer("double", ROWS)
    assert current_traceparent() is None
    sent = [dict(attempt.headers).get("traceparent", "") for _, attempt in fake.sent]
    assert sent[0] == ""
    assert len(set(sent[1:])) == 3  # three parts
    assert all(child.startswith(PARENT[:36]) and child.endswith("-01") and child != PARENT for child in sent[1:])


def test_opentelemetrys_current_span_is_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its documented interface; the library itself is not needed."""
    import sys
    from types import SimpleNamespace

    context = SimpleNamespace(is_valid=True, trace_id=0xAB, span_id=0xCD, trace_flags=1)
    span = SimpleNamespace(get_span_context=lambda: context)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", SimpleNamespace(get_current_span=lambda: span))
    assert current_traceparent() == f"00-{'0' * 30}ab-{'0' * 14}cd-01"
    context.is_valid = False
    assert current_traceparent() is None


@pytest.mark.parametrize("wrong", ["", "00-1-2-01", PARENT.replace("00-", "ff-", 1), f"00-{'0' * 32}-{'1' * 16}-01"])
def test_what_is_no_traceparent_is_refused(wrong: str) -> None:
    with pytest.raises(InputError, match="is no traceparent"), trace(wrong):
        raise AssertionError


def test_children_differ() -> None:
    assert child_of(PARENT) != child_of(PARENT)
