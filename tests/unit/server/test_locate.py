"""Finding the server, and saying what is missing: by parameters, so that nothing need be uninstalled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import ServerError
from server import locate
from server.errors import (
    InstallationError,
    LibpythonMissingError,
    NumpyTooNewError,
    PlatformError,
    PythonUnsupportedError,
    WheelMissingError,
)


def test_finds_the_installed_server() -> None:
    found = locate.find()
    assert found.binary.name == "tritonserver" and found.binary.stat().st_mode & 0o111
    assert (found.python_backend / "libtriton_python.so").is_file()
    assert found.stub.parent.name == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert (found.libpython_folder / f"libpython{found.stub.parent.name}.so.1.0").exists()
    assert found.version == (2, 51)


def test_looking_does_not_import_the_wheel() -> None:
    code = "import sys; from server import locate; locate.find(); print('pytriton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("system", "machine", "libc"),
    [
        ("Darwin", "arm64", ""),
        ("Windows", "AMD64", ""),
        ("Linux", "aarch64", "glibc 2.39"),
        ("Linux", "x86_64", "glibc 2.31"),
        ("Linux", "x86_64", ""),  # musl has no such name
    ],
)
def test_other_machines_are_refused(system: str, machine: str, libc: str) -> None:
    with pytest.raises(PlatformError, match=rf"glibc 2\.35 or newer, but this is {system} on {machine}.*compose"):
        locate.check_platform(system, machine, libc)


@pytest.mark.parametrize("libc", ["glibc 2.35", "glibc 2.36", "glibc 2.100", "glibc 3.0"])
def test_machines_that_do(libc: str) -> None:
    locate.check_platform("Linux", "x86_64", libc)


@pytest.mark.parametrize("version", ["2.0.0", "2.4.1", "3.0.0rc1", "10.1"])
def test_numpy_2_is_refused(version: str) -> None:
    with pytest.raises(NumpyTooNewError, match=rf"numpy {version} .*empties every output.*pip install 'numpy<2'"):
        locate.check_numpy(version)


def test_numpy_1_will_do() -> None:
    locate.check_numpy("1.26.4")


def _stubs(folder: Path, *versions: str) -> Path:
    for version in versions:
        (folder / version).mkdir()
        (folder / version / "triton_python_backend_stub").touch()
    return folder


def test_the_stub_is_that_of_this_python(tmp_path: Path) -> None:
    stubs = _stubs(tmp_path, "3.9", "3.11", "3.12")
    assert locate.find_stub(stubs, (3, 12)) == stubs / "3.12" / "triton_python_backend_stub"


def test_a_python_without_stub_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PythonUnsupportedError, match=r"Python 3\.14: .* for 3\.9, 3\.11, 3\.12; make the environment"):
        locate.find_stub(_stubs(tmp_path, "3.9", "3.11", "3.12"), (3, 14))


def test_libpython_is_found_in_the_first_folder_that_has_it(tmp_path: Path) -> None:
    for name in ("b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "libpython3.11.so.1.0").touch()
    assert locate.find_libpython((3, 11), [tmp_path / "a", tmp_path / "b", tmp_path / "c"]) == tmp_path / "b"


def test_without_libpython_the_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        LibpythonMissingError, match=r"libpython3\.12\.so\.1\.0 was not found.*`apt-get install libpython3\.12`"
    ):
        locate.find_libpython((3, 12), [tmp_path])


def test_a_wheel_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WheelMissingError, match="nvidia-pytriton is not installed whole; reinstall it"):
        locate.part(tmp_path / "tritonserver")


def test_a_missing_wheel_is_named() -> None:
    # An interpreter that sees this project, but no installed package.
    root = Path(locate.__file__).parents[1]
    code = f"import sys; sys.path.insert(0, {str(root)!r})\nfrom server import locate\nlocate.wheel_folder()"
    ran = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False)
    assert "WheelMissingError: Triton is not installed here: the package nvidia-pytriton is missing" in ran.stderr
    assert "pip install 'trident-triton[serve]'" in ran.stderr


def test_all_are_server_errors() -> None:
    assert issubclass(InstallationError, ServerError)
    assert InstallationError.exit_code == 6
