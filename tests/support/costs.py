"""Measured costs of a model whose law is known."""

from __future__ import annotations

from core.results import CallTime, Costs


def costs_of(
    *,
    overhead_ms: float = 0.0,
    sample_ms: float = 100.0,
    serial: float = 0.0,
    cores: int = 4,
    crowding: float = 1.0,
    resident_bytes: int = 100 << 20,
) -> Costs:
    """A call on `b` samples takes `overhead_ms + b * sample_ms` with one thread, of which the share `serial` gains
    nothing by more of them. Batches up to 32."""
    calls = [
        CallTime(threads=threads, batch=batch, ms=(overhead_ms + batch * sample_ms) * (serial + (1 - serial) / threads))
        for threads in sorted({1, cores})
        for batch in (1, 2, 4, 8, 16, 32)
    ]
    return Costs(calls=tuple(calls), crowding=crowding, resident_bytes=resident_bytes)
