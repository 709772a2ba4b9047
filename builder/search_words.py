"""Figures of candidates in words."""

from __future__ import annotations

from core.optimize_results import Figures


def facts(figures: Figures, metric: str) -> str:
    """Size, time and loss of a measured candidate."""
    return f"{size_words(figures.size_bytes)}, {time_words(figures.time_ms)}, {loss_words(figures, metric)}"


def loss_words(figures: Figures, metric: str) -> str:
    """What a candidate loses, with its interval, as the end of a sentence."""
    drop, (low, high) = figures.drop or 0.0, figures.drop_ci95 or (0.0, 0.0)
    word = "loses" if drop >= 0 else "gains"
    return f"{word} {abs(100 * drop):.2f} points of {metric} (95% of the loss: {100 * low:+.2f} to {100 * high:+.2f})"


def size_words(count: int) -> str:
    """Bytes for people."""
    if count >= 100_000:
        return f"{count / 1e6:.2f} MB"
    return f"{count / 1e3:.1f} kB" if count >= 1000 else f"{count} byte{'s' * (count != 1)}"


def time_words(value_ms: float) -> str:
    """Milliseconds for people."""
    return f"{value_ms:.3g} ms"
