"""Which release of Triton carries what, and what the runtimes in it can read.

Releases: ONNX Runtime from the server's docs/introduction/compatibility.md, OpenVINO from the
`standalone_openvino_version` of build.py at each release's tag, both as of August 2026. Limits: found by running each
runtime's wheel. TensorRT: of the image `trtllm-python-py3`, which is the only one that the same document has it for.
For ONNX Runtime a one-node model was loaded with every IR version and opset up to the first refusal;
for OpenVINO it is the newest operator set in the package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import Final

from core.errors import UsageError

AS_OF: Final = "2026-08"
WHEEL: Final = "wheel"
WHEEL_SERVER: Final = (2, 51)


@dataclass(frozen=True)
class Release:
    """One Triton. `native`: with NVIDIA's own backends, where `trident serve` has Python-based ones in their place."""

    name: str
    server: tuple[int, int]
    onnxruntime: str
    openvino: str
    tensorrt: str = ""
    native: bool = True

    @property
    def said(self) -> str:
        """How it is called in messages."""
        version = ".".join(map(str, self.server))
        return f"Triton {self.name} ({version})" if self.native else f"the embedded Triton {version}"


TENSORRT: Final = {
    "24.04": "9.3.0", "24.05": "10.0.1", "24.06": "10.0.1", "24.07": "10.1.0", "24.08": "10.3.0",
    "24.09": "10.4.0", "24.10": "10.4.0", "24.11": "10.6.0", "24.12": "10.7.0", "25.01": "10.8.0",
    "25.02": "10.8.0", "25.03": "10.9.0", "25.04": "10.9.0", "25.05": "10.9.0", "25.06": "10.10.0",
    "25.07": "10.10.0", "25.08": "10.11.0", "25.09": "10.11.0", "25.10": "10.11.0", "25.11": "10.13.3",
    "25.12": "10.13.3", "26.01": "10.13.3", "26.02": "10.13.3", "26.03": "10.14.1", "26.04": "10.14.1",
    "26.05": "10.14.1", "26.06": "10.14.1", "26.07": "10.14.1",
}  # fmt: skip
RELEASES: Final = tuple(
    Release(name, (2, minor), onnxruntime, openvino, TENSORRT.get(name, ""))
    for name, minor, onnxruntime, openvino in (
        ("24.01", 42, "1.16.3", "2023.0.0"),
        ("24.02", 43, "1.16.3", "2023.3.0"),
        ("24.03", 44, "1.17.2", "2023.3.0"),
        ("24.04", 45, "1.17.3", "2023.3.0"),
        ("24.05", 46, "1.18.0", "2023.3.0"),
        ("24.06", 47, "1.18.0", "2024.0.0"),
        ("24.07", 48, "1.18.1", "2024.0.0"),
        ("24.08", 49, "1.18.1", "2024.0.0"),
        ("24.09", 50, "1.19.2", "2024.0.0"),
        ("24.10", 51, "1.19.2", "2024.4.0"),
        ("24.11", 52, "1.19.2", "2024.4.0"),
        ("24.12", 53, "1.20.1", "2024.5.0"),
        ("25.01", 54, "1.20.1", "2024.4.0"),
        ("25.02", 55, "1.20.1", "2025.0.0"),
        ("25.03", 56, "1.21.0", "2025.0.0"),
        ("25.04", 57, "1.21.0", "2025.0.0"),
        ("25.05", 58, "1.22.0", "2025.1.0"),
        ("25.06", 59, "1.22.0", "2025.1.0"),
        ("25.07", 59, "1.22.0", "2025.1.0"),
        ("25.08", 60, "1.23.0", "2025.2.0"),
        ("25.09", 61, "1.23.0", "2025.3.0"),
        ("25.10", 62, "1.23.1", "2025.3.0"),
        ("25.11", 63, "1.23.2", "2025.3.0"),
        ("25.12", 64, "1.23.2", "2025.4.0"),
        ("26.01", 65, "1.23.2", "2025.4.1"),
        ("26.02", 66, "1.24.1", "2025.4.1"),
        ("26.03", 67, "1.24.2", "2026.0.0"),
        ("26.04", 68, "1.24.4", "2026.1.0"),
        ("26.05", 69, "1.24.4", "2026.1.0"),
        ("26.06", 70, "1.24.4", "2026.2.0"),
        ("26.07", 71, "1.27.0", "2026.2.0"),
    )
)
NEWEST: Final = RELEASES[-1]

# (first version, newest IR version, newest opset); a version between two rows has what the row before it has.
ONNXRUNTIME_READS: Final = (
    ((1, 16), 9, 19), ((1, 17), 9, 20), ((1, 18), 10, 21), ((1, 21), 10, 22),
    ((1, 23), 11, 23), ((1, 24), 13, 25), ((1, 27), 13, 26),
)  # fmt: skip
OPENVINO_READS: Final = (
    ((2023, 0), 11), ((2023, 3), 13), ((2024, 0), 14), ((2024, 4), 15), ((2025, 0), 16), ((2026, 2), 17),
)  # fmt: skip

# Fields of ModelConfig by the server that first knew them; all others are older than the table of releases.
FIELD_SINCE: Final = {
    "model_metrics": (2, 52),
    "ensemble_scheduling.max_inflight_requests": (2, 63),
}
BACKEND_UNTIL: Final = {"tensorflow": (2, 55)}
"""Backends that were taken out of the image, with the last server that had them."""


def find_release(name: str) -> Release:
    """A release by its name such as `26.06`, or `wheel` for the server that `trident serve` runs. Raises UsageError."""
    if name == WHEEL:
        return Release(WHEEL, WHEEL_SERVER, _installed("onnxruntime"), _installed("openvino"), native=False)
    for release in RELEASES:
        if release.name == name:
            return release
    raise UsageError(
        f"Triton {name} is not in the table of {AS_OF}, which has {RELEASES[0].name} to {NEWEST.name} and `{WHEEL}`; "
        "name one of these"
    )


def onnx_limits(release: Release) -> tuple[int, int]:
    """The newest IR version and opset that its ONNX Runtime reads."""
    row = next(row for row in reversed(ONNXRUNTIME_READS) if row[0] <= _number(release.onnxruntime))
    return row[1], row[2]


def openvino_limit(release: Release) -> int:
    """The newest operator set that its OpenVINO knows."""
    return next(row[1] for row in reversed(OPENVINO_READS) if row[0] <= _number(release.openvino))


def _number(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _installed(package: str) -> str:
    """The installed version; without one, the newest that the table knows."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return NEWEST.onnxruntime if package == "onnxruntime" else NEWEST.openvino
