"""When a variant has been warmed up: it is loaded in short parts until it no longer gets faster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

PARTS: Final = 12  # at most; one that still gets faster then is measured, and marked
FASTER: Final = 0.95  # a part is faster if its median is below so much of the best before it
AS_BEFORE: Final = 1.1  # at once warm if as fast as in an earlier pass, or nearly


def is_warm(medians_ms: Sequence[float], known_ms: float | None) -> bool:
    """Whether the last part was no faster than those before it, or about as fast as the same load in an earlier pass
    (`known_ms`). A part without a good answer has an infinite median, and tells nothing."""
    if not medians_ms:
        return False
    *before, last = medians_ms
    if known_ms is not None and last <= AS_BEFORE * known_ms:
        return True
    return bool(before) and last >= FASTER * min(before)
