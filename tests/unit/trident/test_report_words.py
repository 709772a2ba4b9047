"""What the report says, from figures that are all different, against sentences and cells worked out by hand."""

from __future__ import annotations

import re
from html import unescape

import pytest

from core.comparison import Summary
from core.load_results import Ceiling, LoadReport
from core.machine import now
from core.results import Gate, ModelBuild
from tests.support.report_data import report_data
from trident.report import CELLS, render
from trident.report_words import CAUSES, answer, why
from trident.summary import summarize

STRADDLES = "; the interval straddles the gate's limit, so this is undecided."
TOLD_FROM_NONE = "; no difference that these samples can tell from none."
BEST = 6  # openvino_int8's place among the rows


def _cells(html: str) -> dict[str, tuple[str, list[str]]]:
    """Variant -> the row's class, and its cells."""
    table = html.partition("What the server did")[0]
    rows = re.findall(r"""<tr( class="off")?><th scope="row">\d (\S+?)(?: \(dominated\))?</th>(.*?)</tr>""", table)
    return {name: (kind, re.findall("<td>(.*?)</td>", cells)) for kind, name, cells in rows}


def _judged(drop: float, interval: tuple[float, float], undecided: bool = False) -> list[str]:
    """The answer, if the best variant's verdict were this."""
    build, _, summary = report_data()
    row = build.rows[BEST]
    assert row.verdict is not None
    gate = Gate(name="max_drop", limit=0.01, value=drop, ci95=interval, undecided=undecided, passed=True)
    verdict = row.verdict.model_copy(update={"drop": drop, "drop_ci95": interval, "gates": (gate,)})
    rows = [*build.rows]
    rows[BEST] = row.model_copy(update={"verdict": verdict})
    return answer(build.model_copy(update={"rows": tuple(rows)}), summary)


def test_the_table_holds_each_figure_under_its_name() -> None:
    cells = dict(zip([name for name, _ in CELLS], _cells(render(*report_data()))["openvino_int8"][1], strict=True))
    assert cells == {
        "Status": "published", "Accuracy": "93.60%", "Served accuracy": "93.55%", "Time (ms)": "0.179",
        "p50 (ms)": "1.55", "p95 (ms)": "2.33", "p99 (ms)": "3.10", "Throughput (1/s)": "3,420 (2.83x, 16 users)",
        "gRPC (1/s)": "5,130", "Cost of a million": "0.0292",
        "Size (MB)": "0.38", "Memory (MB)": "93.80", "Speed-up": "14.00 (13.30 to 14.70)",
        "Compression": "3.13", "Retention": "100.05%", "Weights": "0.295 M", "Sparsity": "0.00%", "FLOPs": "62 M",
        "SQNR (dB)": "33.0",
    }  # fmt: skip


def test_what_shared_weights_would_take_is_shown_and_explained_only_where_there_are_some() -> None:
    build, load, summary = report_data()
    rows = [row.model_copy(update={"shared_bytes": 60_000}) for row in summary.rows[:1]]
    html = render(build, load, summary.model_copy(update={"rows": (*rows, *summary.rows[1:])}))
    sizes = [name for name, _ in CELLS].index("Size (MB)")
    assert _cells(html)[summary.rows[0].variant][1][sizes].endswith(" (0.06 shared)")
    assert "Shared: what a network whose weights share values would take" in html
    assert "Shared: what a network" not in render(build, load, summary)


def test_only_what_is_not_published_is_greyed_and_it_has_its_reason() -> None:
    html = render(*report_data())
    rows = _cells(html)
    assert len(rows) == 9
    assert [name for name, (kind, _) in rows.items() if kind] == ["pruned_openvino_int8"]
    assert "pruned_openvino_int8 is rejected: max_drop: lost 2.50 points, at most 1.00 allowed" in html
    assert html.count('<g class="off">') == 1  # its bar among the file sizes; it was not loaded


def test_the_answer_compares_with_the_baseline() -> None:
    build, _, summary = report_data()
    assert answer(build, summary) == [
        "Serve openvino_int8: 3,420 samples/s over HTTP, 2.83 times torch_fp32's throughput, p50 1.55 instead of "
        "3.74 ms at 4 users, 0.38 instead of 1.19 MB.",
        "It gains 0.05 points of top1 (95% interval of the loss: -0.45 to +0.35); no difference that these samples can "
        "tell from none.",
        "The smallest is onnx_int8_dynamic (0.35 MB).",
    ]


@pytest.mark.parametrize(
    ("drop", "interval", "undecided", "says", "adds"),
    [
        (0.007, (0.003, 0.011), True, "It costs 0.70", "+0.30 to +1.10)" + STRADDLES),
        (0.007, (0.005, 0.009), False, "It costs 0.70", "+0.50 to +0.90)."),
        (-0.02, (-0.03, -0.01), False, "It gains 2.00", "-3.00 to -1.00)."),
        (0.0, (-0.001, 0.001), False, "It changes accuracy by 0.00", "-0.10 to +0.10)" + TOLD_FROM_NONE),
    ],
)  # fmt: skip
def test_what_it_costs(drop: float, interval: tuple[float, float], undecided: bool, says: str, adds: str) -> None:
    assert _judged(drop, interval, undecided)[1] == f"{says} points of top1 (95% interval of the loss: {adds}"


def test_failed_requests_and_limits_stand_on_the_page_and_forbid_a_recommendation() -> None:
    build, load, _ = report_data()
    windows = tuple(
        window.model_copy(
            update={
                "failures": 3 if window.variant == "openvino_int8" else 0,
                "generator_cores": 0.99 if window.variant == "torch_fp32" else 0.5,
            }
        )
        for window in load.windows
    )
    load = load.model_copy(update={"windows": windows})
    html = unescape(render(build, load, summarize(build, load, "now")))
    assert "openvino_int8: 18 requests failed" in html
    assert "over HTTP, the load generator was at its limit, so throughput is a lower bound for torch_fp32" in html
    assert "Serve onnx_int8_static" in html
    every = load.model_copy(update={"windows": tuple(w.model_copy(update={"failures": 1}) for w in windows)})
    assert answer(build, summarize(build, every, "now")) == [
        "Every variant failed some of its requests, so none can be recommended; see below for how many."
    ]


def _variants(build: ModelBuild, load: LoadReport, summary: Summary, **changes: object) -> str:
    return unescape(render(build.model_copy(update=changes), load, summary))


def test_sentences_follow_where_it_ran_and_what_it_was() -> None:
    build, load, summary = report_data()
    html = _variants(build, load, summary)
    assert "speed-up over eager PyTorch, in process" in html
    assert "Server and load generator shared its cores." in html
    assert "296,000 parameters" in html
    far = summarize(build.model_copy(update={"original_runtime": "ONNX Runtime"}), load, "now", own_server=False)
    html = _variants(build, load, far, original_parameters=None)
    assert "speed-up over ONNX Runtime, in process" in html
    assert "That is where the load came from; the server was 127.0.0.1:8000." in html
    assert "shared its cores" not in html
    assert "parameters" not in html


def test_a_test_over_grpc_alone_is_a_test() -> None:
    build, load, _ = report_data()
    load = load.model_copy(update={"windows": tuple(w for w in load.windows if w.protocol == "grpc")})
    html = unescape(render(build, load, summarize(build, load, "now")))
    assert "Serve openvino_int8: 5,130 samples/s over gRPC" in html
    assert "Mean latency over gRPC at 4 users" in html
    assert "Throughput against latency, HTTP" not in html


def test_what_a_runtime_does_not_tell_is_not_called_none() -> None:
    build, load, summary = report_data()
    first = build.rows[0]
    assert first.graph is not None
    quiet = first.model_copy(update={"graph": first.graph.model_copy(update={"executed": {}})})
    html = _variants(build, load, summary, rows=(quiet, *build.rows[1:]))
    assert "torch_fp32: 17 stored, its runtime does not tell which are executed" in html
    assert "onnx_fp32: 17 stored, 9 executed" in html


def test_time_is_split_as_measured() -> None:
    html = render(*report_data())
    assert "torch_fp32: queue 0.748 ms, compute 1.5 ms, rest 1.87 ms" in html


def test_the_front_ignores_what_the_samples_cannot_tell_apart() -> None:
    """openvino_int8 is quickest, and no other is better than it by more than the paired interval."""
    html = render(*report_data())
    chart = html[html.index("<svg") : html.index("</svg>")]
    assert len(re.findall("on-front", chart)) == 1
    gate = re.search(r'y1="([0-9.]+)" x2="[0-9.]+" y2="[0-9.]+" class="limit"', chart)
    dots = [float(y) for y in re.findall(r'<circle cx="[0-9.]+" cy="([0-9.]+)"', chart)]
    assert gate is not None
    assert max(dots) < float(gate[1])  # all that was served lies above the limit: smaller y is higher up


@pytest.mark.parametrize("part", [part for part, _ in CAUSES])
def test_a_variant_has_its_own_cause_and_not_that_of_a_more_general_one(part: str) -> None:
    assert why(part if "_" in part else f"onnx_{part}") == dict(CAUSES)["onnx_fp16" if part == "fp16" else part]


def test_a_pruned_variant_has_both_causes() -> None:
    causes = dict(CAUSES)
    assert why("pruned_openvino_int8") == f"{causes['pruned']} {causes['openvino_int8']}"
    assert why("pruned_onnx_fp32") == causes["pruned"]
    assert why("openvino_fp16") == causes["fp16"]


def test_trained_variants_are_not_explained_by_calibration() -> None:
    assert why("onnx_int8_qat") == why("openvino_int8_qat")
    assert "fine-tuned under that rounding" in why("openvino_int8_qat")
    assert "NNCF" not in why("openvino_int8_qat")
    assert "NNCF" in why("pruned_openvino_int8")
    assert "without fine-tuning" in why("pruned_openvino_int8")


def test_where_the_generator_was_the_limit_nothing_is_recommended() -> None:
    build, load, _ = report_data()
    ceiling = Ceiling(
        protocol="http", rps=4000, request_bytes=3000, answer_bytes=40, measured_at=now(), conditions="here"
    )  # fmt: skip
    windows = tuple(
        w.model_copy(update={"generator_share": w.throughput_rps / 4000}) if w.protocol == "http" else w
        for w in load.windows
    )
    near = load.model_copy(update={"windows": windows, "ceilings": (ceiling,)})
    html = unescape(render(build, near, summarize(build, near, "now")))
    assert (
        "No variant can be called the best: the load generator was at 86% of the 4,000 requests/s that it can send, "
        "above 70%, and so a part of what was measured, for onnx_int8_static, openvino_int8." in html
    )
    assert "Serve openvino_int8" not in html
    assert "≥ 3,420 (16 users)" in html
    assert "can send 4,000 requests/s over HTTP (3 kB each; measured just now); 86% of it was used at most." in html
