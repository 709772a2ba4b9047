"""What a user of the wheel gets: it is built, and each extra is installed into an environment of its own and run.

Slow by nature (minutes: four environments, two of them with torch). The packages come from where pip is set up to look.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import venv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
PACKAGES = ("builder", "client", "core", "lint", "loadtest", "server", "trident")
CONSTRAINTS = ROOT / "constraints.txt"

HELP_S = 0.3  # `trident --help`, as promised
CLIENT_IMPORT_S = 0.5  # of CPU time
IMPORT_CLIENT = "import time; t = time.process_time(); import client; print(time.process_time() - t)"


@dataclass(frozen=True)
class Extra:
    """What one extra promises: packages of ours whose modules all import, and third parties that it does not bring."""

    packages: tuple[str, ...]
    absent: tuple[str, ...]


EXTRAS = {
    "client": Extra(
        ("core", "client", "lint"), ("onnx", "torch", "onnxruntime", "openvino", "nncf", "locust", "pytriton")
    ),
    "loadtest": Extra(("core", "client", "loadtest"), ("torch", "onnxruntime", "openvino", "nncf", "pytriton")),
    "serve": Extra(("core", "server"), ("nncf", "locust")),
    "build": Extra(("core", "builder"), ("locust", "pytriton")),
}

# Imports every module of the packages named, the backends' too but for what only Triton's stub can import.
IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if module.name.endswith(("__main__", ".locustfile")):
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name != "triton_python_backend_utils":
                raise
        print(module.name)
"""
FIND = "import importlib.util, sys; print([name for name in sys.argv[1:] if importlib.util.find_spec(name)])"


@dataclass(frozen=True)
class Environment:
    """A virtual environment with nothing in it but the wheel, one extra, and what they need."""

    folder: Path

    def run(self, program: str, *args: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run one of its programs away from the source tree, which must not stand in for the installed packages."""
        env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        env["PATH"] = f"{self.folder / 'bin'}:{env['PATH']}"
        return subprocess.run(
            [str(self.folder / "bin" / program), *args],
            cwd=self.folder, env=env, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    def best_of(self, times: int, program: str, *args: str) -> float:
        """The shortest wall time of several runs, seconds: what it costs, without what else the machine was doing."""
        took_s = []
        for _ in range(times):
            start = time.perf_counter()
            result = self.run(program, *args)
            took_s.append(time.perf_counter() - start)
            assert result.returncode == 0, result.stderr
        return min(took_s)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources: one in place would take in what an earlier one left in build/."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(source / "dist"), str(source)]
    result = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = (source / "dist").glob("*.whl")
    return built


def pip_install(python: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """`pip install` into the environment of `python`, with this environment's pip and at the tested versions."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "-c",
        str(CONSTRAINTS),
        *args,
    ]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Environment]:
    """The environment of an extra, made when it is first asked for."""

    @functools.cache
    def environment(extra: str) -> Environment:
        folder = tmp_path_factory.mktemp(f"env-{extra}")
        venv.create(folder, with_pip=False, symlinks=True)
        result = pip_install(folder / "bin" / "python", "--no-compile", f"{wheel}[{extra}]")
        assert result.returncode == 0, result.stderr
        return Environment(folder)

    return environment


def test_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    source = wheel.parents[1]  # see the fixture
    sources = {
        path.relative_to(source).as_posix()
        for package in PACKAGES
        for path in (source / package).rglob("*")
        if path.is_file()
    }
    assert held == sources


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_module_imports_with_its_extra_alone(installed: Callable[[str], Environment], extra: str) -> None:
    result = installed(extra).run("python", "-I", "-W", "ignore", "-c", IMPORT_ALL, *EXTRAS[extra].packages)
    assert result.returncode == 0, result.stderr
    for package in EXTRAS[extra].packages:
        assert f"{package}." in result.stdout, f"no module of {package} was imported"


@pytest.mark.parametrize("extra", EXTRAS)
def test_extra_brings_nothing_heavy_that_it_does_not_need(installed: Callable[[str], Environment], extra: str) -> None:
    result = installed(extra).run("python", "-I", "-c", FIND, *EXTRAS[extra].absent, "numpy")
    assert result.stdout.strip() == "['numpy']", result.stderr


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("client", "infer"),
        ("client", "lint"),
        ("loadtest", "loadtest"),
        ("serve", "serve"),
        ("serve", "list"),
        ("build", "doctor"),
        ("build", "build"),
        ("build", "optimize"),
    ],
)
def test_command_runs_with_its_extra(installed: Callable[[str], Environment], extra: str, command: str) -> None:
    result = installed(extra).run("trident", command, "--help")
    assert result.returncode == 0, result.stderr
    assert f"trident {command}" in result.stdout


def test_command_without_its_extra_says_which_one(installed: Callable[[str], Environment], tmp_path: Path) -> None:
    spec = ROOT / "examples" / "fashion" / "model.yaml"
    commands = {
        "build": ("--repository", tmp_path / "new", "--artifacts", tmp_path / "artifacts", spec),
        "serve": ("--repository", tiny_repository(tmp_path / "model_repository"), "--run-dir", tmp_path / "run"),
    }
    for command, arguments in commands.items():
        result = installed("client").run("trident", command, *map(str, arguments))
        assert result.returncode != 0
        assert "Traceback" not in result.stderr
        assert f"trident-triton[{command}]" in result.stderr


def tiny_repository(folder: Path) -> Path:
    """A repository of one ONNX model `double`: `x` [N, 2] float32 in, `y` twice that out."""
    names = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", names[:1], names[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    (folder / "double" / "1").mkdir(parents=True)
    onnx.save(model, folder / "double" / "1" / "model.onnx")
    (folder / "double" / "config.pbtxt").write_text(
        """name: "double"
        backend: "onnxruntime"
        max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: 2 }
        output { name: "y" data_type: TYPE_FP32 dims: 2 }
        instance_group { kind: KIND_CPU count: 1 }"""
    )
    return folder


def test_serve_serves_with_its_extra(installed: Callable[[str], Environment], tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path / "model_repository")
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        ports = [str(one.getsockname()[1]) for one in sockets]
    options = [f"--{name}-port={port}" for name, port in zip(("http", "grpc", "metrics"), ports, strict=True)]
    program = installed("serve").folder / "bin" / "trident"
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [program, "serve", "--repository", repository, *options], cwd=tmp_path, stdout=output, stderr=output
        )
        try:
            body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2.5]}]}
            url = f"http://127.0.0.1:{ports[0]}/v2/models/double"
            deadline = time.monotonic() + 60
            while not answers(f"{url}/ready"):
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            with urllib.request.urlopen(f"{url}/infer", json.dumps(body).encode(), timeout=10) as response:
                assert json.load(response)["outputs"][0]["data"] == [2, 5]
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=30) == 0, log.read_text()
        finally:
            server.kill()
            server.wait()


def answers(url: str) -> bool:
    """Whether a GET of `url` succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def test_load_test_runs_as_a_module(installed: Callable[[str], Environment]) -> None:
    result = installed("loadtest").run("python", "-m", "loadtest", "--help")
    assert result.returncode == 0, result.stderr
    assert "usage" in result.stdout


def test_help_answers_at_once(installed: Callable[[str], Environment]) -> None:
    took_s = installed("client").best_of(7, "trident", "--help")
    assert took_s < HELP_S, f"trident --help took {took_s:.2f} s"


def test_client_imports_quickly(installed: Callable[[str], Environment]) -> None:
    took_s = min(float(installed("client").run("python", "-I", "-c", IMPORT_CLIENT).stdout) for _ in range(5))
    assert took_s < CLIENT_IMPORT_S, f"import client took {took_s:.2f} s"


def test_environment_of_the_tests_is_what_the_dev_extra_and_the_constraints_say(wheel: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    result = pip_install(Path(sys.executable), "--dry-run", "--report", str(report), f"{wheel}[dev]")
    assert result.returncode == 0, result.stderr
    changed = {item["metadata"]["name"] for item in json.loads(report.read_text())["install"]}
    assert changed <= {"trident-triton"}, "run `make setup`"
