"""`make peers`: the other servers in `.peers`, and NVIDIA's perf_analyzer, which an older wheel of tritonclient brings.

perf_analyzer needs two libraries that Triton's own wheel has, under longer names.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
FOLDER: Final = HERE.parent.parent / ".peers"
ANALYZER: Final = "tritonclient==2.48.0"  # newer ones need glibc 2.38
LIBRARIES: Final = {"libb64": "libb64.so.0d", "libcudart": "libcudart.so.12"}


def perf_analyzer() -> tuple[Path, dict[str, str]]:
    """The program and the environment that it runs in. Raises SystemExit unless `make peers` has fetched it."""
    program = FOLDER / "perf_analyzer/perf_analyzer"
    if not program.exists():
        raise SystemExit("perf_analyzer is not installed: `make peers` does so")
    return program, os.environ | {"LD_LIBRARY_PATH": str(program.parent)}


def fetch_analyzer(pip_arguments: list[str]) -> None:
    """Takes perf_analyzer out of its wheel and puts the libraries beside it."""
    folder = FOLDER / "perf_analyzer"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = ["--no-deps", "--platform", "manylinux1_x86_64", "--only-binary=:all:", "--dest", str(folder), ANALYZER]
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", *wanted, *pip_arguments], check=True)
    [wheel] = folder.glob("tritonclient-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [member] = [name for name in archive.namelist() if name.endswith("/bin/perf_analyzer")]
        (folder / "perf_analyzer").write_bytes(archive.read(member))
    (folder / "perf_analyzer").chmod(0o755)
    wheel.unlink()
    held = [Path(str(file.locate())) for file in metadata.files("nvidia-pytriton") or () if ".libs" in str(file)]
    for begin, name in LIBRARIES.items():
        [library] = [path for path in held if path.name.startswith(f"{begin}-")]
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(library.resolve())


def main() -> None:
    """Makes the environment; more arguments go to pip."""
    extra = sys.argv[1:]
    subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
    install = [str(FOLDER / "bin/python"), "-m", "pip", "install", "-q", "-r", str(HERE / "requirements.txt")]
    subprocess.run([*install, *extra], check=True)
    fetch_analyzer(extra)


if __name__ == "__main__":
    main()
