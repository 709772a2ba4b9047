"""Facts about the machine that a figure depends on."""

from __future__ import annotations

import math
import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from core.results import Machine

# Those that decide which vector and INT8 kernels a runtime picks on x86-64.
ISA_FLAGS = ("avx2", "fma", "avx512f", "avx512bw", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")

PACKAGES = (
    "torch", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf",
    "numpy", "nvidia-pytriton", "tritonclient", "locust",
)  # fmt: skip


def cores() -> int:
    """The CPU cores that this process may use: the smaller of the cgroup's quota and the affinity mask, at least 1."""
    return max(1, min(len(os.sched_getaffinity(0)), int(min(_cgroup_quota(), 1 << 20))))


def _cgroup_quota() -> float:
    """The tightest CPU quota of this process's control group (version 2) and its parents, in cores."""
    quota = math.inf
    for text in _cgroup_files("cpu.max"):
        limit, _, period = text.partition(" ")
        if limit.isdecimal() and period.strip().isdecimal():
            quota = min(quota, int(limit) / int(period))
    return quota


def _cgroup_files(name: str) -> list[str]:
    """What a file says in this process's control group (version 2) and in its parents."""
    try:
        line = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
    except OSError:
        return []
    root = Path("/sys/fs/cgroup")
    folders = [folder for folder in [root / line, *(root / line).parents] if folder.is_relative_to(root)]
    found = []
    for folder in folders:
        try:
            found.append((folder / name).read_text())
        except OSError:
            continue
    return found


def numa_nodes() -> int:
    """How many NUMA nodes hold the cores of the affinity mask, at least 1."""
    mine = os.sched_getaffinity(0)
    nodes = [_cpus(file) for file in Path("/sys/devices/system/node").glob("node[0-9]*/cpulist")]
    return max(1, sum(1 for cpus in nodes if cpus & mine))


def _cpus(file: Path) -> set[int]:
    """CPUs of a list as the kernel writes it, such as `0-3,8`."""
    try:
        parts = [part.partition("-") for part in file.read_text().strip().split(",") if part]
        return {cpu for first, _, last in parts for cpu in range(int(first), int(last or first) + 1)}
    except (OSError, ValueError):
        return set()


def memory_bytes() -> int:
    """The memory that this process may use: the tightest limit of its control groups, at most what there is."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [int(text) for text in _cgroup_files("memory.max") if text.strip().isdecimal()]
    return min([there, *limits])


def isa_flags() -> tuple[str, ...]:
    """Those of ISA_FLAGS that the kernel reports for this CPU."""
    return tuple(flag for flag in ISA_FLAGS if flag in _cpuinfo("flags").split())


def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def describe() -> Machine:
    """The machine as it is written into result files."""
    return Machine(
        cpu_model=_cpuinfo("model name") or platform.processor() or "unknown",
        cores=cores(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        isa_flags=isa_flags(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )


def now() -> str:
    """The time in UTC, as result files write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def age_s(stamp: str) -> float:
    """How many seconds ago a time was that `now` wrote; below zero if the clock was set back since."""
    return (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds()


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """The installed version of each package, without importing it; those not installed are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
