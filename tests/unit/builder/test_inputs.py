"""Checkpoints and data that must be refused, each with one sentence and with nothing run, opened or written."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from builder.data import check_data, examine_samples, load_samples, warnings
from builder.errors import CheckpointError, DataError
from builder.onnx_file import MAX_OPSET, read_onnx
from builder.source import load_torch, source_sha256
from builder.spec_file import load_spec
from core.results import MetricValue
from tests.support.tiny import forward, onnx_model, onnx_spec, torch_spec


def test_missing_checkpoint(tmp_path: Path) -> None:
    path = torch_spec(tmp_path)
    (tmp_path / "tiny.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors does not exist; correct `checkpoint`"):
        source_sha256(load_spec(path))


def test_a_good_checkpoint_loads_and_computes(tmp_path: Path) -> None:
    import torch

    network = load_torch(load_spec(torch_spec(tmp_path)))
    x = np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32)
    with torch.no_grad():
        assert np.allclose(network(torch.from_numpy(x)).numpy(), forward(x), atol=1e-5)


def test_wrong_keys_and_shapes(tmp_path: Path) -> None:
    spec = load_spec(torch_spec(tmp_path))
    factory = tmp_path / "factory.py"
    factory.write_text(factory.read_text().replace("nn.Linear(16, 3)", "nn.Linear(16, 4)"))
    with pytest.raises(CheckpointError, match=r"2\.\w+ is \[3.*\] in the file and \[4.*\] in the network"):
        load_torch(spec)
    factory.write_text(factory.read_text().replace("nn.ReLU(), ", "nn.ReLU(), nn.ReLU(), "))
    with pytest.raises(CheckpointError, match=r"2 missing \(3\.bias, 3\.weight\) 2 unexpected \(2\.bias, 2\.weight\)"):
        load_torch(spec)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
def test_a_pickle_that_executes_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Attack:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {canary}",)

    path = torch_spec(tmp_path)
    path.write_text(path.read_text().replace("tiny.safetensors", "evil.pt"))
    for protocol in (2, 4):
        (tmp_path / "evil.pt").write_bytes(pickle.dumps({"0.weight": Attack()}, protocol=protocol))
        with pytest.raises(CheckpointError, match=r"refused|cannot be read"):
            load_torch(load_spec(path))
    import torch

    torch.save({"0.weight": Attack()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"is refused: it holds more than tensors.*nothing was run"):
        load_torch(load_spec(path))
    assert not canary.exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04broken"])
@pytest.mark.parametrize("name", ["broken.pt", "broken.safetensors"])
def test_damaged_checkpoint(tmp_path: Path, content: bytes, name: str) -> None:
    path = torch_spec(tmp_path)
    path.write_text(path.read_text().replace("tiny.safetensors", name))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_torch(load_spec(path))


def test_a_factory_that_fails(tmp_path: Path) -> None:
    path = torch_spec(tmp_path)
    (tmp_path / "factory.py").write_text("def make():\n    raise RuntimeError('no such thing')\n")
    with pytest.raises(CheckpointError, match=r"failed: RuntimeError: no such thing"):
        load_torch(load_spec(path))
    (tmp_path / "factory.py").write_text("def make():\n    raise RuntimeError('Error(s):\\n\\tMissing key: a\\n  ')\n")
    with pytest.raises(CheckpointError, match=r"failed: RuntimeError: Error\(s\): Missing key: a$"):
        load_torch(load_spec(path))
    (tmp_path / "factory.py").write_text("def make():\n    return 1\n")
    with pytest.raises(CheckpointError, match="returned int, not a torch module"):
        load_torch(load_spec(path))


def _external(folder: Path, location: str, data: Path) -> Path:
    """An ONNX file whose weights are said to lie at `location`; `data` is the file that really holds them."""
    folder.mkdir(exist_ok=True)
    onnx.save(onnx_model(), folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    data.parent.mkdir(parents=True, exist_ok=True)
    (folder / "weights.bin").rename(data)
    for tensor in model.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = location
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def test_external_data_beside_the_model_is_read(tmp_path: Path) -> None:
    path = _external(tmp_path / "m", "weights.bin", tmp_path / "m" / "weights.bin")
    model = read_onnx(path)
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)


def test_external_data_outside_the_folder_is_refused(tmp_path: Path) -> None:
    inside, outside = tmp_path / "m", tmp_path / "secret" / "weights.bin"
    for location in ("../secret/weights.bin", str(outside), "sub/../../secret/weights.bin"):
        with pytest.raises(CheckpointError, match="outside the model's folder; refused"):
            read_onnx(_external(inside, location, outside))


def test_external_data_through_links_is_refused(tmp_path: Path) -> None:
    inside, outside = tmp_path / "m", tmp_path / "secret" / "weights.bin"
    path = _external(inside, "link.bin", outside)
    (inside / "link.bin").symlink_to(outside)
    with pytest.raises(CheckpointError, match="refused"):
        read_onnx(path)
    (inside / "link.bin").unlink()
    (inside / "link.bin").hardlink_to(outside)
    with pytest.raises(CheckpointError, match="is missing or a link; refused"):
        read_onnx(path)
    path = _external(inside, "sub/weights.bin", outside)
    (inside / "sub").symlink_to(outside.parent)
    with pytest.raises(CheckpointError, match="refused"):
        read_onnx(path)


def test_external_data_beyond_its_file_is_refused(tmp_path: Path) -> None:
    path = _external(tmp_path / "m", "weights.bin", tmp_path / "m" / "weights.bin")
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "length":
            entry.value = "99999999"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="bytes, which that file does not have"):
        read_onnx(path)


def test_damaged_onnx(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\xff\xff no model")
    with pytest.raises(CheckpointError, match="cannot be read as an ONNX model"):
        read_onnx(tmp_path / "model.onnx")


def test_an_opset_that_is_too_new_is_named_with_the_limit(tmp_path: Path) -> None:
    model = onnx_model()
    model.opset_import[0].version = MAX_OPSET + 1
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(
        CheckpointError, match=rf"is at opset {MAX_OPSET + 1}, and the newest that the runtimes .* {MAX_OPSET}; "
    ):
        read_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize(("domain", "sentence"), [
    ("com.acme", "uses the operator Wobble of domain 'com.acme', which neither ONNX nor ONNX Runtime has"),
    ("", "is not a valid ONNX model: .*Wobble"),
])  # fmt: skip
def test_an_unknown_operator_is_named_wherever_it_stands(tmp_path: Path, domain: str, sentence: str) -> None:
    model = onnx_model()
    wobble = onnx.helper.make_node("Wobble", ["hidden"], ["active"], domain=domain)
    condition = onnx.helper.make_node("Constant", [], ["yes"], value=onnx.numpy_helper.from_array(np.array(True)))
    branch = onnx.helper.make_graph([wobble], "branch", [], [onnx.helper.make_empty_tensor_value_info("active")])
    choice = onnx.helper.make_node("If", ["yes"], ["active"], then_branch=branch, else_branch=branch)
    for nodes in ([wobble], [condition, choice]):
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        del changed.graph.node[:]
        changed.graph.node.extend([model.graph.node[0], *nodes, model.graph.node[2]])
        if domain:
            changed.opset_import.append(onnx.helper.make_opsetid(domain, 1))
        onnx.save(changed, tmp_path / "model.onnx")
        with pytest.raises(CheckpointError, match=sentence):
            read_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize(("kind", "name"), [("torchscript", "bad.pt"), ("exported", "bad.pt2")])
@pytest.mark.parametrize("content", [b"", b"no program", b"PK\x03\x04broken"])
def test_a_damaged_program(tmp_path: Path, kind: str, name: str, content: bytes) -> None:
    path = torch_spec(tmp_path)
    text = path.read_text().replace(
        "state_dict: tiny.safetensors, factory: factory.py:make", f"{kind}: {name}, trust: true"
    )
    path.write_text(text)
    with pytest.raises(CheckpointError, match=rf"{name} does not exist"):
        source_sha256(load_spec(path))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name} cannot be loaded as a"):
        load_torch(load_spec(path))


def test_samples_out_of_an_axis_range(tmp_path: Path) -> None:
    path = onnx_spec(tmp_path)
    text = path.read_text().replace("dims: [8]", "dims: [S]")
    path.write_text(text + "axes: {S: {min: 9, opt: 9, max: 12}}\n")
    spec = load_spec(path)
    with pytest.raises(DataError, match=r"evaluation\.npz: axis S of 'x' is 8, and `axes` says 9 to 12; correct the d"):
        load_samples(spec, spec.data.evaluation)


def test_wrong_types_in_the_calibration_set(tmp_path: Path) -> None:
    spec = load_spec(onnx_spec(tmp_path))
    np.savez(tmp_path / "calibration.npz", x=X.astype(np.int64))
    with pytest.raises(DataError, match=r"calibration\.npz: 'x' \(after preprocess\) must hold x: float32 .* int64"):
        load_samples(spec, spec.data.calibration, labelled=False)


def _save(folder: Path, **arrays: np.ndarray) -> None:
    np.savez(folder / "evaluation.npz", **arrays)


X, LABEL = np.zeros((5, 8), np.float32), np.zeros(5, np.int64)
NAN = np.where(np.arange(40).reshape(5, 8) == 9, np.nan, 0).astype(np.float32)
BAD_DATA = {
    "NaN": ({"x": NAN, "label": LABEL}, "holds NaN or infinity in 1 samples"),
    "empty": ({"x": X[:0], "label": LABEL[:0]}, r"must be \[n\] with n > 0"),
    "wrong dims": ({"x": X[:, :7], "label": LABEL}, r"x: float32 \[N, 8\], but its shape is \[5, 7\]"),
    "wrong type": ({"x": X.astype(np.float64), "label": LABEL}, "its data type is float64"),
    "no input": ({"y": X, "label": LABEL}, "has no array 'x'; it holds y, label"),
    "no labels": ({"x": X}, "has no array 'label'"),
    "fewer labels": ({"x": X, "label": LABEL[:3]}, "'x' has 5 samples, 'label' 3"),
    "labels of floats": ({"x": X, "label": LABEL.astype(np.float32)}, "must hold whole numbers"),
    "labels of one number": ({"x": X, "label": LABEL[0]}, "'label' is a single number"),
    "input of one number": ({"x": X[0, 0], "label": LABEL}, "'x' is a single number"),
    "pickled objects": ({"x": np.array([object()] * 5), "label": LABEL}, r"cannot be read as an \.npz archive"),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_bad_data_is_refused(tmp_path: Path, kind: str) -> None:
    spec = load_spec(onnx_spec(tmp_path))
    arrays, sentence = BAD_DATA[kind]
    _save(tmp_path, **arrays)
    with pytest.raises(DataError, match=sentence):
        load_samples(spec, spec.data.evaluation)


def test_data_that_is_missing_or_no_archive(tmp_path: Path) -> None:
    spec = load_spec(onnx_spec(tmp_path))
    spec.data.evaluation.write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read"):
        load_samples(spec, spec.data.evaluation)
    spec.data.evaluation.unlink()
    with pytest.raises(DataError, match="does not exist; correct `data`"):
        load_samples(spec, spec.data.evaluation)


def test_shared_samples_and_labels_without_a_class(tmp_path: Path) -> None:
    spec = load_spec(onnx_spec(tmp_path))
    calibration = load_samples(spec, spec.data.calibration)
    evaluation = load_samples(spec, spec.data.evaluation)
    check_data(spec, calibration, evaluation)
    both = {name: np.concatenate([array, calibration.inputs[name][:2]]) for name, array in evaluation.inputs.items()}
    _save(tmp_path, **both, label=np.r_[evaluation.labels, 0, 0])
    with pytest.raises(DataError, match=r"2 samples stand in both calibration\.npz and evaluation\.npz"):
        check_data(spec, calibration, load_samples(spec, spec.data.evaluation))
    _save(tmp_path, **evaluation.inputs, label=np.full(len(evaluation), 3))
    with pytest.raises(DataError, match="labels go from 3 to 3, but output 'scores' has 3 classes"):
        check_data(spec, calibration, load_samples(spec, spec.data.evaluation))


def test_data_that_the_preprocessing_cannot_take(tmp_path: Path) -> None:
    path = onnx_spec(tmp_path)
    path.write_text(path.read_text() + "preprocess: {x: [{op: normalize, mean: [0, 0, 0], std: [1, 1, 1]}]}\n")
    spec = load_spec(path)
    _save(tmp_path, x=np.zeros((5, 2, 8, 8), np.uint8), label=LABEL)
    with pytest.raises(DataError, match=r"'x': preprocess 'normalize' does not fit the .*\[5, 2, 8, 8\]"):
        load_samples(spec, spec.data.evaluation)
    _save(tmp_path, x=np.full((5, 8), "a"), label=LABEL)
    with pytest.raises(DataError, match=r"must hold x: float32 \[N, 8\], but its data type is <U1"):
        load_samples(spec, spec.data.evaluation)


def test_what_has_the_networks_type_is_ready_and_pixels_are_not(tmp_path: Path) -> None:
    path = onnx_spec(tmp_path)
    path.write_text(path.read_text() + "preprocess: {x: [{op: scale, by: 0.5}]}\n")
    spec = load_spec(path)
    for x, expected in ((np.full((5, 8), 4, np.float32), 4.0), (np.full((5, 8), 4, np.uint8), 2.0)):
        _save(tmp_path, x=x, label=LABEL)
        found = load_samples(spec, spec.data.evaluation).inputs["x"]
        assert (found.dtype, float(found[0, 0])) == (np.float32, expected)


def test_what_most_likely_is_a_mistake_is_warned_of(tmp_path: Path) -> None:
    spec = load_spec(onnx_spec(tmp_path))
    few = load_samples(spec, spec.data.calibration)
    guess = MetricValue(name="top1", value=0.34, ci95=(0.3, 0.38), samples=300)
    good = guess.model_copy(update={"value": 0.9, "ci95": (0.85, 0.95)})
    assert warnings(spec, few, good) == ()
    (guessing,) = warnings(spec, few, guess)
    assert "scores 34.0%, and guessing scores 33.3%: check `preprocess`" in guessing
    _save(tmp_path, x=X, label=LABEL)
    (hardly,) = warnings(spec, load_samples(spec, spec.data.evaluation), good)
    assert "calibration.npz holds 5 samples" in hardly


def test_only_evaluation_needs_labels(tmp_path: Path) -> None:
    spec = load_spec(onnx_spec(tmp_path))
    _save(tmp_path, x=X)
    samples = load_samples(spec, spec.data.evaluation, labelled=False)
    assert len(samples) == 5
    assert samples.inputs["x"].shape == (5, 8)
    _save(tmp_path, x=X[:0])
    with pytest.raises(DataError, match=r"'x' must be \[n, ...\] with n > 0, but it is \[0, 8\]"):
        load_samples(spec, spec.data.evaluation, labelled=False)


def test_calibration_samples_are_examined_without_holding_them_all_preprocessed(tmp_path: Path) -> None:
    path = onnx_spec(tmp_path)
    path.write_text(
        path.read_text().replace("dims: [8]", "dims: [3, 64, 64]") + "preprocess: {x: [{op: scale, by: 0.5}]}\n"
    )
    spec = load_spec(path)
    pixels = np.random.default_rng(0).integers(0, 255, (400, 3, 64, 64), dtype=np.uint8)
    np.savez(tmp_path / "calibration.npz", x=pixels)
    tracemalloc.start()
    found = examine_samples(spec, spec.data.calibration)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * pixels.nbytes  # in float32 they are 4 times as large
    whole = load_samples(spec, spec.data.calibration, labelled=False)
    assert found.digests == whole.digests
    assert len(found) == len(set(found.digests)) == 400
    with pytest.raises(DataError, match=r"400 samples stand in both calibration\.npz and evaluation\.npz"):
        check_data(spec, found, whole)
    broken = pixels.astype(np.float32)
    broken[333, 0, 0, 0] = np.nan
    np.savez(tmp_path / "calibration.npz", x=broken)
    with pytest.raises(DataError, match="'x' holds NaN or infinity in 1 samples"):
        examine_samples(spec, spec.data.calibration)


@pytest.mark.parametrize(("dims", "refused"), [("[3, 1, 1]", False), ("[1, 2]", True), ("[K, 2]", False)])
def test_the_classes_are_counted_over_all_dims(tmp_path: Path, dims: str, refused: bool) -> None:
    path = onnx_spec(tmp_path)
    axes = "axes: {K: {min: 1, opt: 2, max: 3}}\n" if "K" in dims else ""
    path.write_text(path.read_text().replace("dims: [3]", f"dims: {dims}") + axes)
    spec = load_spec(path)
    sets = [load_samples(spec, file) for file in (spec.data.calibration, spec.data.evaluation)]
    if refused:
        with pytest.raises(DataError, match="labels go from 0 to 2, but output 'scores' has 2 classes"):
            check_data(spec, *sets)
    else:
        check_data(spec, *sets)
