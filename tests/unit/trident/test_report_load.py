"""The report's pictures of the load test, from figures whose meaning is known."""

from __future__ import annotations

import re
from html import unescape

import pytest

from core.load_results import Capacity, LoadReport
from core.scenario import CapacitySearch, Scenario
from loadtest.scenarios import SCENARIOS
from tests.support.report_data import report_data
from trident.charts import Figure
from trident.charts_load import log_ticks, ratio_ticks, tail
from trident.report import render
from trident.report_load import load_figures
from trident.summary import summarize, summary_table


def figures(load: LoadReport, price: float | None = None) -> dict[str, Figure]:
    """The pictures of a load test, by title."""
    build, _, _ = report_data()
    summary = summarize(build, load, "now", price=price)
    index = {row.variant: place for place, row in enumerate(summary.rows, 1)}
    return {figure.title: figure for figure in load_figures(load, summary, index)}


def opened(load: LoadReport, hidden: float) -> LoadReport:
    """The same windows as those of an open loop whose p99 from the sending is less by this share."""
    windows = tuple(
        w.model_copy(
            update={"offered_rps": 100.0, "users": 64, "uncorrected_p99_ms": (w.p99_ms or 0) * (1 - hidden)},
        )
        for w in load.windows
        if w.users == 4
    )
    return load.model_copy(update={"windows": windows, "scenario": SCENARIOS["poisson"], "contrasts": ()})


def searched(load: LoadReport) -> LoadReport:
    """A search for the rate that holds 20 ms: `onnx_int8_dynamic` holds none, `openvino_int8` all that were tried."""
    base = opened(load, 0.0)
    windows = tuple(w.model_copy(update={"offered_rps": w.throughput_rps}) for w in base.windows)
    rows = tuple(
        Capacity(
            variant=w.variant, protocol=w.protocol, target_p99_ms=20,
            rate_rps=None if w.variant == "onnx_int8_dynamic" else w.throughput_rps,
            exceeded_rps=None if w.variant == "openvino_int8" else w.throughput_rps + 100,
        )
        for w in windows
    )  # fmt: skip
    scenario = Scenario(name="capacity", load=CapacitySearch(p99_ms=20), passes=1)
    return base.model_copy(update={"windows": windows, "capacity": rows, "scenario": scenario})


def test_a_spread_has_its_points_where_the_latencies_are() -> None:
    figure = figures(report_data()[1])["How latencies are spread"]
    facts = re.findall(r'aria-label="(openvino_int8: [^"]+)"', figure.chart)
    # p50 is 1.55 ms; the made-up quantiles grow as 0.6 + 0.4 (share / 0.5)^1.8.
    assert facts == ["openvino_int8: 50% within 1.55 ms", "openvino_int8: 99% within 3.05 ms"]
    dots = [tuple(map(float, found)) for found in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', figure.chart)]
    assert all(p99[0] > p50[0] and p99[1] < p50[1] for p50, p99 in zip(dots[::2], dots[1::2], strict=True))
    assert "its p99 is 2.0 times its p50" in figure.words


def test_rare_latencies_have_the_room() -> None:
    places = [tail(share) for share in (0.0, 0.9, 0.99, 0.999)]
    assert places == pytest.approx([0, 1, 2, 3])


def test_the_pictures_of_verdicts_say_who_is_faster_and_what_is_not_known() -> None:
    _, load, _ = report_data()
    found = figures(load)
    figure = found["Beside torch_fp32: throughput"]
    assert "better is to the right. Faster: onnx_fp32, onnx_int8_static," in figure.words
    assert figure.words.endswith("Slower: onnx_int8_dynamic.")
    assert "openvino_int8: 2.831x, 95% 2.690 to 2.973: faster" in figure.chart
    assert "better is to the left" in found["Beside torch_fp32: p99"].words
    few = tuple(row.model_copy(update={"verdict": "none", "reason": "2 passes are too few"}) for row in load.contrasts)
    figure = figures(load.model_copy(update={"contrasts": few}))["Beside torch_fp32: p50"]
    assert figure.words.endswith("No verdict for all: 2 passes are too few.")
    assert figure.chart.count('<g class="off">') == 7  # drawn, and paler
    single = tuple(row.model_copy(update={"ci95": None}) for row in few)
    assert not [title for title in figures(load.model_copy(update={"contrasts": single})) if "Beside" in title]


def test_both_tails_are_shown_of_an_open_loop_only() -> None:
    _, load, _ = report_data()
    title = "p99 from when a request was due, and from when it was sent"
    assert title not in figures(load)
    figure = figures(opened(load, 0.5))[title]
    assert "Most of it has torch_fp32: 2.0 times." in figure.words
    assert "7.48 ms, not 3.74" in figure.chart
    assert "from the sending 3.74 ms, hidden by that 3.74 ms" in figure.chart
    assert "Here that is little" in figures(opened(load, 0.0))[title].words


def test_capacity_shows_what_holds_what_does_not_and_who_holds_nothing() -> None:
    build, load, _ = report_data()
    figure = figures(searched(load))["Capacity: p99 within 20 ms"]
    assert "Most stands openvino_int8: 2,907 requests/s." in figure.words
    assert "2,907 or more" in figure.chart
    assert "none (not 869)" in figure.chart
    assert "1,027 (not 1,127)" in figure.chart
    html = unescape(render(build, searched(load), summarize(build, searched(load), "now")))
    assert "onnx_int8_dynamic over HTTP: no rate holds p99 within 20 ms; even 869.2 requests/s do not" in html
    nothing = tuple(row.model_copy(update={"rate_rps": None}) for row in searched(load).capacity)
    figure = figures(searched(load).model_copy(update={"capacity": nothing}))["Capacity: p99 within 20 ms"]
    assert figure.words == "No variant holds p99 within 20 ms at any rate that was tried."


def test_batches_are_shares_of_the_executions() -> None:
    figure = figures(report_data()[1])["Batches that were executed"]
    # 300 of one, 100 of two, 96 of six at 4 users.
    assert "openvino_int8: 1 60.5 %, 2 20.2 %, 5 to 8 19.4 %" in figure.chart
    assert figure.swatches == (("b0", "1"), ("b1", "2"), ("b3", "5 to 8"))  # sizes that nobody executed are left out
    assert "mean 2.2" in figure.chart


def test_the_cost_is_that_of_a_machine_kept_busy() -> None:
    _, load, _ = report_data()
    assert "Cost of a million inferences" not in figures(load)
    figure = figures(load, price=0.36)["Cost of a million inferences"]
    # 0.36 an hour is 0.0001 a second, in which openvino_int8 makes 3420 inferences.
    assert "Cheapest is openvino_int8: 0.0292." in figure.words
    assert "A machine at 0.36 an hour" in figure.words
    held = figures(searched(load), price=0.36)["Cost of a million inferences"]
    assert "the rate that holds the target" in held.words
    assert "Cheapest is openvino_int8: 0.0344." in held.words  # at 2,907 a second


def test_the_table_on_the_terminal_has_capacity_and_cost_where_there_are_some() -> None:
    build, load, plain = report_data()
    assert [column.header for column in summary_table(plain).columns][12:] == ["Cost of a million"]
    assert len(summary_table(summarize(build, load, "now")).columns) == 12
    table = summary_table(summarize(build, searched(load), "now", price=0.36))
    assert [column.header for column in table.columns][12:] == ["Capacity", "Cost of a million"]
    assert [list(column.cells)[6] for column in table.columns][12:] == ["2907", "0.0344"]
    assert [list(column.cells)[2] for column in table.columns][12:] == ["-", "-"]


def test_an_open_loop_has_no_cost_and_says_why() -> None:
    build, load, _ = report_data()
    summary = summarize(build, opened(load, 0.0), "now", price=0.36)
    assert {row.cost_per_million for row in summary.rows} == {None}
    html = render(build, opened(load, 0.0), summary)
    assert "no cost is given: an open loop" in unescape(html)
    assert '<th scope="col">Cost of a million</th>' not in html


def test_the_servers_side_is_a_table() -> None:
    build, load, _ = report_data()
    windows = tuple(
        w.model_copy(update={"failures": 12, "reasons": {"rejected": 10, "timeout": 2}})
        if (w.variant, w.users, w.protocol) == ("onnx_fp32", 4, "http")
        else w
        for w in load.windows
    )
    load = load.model_copy(update={"windows": windows})
    html = render(build, load, summarize(build, load, "now"))
    table = html.partition("What the server did</h3>")[2].partition("</table>")[0]
    names = re.findall(r'<th scope="col">(.*?)</th>', table)
    cells = re.findall("<td>(.*?)</td>", table.partition("2 onnx_fp32</th>")[2].partition("</tr>")[0])
    assert dict(zip(names[1:], cells, strict=True)) == {
        "Queue (ms)": "0.42", "Compute (ms)": "0.85", "Mean batch": "2.2", "CPU (cores)": "0.50",
        "Memory (MB)": "102.30", "Rejected": "10", "Failed otherwise": "timeout: 2",
    }  # fmt: skip
    assert "the server itself held 70 MB" in table
    assert "onnx_fp32: 12 requests failed (rejected: 10, timeout: 2)" in html


def test_ticks_of_logarithms_and_ratios() -> None:
    assert log_ticks(0.9, 12) == [1, 2, 5, 10]
    assert log_ticks(0.5, 2000) == [1, 10, 100, 1000]
    assert 1.0 in ratio_ticks(0.95, 1.05)
    assert len(ratio_ticks(0.04, 40)) <= 9


def test_verdicts_stand_in_the_order_of_the_variants() -> None:
    _, load, _ = report_data()
    mixed = load.model_copy(update={"contrasts": load.contrasts[::-1]})
    figure = figures(mixed)["Beside torch_fp32: p99"]
    assert re.findall(r">(\d)  \w+: \w+<", figure.chart) == ["2", "3", "4", "5", "6", "7", "8"]


def test_an_open_loop_is_judged_by_its_tail_and_not_by_the_rate_that_was_asked_for() -> None:
    build, load, _ = report_data()
    asked = opened(load, 0.0)
    same = asked.model_copy(
        update={"windows": tuple(w.model_copy(update={"throughput_rps": 100.0}) for w in asked.windows)}
    )
    summary = summarize(build, same, "now")
    assert {row.throughput_gain for row in summary.rows} == {None}
    html = unescape(render(build, same, summary))
    assert (
        "Serve openvino_int8: p99 3.10 ms over HTTP at 100 requests/s (poisson), instead of torch_fp32's 7.48 ms, "
        "0.38 instead of 1.19 MB." in html
    )
    assert "Throughput against latency" not in html
    first = summary.model_copy(update={"baseline_variant": "openvino_int8"})
    assert "Serve openvino_int8, the baseline itself: at p99 3.10 ms" in render(build, same, first)
