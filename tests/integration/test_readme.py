"""The snippets of README.md run as they stand there, against the served example; those of models/README.md load."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from builder.example_inputs import example_inputs
from builder.spec_file import load_spec
from core.results import BuildReport
from tests.support.command import ANY_PORTS

ROOT = Path(__file__).parents[2]
TRIDENT = [sys.executable, "-m", "trident.main"]
BLOCK = re.compile(r"^<!-- test: (\S+) -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SNIPPETS = {name: (language, code) for name, language, code in BLOCK.findall((ROOT / "README.md").read_text())}
VARIANTS = ("torch_fp32", "onnx_int8_static", "openvino_int8")  # those that the snippets ask
BOOT, PULLOVER, TROUSER = 9, 2, 1  # what the first four evaluation images show: boot, pullover, trouser, trouser


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The addresses that the snippets name -> those of the example, served on free ports."""
    folder = tmp_path_factory.mktemp("readme")
    spec = yaml.safe_load((ROOT / "examples/fashion/model.yaml").read_text())
    example = ROOT / "examples/fashion"
    spec["variants"] = list(VARIANTS)
    spec["checkpoint"] = {"state_dict": str(example / "fashion.pt"), "factory": f"{example}/model.py:build_model"}
    spec["data"] |= {"calibration": str(example / "calibration.npz"), "evaluation": str(example / "evaluation.npz")}
    (folder / "model.yaml").write_text(yaml.safe_dump(spec))
    subprocess.run([*TRIDENT, "build", "model.yaml"], cwd=folder, check=True, capture_output=True)
    report = BuildReport.model_validate_json((folder / "artifacts/build-report.json").read_bytes())
    assert [row.status for row in report.models[0].rows] == ["published"] * len(VARIANTS)
    command = [*TRIDENT, "serve", "--json", *ANY_PORTS]
    with (folder / "words").open("w") as words:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=words, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "words").read_text()
        served = json.loads(line)
        yield {"127.0.0.1:8000": served["http"], "127.0.0.1:8001": served["grpc"]}
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def run(name: str, addresses: dict[str, str]) -> str:
    """What a snippet of README.md prints; its `python3` is this one."""
    language, code = SNIPPETS[name]
    named = [address for address in addresses if address in code]
    assert named, f"the snippet {name!r} asks no address that `make serve` has"
    for address in named:
        code = code.replace(address, addresses[address])
    command = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[language]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run([*command, code], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_snippets_are_tested() -> None:
    assert set(SNIPPETS) == {"curl", "http", "grpc", "tritonclient"}
    text = (ROOT / "README.md").read_text()
    assert len(SNIPPETS) == len(re.findall(r"^```(?:python|sh)$", text, re.MULTILINE)), "a block has no mark"


def test_curl(addresses: dict[str, str]) -> None:
    answer = json.loads(run("curl", addresses))
    assert answer["model_name"] == "fashion_openvino_int8"
    (output,) = answer["outputs"]
    assert (output["name"], output["shape"], len(output["data"])) == ("logits", [1, 10], 10)


@pytest.mark.parametrize("name", ["http", "tritonclient"])
def test_python(addresses: dict[str, str], name: str) -> None:
    assert run(name, addresses).split() == f"[{BOOT} {PULLOVER} {TROUSER} {TROUSER}]".split()


def test_python_over_grpc(addresses: dict[str, str]) -> None:
    lines = run("grpc", addresses).splitlines()
    assert lines == [f"{variant} [{BOOT} {PULLOVER} {TROUSER} {TROUSER}]" for variant in VARIANTS]


def yaml_blocks() -> list[str]:
    """The specs of models/README.md: the first whole, the others in place of the first one's fields."""
    return re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "models/README.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(yaml_blocks())))
def test_specs_of_the_models_readme_load(tmp_path: Path, number: int) -> None:
    blocks = yaml_blocks()
    (tmp_path / "network.py").write_text("def build_model(): ...\n")
    (tmp_path / "folder").mkdir()
    names = (
        *("mine.pt", "mine.pt2", "mine.onnx", "other.onnx", "other.xml", "calibration.npz", "evaluation.npz"),
        *("folder/config.json", "folder/model.safetensors"),
    )
    for name in names:
        (tmp_path / name).touch()
    path = tmp_path / "mine.yaml"
    # A first block as it stands, comments and all; what the later ones change is merged into it.
    path.write_text(
        blocks[0] if number == 0 else yaml.safe_dump(yaml.safe_load(blocks[0]) | yaml.safe_load(blocks[number]))
    )
    spec = load_spec(path)
    assert spec.name == "mine"
    files = [spec.checkpoint.file, spec.data.calibration, spec.data.evaluation, *spec.imports.values()]
    assert all(file.exists() and file.is_relative_to(tmp_path) for file in files)
    kinds = ("state_dict", "onnx", "torchscript", "exported", "huggingface", "state_dict", "state_dict")
    assert spec.checkpoint.kind == kinds[number]
    assert example_inputs(spec)[0].shape == ((2, 32) if spec.checkpoint.kind == "huggingface" else (2, 3, 224, 224))


def test_data_of_the_models_readme_is_written(tmp_path: Path) -> None:
    """The Python block there, with arrays of the shapes that its comment names."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "models/README.md").read_text(), re.MULTILINE | re.DOTALL)
    before = (
        "train_images = test_images = np.zeros((3, 3, 224, 224), np.float32)\ntest_labels = np.zeros(3, np.int64)\n"
    )
    (tmp_path / "models").mkdir()
    subprocess.run([sys.executable, "-c", f"import numpy as np\n{before}{code}"], cwd=tmp_path, check=True)
    with np.load(tmp_path / "models/evaluation.npz") as written:
        assert {name: written[name].shape for name in written} == {"image": (3, 3, 224, 224), "label": (3,)}
