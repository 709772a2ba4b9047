"""Finds NVIDIA's Triton in the installed `nvidia-pytriton` wheel, without importing it, and checks that it can run."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Final

from server.errors import (
    LibpythonMissingError,
    NumpyTooNewError,
    PlatformError,
    PythonUnsupportedError,
    WheelMissingError,
)

WHEEL: Final = "nvidia-pytriton"
SERVER_VERSIONS: Final = {"0.7.0": (2, 51)}
"""Wheel -> the Triton in it. A wheel that is not listed is taken for the newest one here."""
OLDEST_GLIBC: Final = (2, 35)
SYSTEM_LIBRARIES: Final = tuple(
    map(Path, ("/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"))
)
INSTALL: Final = "install it with `pip install 'trident-triton[serve]'`"


@dataclass(frozen=True)
class Installation:
    """Where the parts of one Triton lie. `version` is Triton's own, (major, minor)."""

    binary: Path
    python_backend: Path
    stub: Path
    libraries: Path
    libpython_folder: Path
    version: tuple[int, int]


def find() -> Installation:
    """The installed Triton, after all checks. Raises a subclass of InstallationError with a sentence that says what is
    missing and how to get it."""
    check_platform(platform.system(), platform.machine(), os.confstr("CS_GNU_LIBC_VERSION") or "")
    root = wheel_folder()
    check_numpy(metadata.version("numpy"))
    python = sys.version_info[:2]
    return Installation(
        binary=part(root / "bin" / "tritonserver"),
        python_backend=part(root / "backends" / "python"),
        stub=find_stub(root / "python_backend_stubs", python),
        libraries=part(root.parent.parent / "nvidia_pytriton.libs"),
        libpython_folder=find_libpython(python, library_folders()),
        version=SERVER_VERSIONS.get(metadata.version(WHEEL), max(SERVER_VERSIONS.values())),
    )


def wheel_folder() -> Path:
    spec = util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise WheelMissingError(f"Triton is not installed here: the package {WHEEL} is missing; {INSTALL}")
    return Path(next(iter(spec.submodule_search_locations))) / "tritonserver"


def part(path: Path) -> Path:
    if not path.exists():
        raise WheelMissingError(f"{path} is missing: the package {WHEEL} is not installed whole; reinstall it")
    return path


def check_platform(system: str, machine: str, libc: str) -> None:
    """`libc` as the C library names itself, such as `glibc 2.36`. Raises PlatformError."""
    found = f"{system} on {machine}" + (f" with {libc}" if libc else " with an unknown C library")
    name, _, version = libc.partition(" ")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if (system, machine, name) != ("Linux", "x86_64", "glibc") or numbers < OLDEST_GLIBC:
        oldest = ".".join(map(str, OLDEST_GLIBC))
        raise PlatformError(
            f"the server's binary needs Linux on x86-64 with glibc {oldest} or newer, but this is {found}; "
            "use the container (`docker compose up`) or another machine"
        )


def check_numpy(version: str) -> None:
    """Raises NumpyTooNewError for numpy 2 and later: models look ready, yet every output has size 0."""
    if int(version.split(".")[0]) >= 2:
        raise NumpyTooNewError(
            f"numpy {version} is installed, with which the server silently empties every output; "
            "install an older one with `pip install 'numpy<2'`"
        )


def find_stub(stubs: Path, python: tuple[int, int]) -> Path:
    """The stub of a Python version. Raises PythonUnsupportedError, naming the versions that there are."""
    stub = stubs / f"{python[0]}.{python[1]}" / "triton_python_backend_stub"
    if not stub.is_file():
        known = sorted((path.parent.name for path in stubs.glob("*/triton_python_backend_stub")), key=_as_numbers)
        raise PythonUnsupportedError(
            f"Triton cannot run Python {python[0]}.{python[1]}: {WHEEL} has stubs for {', '.join(known) or 'none'}; "
            "make the environment with Python 3.11 or 3.12"
        )
    return stub


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def library_folders() -> tuple[Path, ...]:
    """Where this Python's shared library may lie, the most particular first."""
    configured = sysconfig.get_config_var("LIBDIR")
    own = [Path(configured)] if configured else []
    return (*own, Path(sys.base_prefix) / "lib", *SYSTEM_LIBRARIES)


def find_libpython(python: tuple[int, int], folders: Iterable[Path]) -> Path:
    """The first folder that holds `libpython<version>.so.1.0`, which the stub is linked to. Raises
    LibpythonMissingError."""
    name = f"libpython{python[0]}.{python[1]}"
    for folder in folders:
        if (folder / f"{name}.so.1.0").exists():
            return folder
    raise LibpythonMissingError(
        f"{name}.so.1.0 was not found, and the server's Python stub cannot start without it; on Debian and Ubuntu "
        f"`apt-get install {name}` brings it, elsewhere use a Python that was built with --enable-shared"
    )
