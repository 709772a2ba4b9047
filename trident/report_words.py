"""The report's sentences, computed from the figures."""

from __future__ import annotations

import math

from core.comparison import Summary, SummaryRow
from core.results import ModelBuild
from loadtest.events import PROTOCOL_NAMES
from loadtest.verdicts import CEILING_SHARE
from trident.charts_figures import Bar
from trident.summary import limited_row, load_words

ONNX_INT8 = (
    "Weights are rounded to 128 steps a channel, activations to 256 a tensor between the least and the greatest value "
    "that calibration saw; what exceeds them is clipped."
)
# A part of the variant's id -> why its answers differ from the original's. All that occur are said, but for the general
# ones behind a more particular one: `pruned` goes before, `fp32` says something only where nothing else does.
CAUSES = (
    ("pruned", "Weights were removed without fine-tuning afterwards, so the network misses what they contributed."),
    (
        "int8_dynamic",
        "Weights and activations are rounded to 256 steps a tensor; the range of activations is taken from each batch, "
        "so a sample's neighbours change its answer slightly.",
    ),
    (
        "int8_qat",
        "Weights are rounded to 127 steps a channel, activations to 256 a tensor, in ranges learned while the "
        "network was fine-tuned under that rounding; what training did not make good remains.",
    ),
    ("onnx_int8_static", ONNX_INT8),
    ("onnx_int8_mixed", ONNX_INT8),
    (
        "onnx_int8_entropy",
        "Weights are rounded to 128 steps a channel, activations to 256 a tensor in the range whose distribution "
        "differs least from the real one; what exceeds it is clipped.",
    ),
    (
        "onnx_int8_percentile",
        "Weights are rounded to 128 steps a channel, activations to 256 a tensor in the range of all but the rarest "
        "values; those are clipped.",
    ),
    (
        "onnx_int8_smooth",
        "In matrix products, weights are rounded to 128 steps a channel and activations to 256 a tensor, after "
        "outliers were moved from the latter into the former; all else is FP32.",
    ),
    (
        "openvino_int8_smooth",
        "Weights are rounded to 128 steps a channel, activations to 256 a tensor, after outliers were moved from the "
        "latter into the former; parts of the attention are left in floating point.",
    ),
    ("onnx_int8_weights", "Weights are rounded to 255 steps a channel; activations are not quantized."),
    ("openvino_int8_weights", "Weights are rounded to 255 steps a channel; activations are not quantized."),
    (
        "int4_weights",
        "Weights of matrix products are rounded to 16 steps in blocks of 32, others to 255 a channel; activations are "
        "not quantized.",
    ),
    (
        "onnx_fp16",
        "Weights and all that is computed are rounded to 11 bits of mantissa, but for the nodes that FP16 cannot hold.",
    ),
    (
        "openvino_int8",
        "Weights are rounded to 128 steps a channel, activations to 256 a tensor in ranges that NNCF estimates from "
        "calibration; what exceeds them is clipped.",
    ),
    ("_mixed", "The layers that INT8 hurts most are left in floating point."),
    ("_controlled", "NNCF took layers out of INT8 until the metric was kept on calibration samples."),
    ("fp16", "Weights are stored with 11 bits of mantissa; the arithmetic is that of FP32."),
    ("fp32", "Only the order of additions differs: the last bits of a float32."),
)


# A step of a compression -> why the network that it leaves answers otherwise.
COMPRESSED = {
    "prune_channels": "Channels were removed; what training did not make good of what they contributed is missing.",
    "prune_weights": "Weights were set to zero; what training did not make good of what they contributed is missing.",
    "lottery_ticket": "Most weights were set to zero and the others trained again, from early values: another network.",
    "low_rank": "Layers were cut down to their strongest combinations of channels; what training did not make good of "
    "the others is missing.",
    "cluster_weights": "Each kernel's weights were moved to the nearest of a few values that they share.",
    "finetune": "The network was trained further, and decides otherwise where it learned to.",
}


def why(variant: str, history: tuple[str, ...] = ()) -> str:
    """Where the error of this kind of variant comes from, each cause in a sentence or two."""
    if variant.startswith("imported_"):
        return "Another tool made this file as it is: what was rounded, and where, is for its maker to say."
    found, left = [], variant
    if not variant.startswith("pruned_"):
        found += [words for step, words in COMPRESSED.items() if step in history]
    for part, words in CAUSES:
        if part in left:
            found.append(words)
            left = left.replace(part, "")  # `int8_qat` leaves nothing of `openvino_int8_qat` to `openvino_int8`
    if len(found) > 1 and "fp32" in variant:
        found.pop()
    return " ".join(found) or "The runtime computes in another order or precision."


def answer(build: ModelBuild, summary: Summary) -> list[str]:
    """Which variant to serve and why; then the smallest and the quickest if they are others."""
    passed = {row.variant for row in build.rows if row.verdict and row.verdict.passed}
    rows = [row for row in summary.rows if row.status == "published" and row.variant in passed]
    loaded = [row for row in rows if row.throughput_rps]
    if not loaded:
        return ["No variant that passed its gate was measured under load, so there is nothing to recommend."]
    if not (loaded := [row for row in loaded if not row.failures]):
        return ["Every variant failed some of its requests, so none can be recommended; see below for how many."]
    if limited := [row.variant for row in loaded if limited_row(row)]:
        return [_undecidable(limited, summary)]
    best = min(loaded, key=lambda row: _merit(row, summary))
    base = next((row for row in summary.rows if row.variant == summary.baseline_variant), None)
    found = [_best(best, base, summary), _cost(best, build)]
    small = min((row for row in rows if row.size_bytes), key=lambda row: row.size_bytes or 0, default=best)
    if small.size_bytes and small.size_bytes != best.size_bytes:
        found.append(f"The smallest is {small.variant} ({small.size_bytes / 1e6:.2f} MB).")
    quick = min((row for row in loaded if row.p50_ms), key=lambda row: row.p50_ms or 0, default=best)
    if quick.p50_ms and quick.variant != best.variant:
        found.append(f"The lowest latency is {quick.variant}'s: p50 {quick.p50_ms:.2f} ms.")
    return [sentence for sentence in found if sentence]


def _undecidable(limited: list[str], summary: Summary) -> str:
    """Why no variant can be recommended: what the load generator could not send, no variant could show."""
    share = max(row.generator_share or 0.0 for row in summary.rows)
    ceiling = next((row.rps for row in summary.ceilings if row.protocol == summary.protocol), 0.0)
    return (
        f"No variant can be called the best: the load generator was at {share:.0%} of the {ceiling:,.0f} requests/s "
        f"that it can send, above {CEILING_SHARE:.0%}, and so a part of what was measured, for {', '.join(limited)}. "
        "Take a generator that costs less (--protocols raw), more of them (--processes 2), or fewer --users."
    )


def time_goes(stacks: list[Bar]) -> str:
    """Which share of a request the model itself takes, over the variants; and where that is little, what follows."""
    shares = [dict(bar.parts)["compute"] / total for bar in stacks if (total := sum(value for _, value in bar.parts))]
    if not shares:
        return ""
    low, high = (f"{round(100 * share)}%" for share in (min(shares), max(shares)))
    found = f"Compute takes {low} of it." if low == high else f"Compute takes {low} to {high} of it."
    if max(shares) < 0.5:
        found += " Most of a request is not the model: a still faster variant would gain little here."
    return found


def mean_batch(batches: dict[int, int]) -> float | None:
    """The mean size of the batches that were executed; none without any."""
    executions = sum(batches.values())
    return sum(size * count for size, count in batches.items()) / executions if executions else None


def failed_words(reasons: dict[str, int]) -> str:
    """How many requests failed, by kind, those apart that were rejected."""
    others = [f"{kind}: {count:,}" for kind, count in reasons.items() if kind != "rejected"]
    return ", ".join(others) or "0"


def beside_http(summary: Summary) -> str:
    """How gRPC's throughput compares with HTTP's, the variants' best levels side by side; empty without both."""
    ratios = [
        row.grpc_throughput_rps / row.throughput_rps
        for row in summary.rows
        if row.grpc_throughput_rps and row.throughput_rps
    ]
    if not ratios:
        return ""
    low, high = min(ratios), max(ratios)
    return f" Over the variants that is {low:.2f} to {high:.2f} times what HTTP serves."


def _merit(row: SummaryRow, summary: Summary) -> float:
    """What the least of is best: an open loop's throughput is what was asked for, so there it is the p99."""
    if summary.scenario.load.kind == "open":
        return row.p99_ms if row.p99_ms is not None else math.inf
    return -(row.throughput_rps or 0.0)


def _best(best: SummaryRow, base: SummaryRow | None, summary: Summary) -> str:
    kind, where = summary.scenario.load.kind, f"over {PROTOCOL_NAMES[summary.protocol]}"
    rate = f"{best.throughput_rps or 0:,.0f} samples/s {where}"
    if kind == "open":
        rate = f"p99 {best.p99_ms or 0:.2f} ms {where} at {load_words(summary)}"
    if best.variant == summary.baseline_variant:
        more = "has less" if kind == "open" else "serves more"
        return f"Serve {best.variant}, the baseline itself: at {rate} nothing that passed its gate {more}."
    gains = (
        [f"{best.throughput_gain:.2f} times {summary.baseline_variant}'s throughput"] if best.throughput_gain else []
    )
    if kind == "open" and base and base.p99_ms:
        gains.append(f"instead of {summary.baseline_variant}'s {base.p99_ms:.2f} ms")
    elif base and base.p50_ms and best.p50_ms:
        gains.append(f"p50 {best.p50_ms:.2f} instead of {base.p50_ms:.2f} ms at {load_words(summary)}")
    if base and base.size_bytes and best.size_bytes:
        gains.append(f"{best.size_bytes / 1e6:.2f} instead of {base.size_bytes / 1e6:.2f} MB")
    return f"Serve {best.variant}: {rate}" + (f", {', '.join(gains)}." if gains else ".")


def _cost(best: SummaryRow, build: ModelBuild) -> str:
    verdict = next((row.verdict for row in build.rows if row.variant == best.variant), None)
    if verdict is None:
        return "Its accuracy was not compared with the original's."
    low, high = (value * 100 for value in verdict.drop_ci95)
    change = f"{abs(verdict.drop) * 100:.2f} points of {build.original.name}"
    word = "It costs" if verdict.drop > 0 else "It gains" if verdict.drop < 0 else "It changes accuracy by"
    doubt = any(gate.undecided for gate in verdict.gates)
    noise = "; no difference that these samples can tell from none" if low <= 0 <= high else ""
    end = noise + "; the interval straddles the gate's limit, so this is undecided." if doubt else f"{noise}."
    return f"{word} {change} (95% interval of the loss: {low:+.2f} to {high:+.2f}){end}"
