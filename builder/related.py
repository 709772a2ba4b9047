"""What relates a build's rows to the original and the baseline."""

from __future__ import annotations

from core.results import BuildRow, MetricValue


def related(rows: list[BuildRow], baseline: str) -> tuple[BuildRow, ...]:
    """Fills in what relates a row to the original: compression, retention, and whether it is slower (dominated)."""
    base_size = next((row.size_bytes for row in rows if row.variant == baseline), None)

    def filled(row: BuildRow) -> BuildRow:
        update: dict[str, float | bool] = {}
        if base_size and row.size_bytes:
            update["compression"] = base_size / row.size_bytes
        if row.verdict and (retention := _retention(row.verdict.metric, row.verdict.baseline)) is not None:
            update["retention"] = retention
        if row.timing and row.status == "published" and row.variant != baseline:
            update["dominated"] = not row.timing.disturbed and row.timing.speedup_ci95[1] < 1
        return row.model_copy(update=update)

    return tuple(filled(row) for row in rows)


def _retention(metric: MetricValue, baseline: MetricValue) -> float | None:
    """What is left of the original's score: 1 if all of it, whichever way is better."""
    kept, whole = (metric.value, baseline.value) if metric.higher_is_better else (baseline.value, metric.value)
    return kept / whole if whole else None
