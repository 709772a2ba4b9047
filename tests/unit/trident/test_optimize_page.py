"""The page of a search, from made-up figures, and quantities as one types them."""

from __future__ import annotations

import argparse
import re

import pytest

from core.optimize_results import CandidateRow, Figures, OptimizeReport, Targets
from core.results import Machine, MetricValue
from trident.optimize_page import render
from trident.quantities import parse_bytes, parse_loss, parse_seconds


def figures(size_bytes: int, time_ms: float, drop: float) -> Figures:
    return Figures(
        size_bytes=size_bytes, time_ms=time_ms, speedup=4 / time_ms, accuracy=0.93 - drop, drop=drop,
        drop_ci95=(drop - 0.002, drop + 0.002),
    )  # fmt: skip


def report(*rows: CandidateRow) -> OptimizeReport:
    return OptimizeReport(
        created_at="2026-01-01T00:00:00Z", model="coats", spec="models/coats.yaml",
        machine=Machine(cpu_model="a CPU", cores=2, memory_bytes=1, isa_flags=(), system="Linux", python="3.11"),
        versions={}, targets=Targets(size_bytes=500_000, time_ms=1.0, drop=0.01, drop_given="1pt"),
        original=MetricValue(name="top1", value=0.93, ci95=(0.92, 0.94), samples=2000), budget_s=1800, spent_s=100,
        answer=("1 of 2 & more.",), found=True, chosen=("narrow50_onnx_fp32",), rows=rows,
    )  # fmt: skip


ROWS = (
    CandidateRow(
        variant="onnx_fp32", base="onnx_fp32", measured=figures(2_000_000, 2.0, 0.0), verdict="dropped",
        reason="takes 2.00 MB, 0.50 MB are allowed", on_front=True,
    ),
    CandidateRow(
        variant="narrow50_onnx_fp32", base="onnx_fp32", compression="narrow50", does="50.0% fewer channels",
        measured=figures(500_000, 0.7, 0.004), verdict="kept", on_front=True, published=True,
    ),
    CandidateRow(
        variant="narrow25_onnx_fp32", base="onnx_fp32", compression="narrow25", does="25.0% fewer channels",
        estimated=Figures(size_bytes=1_200_000, time_ms=1.5), verdict="dropped", reason="takes <1.20 MB>",
    ),
)  # fmt: skip


def test_the_page_draws_what_was_measured_and_lists_every_candidate() -> None:
    page = render(report(*ROWS))
    assert "coats: at most 0.5 MB, at most 1 ms, a loss of at most 1pt of top1" in page
    picture = page[page.index("<h3>The Pareto front") : page.index("<h3>File size")]
    assert picture.count('class="dot') == 2
    assert picture.count('class="limit"') == 2  # the accuracy's and the time's
    assert len(re.search(r'class="front" points="([^"]*)"', picture)[1].split()) == 2  # type: ignore[index]
    assert "no other beats onnx_fp32, narrow50_onnx_fp32" in picture
    assert "<td>(1.500)</td><td>(1.20)</td>" in page  # of the structure only
    assert "<td>kept, published</td><td>92.60%</td><td>+0.40 (+0.20 to +0.60)</td><td>0.700</td>" in page
    assert "takes &lt;1.20 MB&gt;" in page
    assert "1 of 2 &amp; more." in page


def test_a_page_of_nothing_has_no_pictures() -> None:
    page = render(report(ROWS[2]))
    assert "<svg" not in page
    assert "narrow25_onnx_fp32" in page


@pytest.mark.parametrize(
    ("text", "count"), [("0.5MB", 500_000), ("300kB", 300_000), ("1 MiB", 1_048_576), ("4096B", 4096), (".5GB", 5e8)]
)
def test_sizes(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(("text", "seconds"), [("1ms", 1e-3), ("500us", 5e-4), ("30min", 1800), ("2h", 7200)])
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "MB", "-1MB", "1mb", "1 000B", "1e3B", "0B", "0.5B", "1ms"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no size"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["1", "1 day", "0s", "-1s", "inf s", "nan s"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no time"):
        parse_seconds(text)


def test_losses_are_written_as_in_a_spec() -> None:
    assert [parse_loss(text) for text in ("1pt", "0.5pt", "2%")] == ["1pt", "0.5pt", "2%"]
    for text in ("1", "-1pt", "1 pt", "pt"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no loss"):
            parse_loss(text)
