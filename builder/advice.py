"""What to expect of INT8 on a CPU, said before anything is built, and what to try when it lost too much."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

VNNI = {"avx512_vnni", "avx_vnni"}
# Variant -> those that quantize more gently in the same runtime, each with what it does.
GENTLER: Final = {
    "onnx_int8_static": {
        "onnx_int8_mixed": "keeps the worst layers in float", "onnx_int8_smooth": "is for transformers"
    },
    "onnx_int8_dynamic": {"onnx_int8_weights": "computes in float"},
    "openvino_int8": {
        "openvino_int8_mixed": "keeps the worst layers in float", "openvino_int8_smooth": "is for transformers"
    },
}  # fmt: skip


def int8_advice(isa_flags: Iterable[str]) -> tuple[str, ...]:
    """Sentences for a CPU with these flags (names as the kernel reports them, see `core.machine.ISA_FLAGS`)."""
    flags = set(isa_flags)
    if "amx_int8" in flags:
        speed = "this CPU multiplies INT8 tiles (AMX): large convolutions and matrix products gain most from INT8"
    elif flags & VNNI:
        speed = (
            "this CPU has VNNI instructions: four INT8 multiply-adds in the time of one in FP32, so expect INT8 to pay "
            "wherever convolutions or matrix products take most of the time"
        )
    elif "avx2" in flags:
        speed = (
            "this CPU has no VNNI instructions: INT8 arithmetic is at most about 1.3 times as fast as FP32, so most of "
            "the gain comes from smaller weights, and small models may gain nothing"
        )
    else:
        speed = "this CPU has neither AVX2 nor VNNI instructions: INT8 will be smaller than FP32, and hardly faster"
    safety = (
        "INT8 weights keep one bit of headroom, so that no sum of products saturates on a CPU without VNNI: what is "
        "built here is right there too"
    )
    elsewhere = "speed on another CPU can differ in either direction: measure where you serve"
    return speed, safety, elsewhere


def gentler(variant: str, asked: Collection[str]) -> str:
    """What else to try for a variant that lost too much, as the end of a sentence: empty if all are `asked` for. After
    a compression, the same compression before something gentler."""
    base = next((name for name in GENTLER if variant == name or variant.endswith(f"_{name}")), "")
    before = variant.removesuffix(base)
    found = [f"{before}{name} {what}" for name, what in GENTLER.get(base, {}).items() if before + name not in asked]
    return f"; try `variants`: {', '.join(found)}" if found else ""
