"""One sentence out of what a runtime says when it fails."""

from __future__ import annotations

from typing import Final

WRAPPED: Final = ("Exception from", "The following operation failed")  # OpenVINO's and TorchScript's: cause at the end
LONGEST: Final = 400


def cause(error: Exception) -> str:
    """What a runtime's error says about the cause, as one line without the way that it took through the runtime."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    text = lines[-1] if lines[0].startswith(WRAPPED) else " ".join(lines)
    return text.removeprefix("RuntimeError: ")[:LONGEST]
