"""The builder on real models: every runtime, the cache, the gates, and what a failing variant leaves behind."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from builder.build import BuildOptions, Listener, build
from builder.errors import CheckpointError, PublishError, SpecError, StepError
from builder.repository import Repository
from builder.spec import DEFAULT_VARIANTS
from builder.worker import Workshop
from core.errors import InputError
from core.machine import cores
from core.results import BuildReport, Passport
from core.samples import read_pack
from tests.support.tiny import forward, onnx_model, onnx_spec, torch_spec

ALL = ", ".join(DEFAULT_VARIANTS)
TOLERANCE = {name: 5.0 if "int8" in name or "pruned" in name else 1e-3 for name in DEFAULT_VARIANTS} | {
    "openvino_fp16": 0.05
}


def _options(folder: Path) -> BuildOptions:
    return BuildOptions(folder / "repository", folder / "artifacts")


def _snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of last change of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, BuildReport]:
    """A torch model with all its variants: (folder, spec, report)."""
    folder = tmp_path_factory.mktemp("built")
    spec = torch_spec(folder / "model", variants=ALL, max_drop="20pt")
    return folder, spec, build([spec], _options(folder), Listener())


def test_every_variant_is_published_with_measured_figures(built: tuple[Path, Path, BuildReport]) -> None:
    folder, _, report = built
    rows = {row.variant: row for row in report.models[0].rows}
    assert {variant: row.status for variant, row in rows.items()} == dict.fromkeys(ALL.split(", "), "published")
    assert report.models[0].original.value == 1.0
    assert rows["onnx_fp32"].accuracy == 1.0
    assert rows["torch_fp32"].compression == 1.0
    for row in rows.values():
        assert row.timing is not None and row.verdict is not None
        assert row.timing.speedup_ci95[0] <= row.speedup <= row.timing.speedup_ci95[1]  # type: ignore[operator]
        assert row.size_bytes == sum(
            path.stat().st_size
            for path in (folder / "repository" / row.triton_name / "1").iterdir()
            if path.name not in ("passport.json", "golden.npz")
        )
    assert rows["openvino_int8"].verdict.max_abs_error > rows["onnx_fp32"].verdict.max_abs_error  # type: ignore[union-attr]
    assert BuildReport.model_validate_json((folder / "artifacts" / "build-report.json").read_bytes()) == report


def test_pack_and_goldens_hold_right_answers(built: tuple[Path, Path, BuildReport]) -> None:
    folder, _, _ = built
    pack = read_pack(folder / "artifacts" / "tiny")
    assert np.allclose(pack.goldens["scores"], forward(pack.inputs["x"]), atol=1e-4)
    for variant, tolerance in TOLERANCE.items():
        version = folder / "repository" / f"tiny_{variant}" / "1"
        golden = np.load(version / "golden.npz")
        assert len(golden["input/x"]) == 8  # as many as the largest batch, 16 at most
        assert np.abs(golden["golden/scores"] - forward(golden["input/x"])).max() < tolerance
        passport = Passport.model_validate_json((version / "passport.json").read_bytes())
        assert passport.verdict.passed
        assert (passport.opset, passport.ir_version) == ((20, 10) if "onnx_" in variant else (None, None))
        assert (passport.calibration_sha256 is None) == (variant.rpartition("_")[2] not in ("static", "int8", "qat"))
        assert (passport.training_sha256 is None) == ("qat" not in variant)


def test_config_reads_back_bounded_warmed_and_commented(built: tuple[Path, Path, BuildReport]) -> None:
    folder, _, _ = built
    backends = {"torch": "pytorch", "onnx": "onnxruntime", "openvino": "openvino"}
    for variant in DEFAULT_VARIANTS:
        backend = backends[variant.removeprefix("pruned_").partition("_")[0]]
        text = (folder / "repository" / f"tiny_{variant}" / "config.pbtxt").read_text()
        config = text_format.Parse(text, model_config_pb2.ModelConfig())
        assert (config.name, config.backend, config.max_batch_size) == (f"tiny_{variant}", backend, 8)
        assert config.HasField("dynamic_batching")
        assert [warmup.batch_size for warmup in config.model_warmup] == [1, 8]
        assert config.parameters["trident.variant"].string_value == variant
        assert "# the spec's batch.max" in text
        assert "expected by times measured in process" in text
        instances, threads = config.instance_group[0].count, _threads(config)
        assert instances * threads <= cores()


def _threads(config: model_config_pb2.ModelConfig) -> int:
    names = {"intra_op_thread_count", "INTRA_OP_THREAD_COUNT", "INFERENCE_NUM_THREADS"}
    (name,) = names & set(config.parameters)
    return int(config.parameters[name].string_value)


def test_unchanged_rebuild_touches_nothing(built: tuple[Path, Path, BuildReport]) -> None:
    folder, spec, report = built
    before = _snapshot(folder / "repository")
    started: list[str] = []
    again = build([spec], _options(folder), Listener(on_start=lambda _, what: started.append(what)))
    assert started == []
    assert _snapshot(folder / "repository") == before
    assert all(row.from_cache for row in again.models[0].rows)
    assert [row.accuracy for row in again.models[0].rows] == [row.accuracy for row in report.models[0].rows]


def _versions(folder: Path) -> dict[str, tuple[int, int]]:
    return {path: about for path, about in _snapshot(folder).items() if Path(path).name != "config.pbtxt"}


def test_retime_measures_and_plans_again_and_touches_no_version(built: tuple[Path, Path, BuildReport]) -> None:
    folder, spec, report = built
    before = _versions(folder / "repository")
    options = dataclasses.replace(_options(folder), retime=True)
    again = build([spec], options, Listener())
    assert _versions(folder / "repository") == before
    assert [row.costs for row in again.models[0].rows] != [row.costs for row in report.models[0].rows]
    planned = _snapshot(folder / "repository")
    build([spec], _options(folder), Listener())
    assert _snapshot(folder / "repository") == planned  # and the plan is that of the measurements that were kept
    assert [row.timing for row in again.models[0].rows] != [row.timing for row in report.models[0].rows]
    unchanged = build([spec], _options(folder), Listener())
    assert [row.timing for row in unchanged.models[0].rows] == [row.timing for row in again.models[0].rows]
    assert [row.speedup for row in unchanged.models[0].rows] == [row.speedup for row in again.models[0].rows]


def test_a_serving_wish_replaces_the_config_and_no_version(tmp_path: Path) -> None:
    spec = onnx_spec(tmp_path / "model")
    build([spec], _options(tmp_path), Listener())
    before = _snapshot(tmp_path / "repository" / "tiny_onnx_fp32" / "1")
    spec.write_text(spec.read_text() + "serving: {max_queue_size: 7}\n")
    row = build([spec], _options(tmp_path), Listener()).models[0].rows[0]
    assert row.from_cache
    assert _snapshot(tmp_path / "repository" / "tiny_onnx_fp32" / "1") == before
    assert "max_queue_size: 7" in (tmp_path / "repository" / "tiny_onnx_fp32" / "config.pbtxt").read_text()


def test_new_weights_make_a_new_version_and_old_ones_are_dropped(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        spec = onnx_spec(tmp_path / "model", seed=seed)
        row = build([spec], _options(tmp_path), Listener()).models[0].rows[0]
        assert (row.status, row.version) == ("published", seed + 1)
    repository = Repository.at(tmp_path / "repository")
    assert repository.versions("tiny_onnx_fp32") == [2, 3]
    golden = np.load(tmp_path / "repository" / "tiny_onnx_fp32" / "3" / "golden.npz")
    assert np.allclose(golden["golden/scores"], forward(golden["input/x"], seed=2), atol=1e-4)


def test_a_damaged_version_is_noticed_and_replaced(tmp_path: Path) -> None:
    spec = onnx_spec(tmp_path / "model")
    build([spec], _options(tmp_path), Listener())
    (tmp_path / "repository" / "tiny_onnx_fp32" / "1" / "model.onnx").write_bytes(b"damaged")
    row = build([spec], _options(tmp_path), Listener()).models[0].rows[0]
    assert (row.status, row.version, row.from_cache) == ("published", 2, False)
    assert Repository.at(tmp_path / "repository").intact("tiny_onnx_fp32", 2)


def test_other_inputs_or_outputs_are_refused(tmp_path: Path) -> None:
    spec = onnx_spec(tmp_path / "model")
    build([spec], _options(tmp_path), Listener())
    before = _snapshot(tmp_path / "repository")
    text = spec.read_text().replace("name: scores", "name: logits").replace("output: scores", "output: logits")
    spec.write_text(text)
    model = onnx_model()
    model.graph.output[0].name = model.graph.node[2].output[0] = "logits"
    onnx.save(model, tmp_path / "model" / "model.onnx")
    row = build([spec], _options(tmp_path), Listener()).models[0].rows[0]
    assert row.status == "failed"
    assert "inputs or outputs differ from those of the published version 1" in row.reason
    assert _snapshot(tmp_path / "repository") == before


def test_an_exported_batch_axis_that_is_fixed_is_a_failed_row_with_its_reason(tmp_path: Path) -> None:
    """A factory whose network bakes the batch size that it was traced with into the graph."""
    spec = torch_spec(tmp_path / "model", variants="torch_fp32")
    (tmp_path / "model" / "factory.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        return super().forward(x) + torch.zeros(int(x.shape[0]), 3)\n\n\n"
        "def make():\n    return Net(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))\n"
    )
    row = build([spec], _options(tmp_path), Listener()).models[0].rows[0]
    assert row.status == "failed"
    assert "at batch" in row.reason
    assert not (tmp_path / "repository" / "tiny_torch_fp32").exists()


def test_a_checkpoint_that_does_not_fit_its_spec(tmp_path: Path) -> None:
    spec = torch_spec(tmp_path / "model")
    factory = tmp_path / "model" / "factory.py"
    good = factory.read_text()
    factory.write_text(good.replace("nn.Linear(16, 3)", "nn.Linear(16, 3), nn.Flatten(0)"))
    with pytest.raises(InputError, match=r"output 'scores' of the checkpoint of tiny must hold"):
        build([spec], _options(tmp_path), Listener())
    spec.write_text(spec.read_text().replace("dims: [8]", "dims: [4, 2]"))
    for name in ("calibration", "evaluation"):
        data = dict(np.load(tmp_path / "model" / f"{name}.npz"))
        np.savez(tmp_path / "model" / f"{name}.npz", x=data["x"].reshape(-1, 4, 2), label=data["label"])
    factory.write_text(good)
    with pytest.raises(CheckpointError, match="the checkpoint of tiny does not run on inputs"):
        build([spec], _options(tmp_path), Listener())
    factory.write_text("raise SystemExit(0)\n")
    with pytest.raises(CheckpointError, match="failed: SystemExit"):
        build([spec], _options(tmp_path), Listener())
    assert not (tmp_path / "repository").exists()


def test_a_staging_folder_is_never_swept_of_what_is_not_ours(tmp_path: Path) -> None:
    spec = onnx_spec(tmp_path / "model")
    (tmp_path / "elsewhere" / "precious").mkdir(parents=True)
    options = BuildOptions(tmp_path / "repository", tmp_path / "artifacts", staging=tmp_path / "elsewhere")
    assert build([spec], options, Listener()).models[0].rows[0].status == "published"
    assert (tmp_path / "elsewhere" / "precious").is_dir()
    for inside in (tmp_path / "repository", tmp_path / "repository" / "tiny_onnx_fp32"):
        with pytest.raises(PublishError, match="name a folder outside of it"):
            Repository.at(tmp_path / "repository", inside)


def test_damaged_goldens_are_noticed(tmp_path: Path) -> None:
    spec = onnx_spec(tmp_path / "model")
    build([spec], _options(tmp_path), Listener())
    (tmp_path / "repository" / "tiny_onnx_fp32" / "1" / "golden.npz").write_bytes(b"junk")
    assert not Repository.at(tmp_path / "repository").intact("tiny_onnx_fp32", 1)
    assert build([spec], _options(tmp_path), Listener()).models[0].rows[0].version == 2


def test_what_a_killed_build_left_in_the_cache_is_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    cache = tmp_path / "artifacts" / "cache"
    (cache / f".abc.{dead.pid}").mkdir(parents=True)
    (cache / f".abc.{os.getpid()}").mkdir()
    build([onnx_spec(tmp_path / "model")], _options(tmp_path), Listener())
    assert [path.name for path in cache.glob(".abc.*")] == [f".abc.{os.getpid()}"]


def test_a_variant_below_its_gate_is_a_row_and_keeps_the_older_version(tmp_path: Path) -> None:
    spec = onnx_spec(tmp_path / "model", variants="onnx_fp32, openvino_int8", max_drop="20pt")
    rows = build([spec], _options(tmp_path), Listener()).models[0].rows
    assert [row.status for row in rows] == ["published", "published"]
    assert rows[1].verdict is not None and rows[1].verdict.drop > 0  # else the next line could not reject
    spec.write_text(spec.read_text().replace("20pt", "0pt"))
    rows = build([spec], _options(tmp_path), Listener()).models[0].rows
    assert [row.status for row in rows] == ["published", "rejected"]
    assert "points of top1, 0 are allowed" in rows[1].reason
    assert "try `variants`: openvino_int8_mixed keeps the worst layers in float" in rows[1].reason
    repository = Repository.at(tmp_path / "repository")
    assert repository.versions("tiny_openvino_int8") == [1]
    retire = BuildOptions(tmp_path / "repository", tmp_path / "artifacts", retire=True)
    rows = build([spec], retire, Listener()).models[0].rows
    assert (rows[1].status, rows[1].from_cache) == ("rejected", True)
    assert repository.models() == ["tiny_onnx_fp32"]


def test_a_variant_gone_from_the_spec_is_named_and_pruned(tmp_path: Path) -> None:
    spec = onnx_spec(tmp_path / "model", variants="onnx_fp32, openvino_int8", max_drop="20pt")
    build([spec], _options(tmp_path), Listener())
    spec.write_text(spec.read_text().replace("onnx_fp32, openvino_int8", "onnx_fp32"))
    assert build([spec], _options(tmp_path), Listener()).models[0].stale == ("tiny_openvino_int8",)
    prune = BuildOptions(tmp_path / "repository", tmp_path / "artifacts", prune=True)
    assert build([spec], prune, Listener()).models[0].stale == ()
    assert Repository.at(tmp_path / "repository").models() == ["tiny_onnx_fp32"]


def test_torch_variant_of_an_onnx_checkpoint_is_unavailable(tmp_path: Path) -> None:
    spec = onnx_spec(tmp_path / "model", variants="torch_fp32, onnx_fp32")
    model = build([spec], _options(tmp_path), Listener()).models[0]
    assert [row.status for row in model.rows] == ["unavailable", "published"]
    assert "ONNX file" in model.rows[0].reason
    assert model.baseline_variant == "onnx_fp32"


def test_names_in_the_onnx_file_must_be_the_specs(tmp_path: Path) -> None:
    spec = onnx_spec(tmp_path / "model")
    spec.write_text(spec.read_text().replace("name: x", "name: pixels"))
    np.savez(tmp_path / "model" / "evaluation.npz", pixels=np.zeros((2, 8), np.float32), label=[0, 1])
    np.savez(tmp_path / "model" / "calibration.npz", pixels=np.ones((2, 8), np.float32), label=[0, 1])
    with pytest.raises(CheckpointError, match="its inputs are x, the spec says pixels"):
        build([spec], _options(tmp_path), Listener())


def test_a_native_crash_costs_one_call(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "log")
    try:
        with pytest.raises(StepError, match="the build process died"):
            workshop.run(os.abort)
        assert workshop.run(os.getpid) != os.getpid()
    finally:
        workshop.close()


def _trident(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trident.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_line_builds_lists_and_explains(tmp_path: Path) -> None:
    spec = onnx_spec(tmp_path / "model")
    where = ("--repository", tmp_path / "repository", "--artifacts", tmp_path / "artifacts")
    done = _trident("build", spec, *where, "--json")
    assert done.returncode == 0, done.stderr
    assert BuildReport.model_validate_json(done.stdout).models[0].rows[0].status == "published"
    listed = _trident("list", *where[:2], "--json")
    assert [(row["name"], row["intact"]) for row in json.loads(listed.stdout)] == [("tiny_onnx_fp32", True)]
    table = _trident("build", spec, *where)
    assert "onnx_fp32" in table.stdout and "unchanged" in table.stderr


def _as_double(folder: Path) -> None:
    model = onnx_model()
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["x"], ["single"], to=onnx.TensorProto.FLOAT))
    model.graph.node[1].input[0] = "single"
    onnx.save(model, folder / "model.onnx")


BAD_INPUT: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "typo": (lambda d: (d / "model.yaml").write_text("nam: x"), 3, "unknown field; did you mean 'name'"),
    "missing checkpoint": (lambda d: (d / "model.onnx").unlink(), 3, "model.onnx does not exist"),
    "NaN": (lambda d: np.savez(d / "evaluation.npz", x=np.full((2, 8), np.nan, "f"), label=[0, 1]), 3, "NaN"),
    "no data": (lambda d: (d / "evaluation.npz").unlink(), 3, "evaluation.npz"),
    "fixed batch": (lambda d: onnx.save(onnx_model(batch=1), d / "model.onnx"), 3, "fixed to batches of 1"),
    "other type": (_as_double, 3, "input 'x' is float64, the spec says float32"),
    "wrong dims": (
        lambda d: (d / "model.yaml").write_text((d / "model.yaml").read_text().replace("dims: [3]", "dims: [4]")),
        3,
        "output 'scores' has an axis of 3 where the spec says 4",
    ),
    "artifacts is a file": (lambda d: (d.parent / "artifacts").write_text(""), 5, "artifacts cannot be used"),
    "damaged": (lambda d: (d / "model.onnx").write_bytes(b"\xff\xff"), 3, "cannot be read as an ONNX model"),
}


@pytest.mark.parametrize("kind", BAD_INPUT)
def test_bad_input_gets_a_sentence_an_exit_code_and_no_repository(tmp_path: Path, kind: str) -> None:
    spoil, code, sentence = BAD_INPUT[kind]
    spec = onnx_spec(tmp_path / "model")
    spoil(tmp_path / "model")
    done = _trident("build", spec, "--repository", tmp_path / "repository", "--artifacts", tmp_path / "artifacts")
    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("trident build: ")
    assert not (tmp_path / "repository").exists()


def test_two_specs_of_one_name_are_refused(tmp_path: Path) -> None:
    specs = [onnx_spec(tmp_path / "a"), onnx_spec(tmp_path / "b")]
    done = _trident("build", *specs, "--repository", tmp_path / "r", "--artifacts", tmp_path / "artifacts")
    assert (done.returncode, "stands in two specs" in done.stderr) == (3, True)
    with pytest.raises(SpecError):
        build([tmp_path / "none.yaml"], _options(tmp_path), Listener())


def test_a_named_axis_stays_dynamic_in_every_variant(tmp_path: Path) -> None:
    """`[N, S, 4]`: the data has S = 6, the spec promises 2 to 16; config and answers must keep that promise."""
    folder = tmp_path / "model"
    spec = torch_spec(folder, name="sequence", variants=ALL, max_drop="50pt")
    text = spec.read_text().replace("dims: [8]", "dims: [S, 4]")
    spec.write_text(text + "axes: {S: {min: 2, opt: 6, max: 16}}\n")
    (folder / "factory.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n"
        "    def forward(self, x):\n        return super().forward(x).mean(1)\n\n\n"
        "def make():\n    return Net(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))\n"
    )
    from safetensors.numpy import load_file, save_file

    state = load_file(folder / "tiny.safetensors")
    save_file(state | {"0.weight": np.ascontiguousarray(state["0.weight"][:, :4])}, folder / "tiny.safetensors")
    random = np.random.default_rng(3)
    for name in ("calibration", "evaluation"):
        x = random.normal(size=(100, 6, 4)).astype(np.float32)
        np.savez(folder / f"{name}.npz", x=x, label=np.arange(100) % 3)
    rows = build([spec], _options(tmp_path), Listener()).models[0].rows
    assert [(row.status, row.reason) for row in rows] == [("published", "")] * len(DEFAULT_VARIANTS)
    config = (tmp_path / "repository" / "sequence_onnx_fp32" / "config.pbtxt").read_text()
    parsed = text_format.Parse(config, model_config_pb2.ModelConfig())
    assert list(parsed.input[0].dims) == [-1, 4]
    assert list(parsed.model_warmup[0].inputs["x"].dims) == [6, 4]
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "repository" / "sequence_onnx_fp32" / "1" / "model.onnx")
    for size in (2, 16):
        assert session.run(None, {"x": np.zeros((3, size, 4), np.float32)})[0].shape == (3, 3)
