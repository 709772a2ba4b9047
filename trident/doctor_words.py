"""What the doctor's ranking says, in a sentence; shared by build, report and `trident doctor`."""

from __future__ import annotations

from core.results import LayerNoise


def diagnosis(layers: tuple[LayerNoise, ...]) -> str:
    """How many layers (worst first) stay in floating point, and which one INT8 hurts most; empty without layers."""
    if not layers:
        return ""
    kept, worst = sum(layer.kept_float for layer in layers), layers[0]
    stay = {0: "none has to stay", 1: "1 stays"}.get(kept, f"{kept} stay")
    return (
        f"Of {len(layers)} layers that INT8 applies to, {stay} in float. It hurts most in {worst.layer} "
        f"({worst.operator}): {worst.sqnr_db:.1f} dB if only that layer is in INT8."
    )


def relative_error(layer: LayerNoise) -> float:
    """The error of the network's output with only this layer in INT8, in percent of the output's size (root of the
    mean square); 100 at most, where nothing of it is left."""
    return min(100.0, float(100 * 10 ** (-layer.sqnr_db / 20)))
