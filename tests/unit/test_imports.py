"""Which package may import which, read from the source, wherever in a file the import stands.

The packages meet at files and protocols, not at each other's functions; a new edge is a change of the design.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A package and those of ours that it may import, besides itself.
ALLOWED: dict[str, frozenset[str]] = {
    "core": frozenset(),
    "builder": frozenset({"core"}),
    "server": frozenset({"core"}),
    "client": frozenset({"core"}),
    "lint": frozenset({"core"}),
    "loadtest": frozenset({"core", "client"}),
    "trident": frozenset({"core", "builder", "server", "client", "lint", "loadtest"}),
}
# Heavy, and absent where only client or load test are installed: only for the builder and the backends.
RUNTIMES = frozenset(
    {
        *("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "safetensors", "tensorrt", "tensorrt_rtx"),
        *("transformers", "tokenizers", "torch_pruning"),
    }
)
RUNTIMES_ALLOWED = ("builder/**/*.py", "server/backends/*/model.py")


def imported(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Line and top-level name of each import in a file of `package`, also in functions and by import_module("x")."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name.partition(".")[0]) for alias in names)
            case ast.ImportFrom(module=module, level=level):
                yield node.lineno, package if level else str(module).partition(".")[0]
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name.partition(".")[0]


def violations(root: Path) -> list[str]:
    """`file:line imports name` for every import below `root` that the tables do not allow."""
    runtimes_allowed = {path for pattern in RUNTIMES_ALLOWED for path in root.glob(pattern)}
    found = []
    for package, allowed in ALLOWED.items():
        for path in sorted((root / package).rglob("*.py")):
            for line, name in imported(path.read_text(), package):
                crosses = name in ALLOWED and name != package and name not in allowed
                too_heavy = name in RUNTIMES and path not in runtimes_allowed
                if crosses or too_heavy:
                    found.append(f"{path.relative_to(root)}:{line} imports {name}")
    return found


def test_packages_import_only_what_they_may() -> None:
    assert violations(ROOT) == []


def test_every_package_is_in_the_table() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "examples", "benchmarks"}
    assert packages == set(ALLOWED)


@pytest.mark.parametrize(
    ("file", "source", "name"),
    [
        ("core/a.py", "import builder", "builder"),
        ("server/a.py", "def f():\n    from client.http import Client", "client"),
        ("client/a.py", "import numpy, loadtest.run", "loadtest"),
        ("lint/a.py", "from builder import triton_config", "builder"),
        ("lint/onnx_file.py", "import onnx", "onnx"),
        ("loadtest/a.py", "from server import find", "server"),
        ("builder/steps/a.py", "import trident.main as t", "trident"),
        ("trident/a.py", "if True:\n    import torch", "torch"),
        ("client/a.py", "import importlib\nimportlib.import_module('onnxruntime.capi')", "onnxruntime"),
        ("server/watch.py", "from openvino import Core", "openvino"),
        ("server/backends/pytorch/other.py", "import torch", "torch"),
    ],
)
def test_forbidden_import_is_found(tmp_path: Path, file: str, source: str, name: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert violations(tmp_path) == [f"{file}:{source.count(chr(10)) + 1} imports {name}"]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("builder/steps/a.py", "import torch, onnx, nncf\nfrom core.errors import BuildError\nfrom .b import c"),
        ("server/backends/pytorch/model.py", "import torch\nfrom core import tensors"),
        ("loadtest/a.py", "import client, core.results, locust\nfrom . import rows"),
        ("trident/a.py", "import builder, server, client, loadtest, core"),
        ("core/a.py", "name = 'torch'\nimport numpy"),
    ],
)
def test_allowed_import_is_not_found(tmp_path: Path, file: str, source: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert violations(tmp_path) == []
