"""The INT8 doctor on both runtimes: the layer that INT8 breaks is found and kept in float, and no other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from builder.artifact import Artifact
from builder.doctor import Plan, split_calibration
from builder.errors import StepError
from builder.graph import graph_facts
from builder.layers import read_layers
from builder.recipes import RECIPES
from builder.runtimes import predictor
from builder.source import source_artifact
from builder.spec_file import load_spec
from builder.step import run_recipe
from builder.steps import quantize_onnx_mixed, quantize_openvino_mixed
from builder.verify import judge, sqnr_db
from core.results import LayerNoise, ModelBuild, Verdict
from tests.support.tiny import SPEC
from trident import main

RUNTIMES = ("onnx", "openvino")
NAIVE = {"onnx": "onnx_int8_static", "openvino": "openvino_int8"}
WIDTH = 16


def network(outlier: float) -> onnx.ModelProto:
    """Four convolutions and a mean, `[N, 4, 12, 12] -> [N, 3]`. One channel that `second` reads is `outlier`
    times as large as it would be, and its weights as much smaller: the same function, but one scale does not fit all
    that `second` reads."""
    random, nodes, constants, value = np.random.default_rng(0), [], [], "x"
    size = np.ones((WIDTH, 1, 1, 1), np.float32)
    size[0] = outlier
    for name, inputs, side in (("first", 4, 3), ("second", WIDTH, 1), ("third", WIDTH, 3)):
        kernel = random.normal(scale=(2 / inputs) ** 0.5 / side, size=(WIDTH, inputs, side, side)).astype(np.float32)
        kernel = kernel * size if name == "first" else kernel / size[:, 0] if name == "second" else kernel
        constants.append(numpy_helper.from_array(kernel, f"{name}_w"))
        nodes.append(helper.make_node("Conv", [value, f"{name}_w"], [f"{name}_sum"], name, pads=[side // 2] * 4))
        nodes.append(helper.make_node("Relu", [f"{name}_sum"], [value := f"{name}_active"], f"{name}_relu"))
    kernel = random.normal(size=(3, WIDTH, 1, 1)).astype(np.float32)
    constants.append(numpy_helper.from_array(kernel - kernel.mean(axis=1, keepdims=True), "last_w"))
    nodes += [
        helper.make_node("Conv", [value, "last_w"], ["map"], "last"),
        helper.make_node("GlobalAveragePool", ["map"], ["means"], "mean"),
        helper.make_node("Flatten", ["means"], ["scores"], "flatten"),
    ]
    return _model(nodes, constants, [4, 12, 12])


def single(outlier: float) -> onnx.ModelProto:
    """One fully connected layer, whose input's first value is to be `outlier` times as large as the others."""
    kernel = np.random.default_rng(3).normal(size=(8, 3)).astype(np.float32)
    kernel[0] /= outlier
    return _model(
        [helper.make_node("Gemm", ["x", "w"], ["scores"], "only")], [numpy_helper.from_array(kernel, "w")], [8]
    )


def residual() -> onnx.ModelProto:
    """Convolutions around a sum, `[N, 2, 6, 6] -> [N, 3]`. Two layers read what `before` gives, through a pooling that
    is no layer itself."""
    random = np.random.default_rng(1)
    kernels = {"before_w": (4, 2, 3, 3), "inner_w": (4, 4, 3, 3), "last_w": (4, 3), "before_b": (4,), "last_b": (3,)}
    constants = [
        numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name) for name, shape in kernels.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "before_w", "before_b"], ["a"], "before", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("MaxPool", ["b"], ["p"], "pool", kernel_shape=[2, 2]),
        helper.make_node("Conv", ["p", "inner_w"], ["c"], "inner", pads=[1] * 4),
        helper.make_node("Add", ["p", "c"], ["d"], "sum"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], "mean"),
        helper.make_node("Flatten", ["e"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "last_w", "last_b"], ["scores"], "last"),
    ]
    return _model(nodes, constants, [2, 6, 6])


def _model(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], dims: list[int]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *dims])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3])],
        constants,
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])


def write_spec(folder: Path, model: onnx.ModelProto, *, variants: str = "onnx_fp32", outlier: float = 1) -> Path:
    """Checkpoint, data labelled by the network itself (the first value `outlier` times as large), and spec."""
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    dims = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    evaluate = ReferenceEvaluator(model)
    random = np.random.default_rng(7)
    for name in ("calibration", "evaluation"):
        # A sample is light or dark in each channel, which a mean over the image lets through; and no sample goes far
        # beyond the others, since NNCF's ranges are means of the samples' own.
        level = random.choice([-0.5, 0.5], size=(300, dims[0], *(1 for _ in dims[1:])))
        x: NDArray[np.float32] = (random.uniform(-1, 1, size=(300, *dims)) + level).astype(np.float32)
        x[:, 0] *= np.float32(outlier)
        np.savez(folder / f"{name}.npz", x=x, label=evaluate.run(None, {"x": x})[0].argmax(axis=1))
    text = SPEC.format(name="net", checkpoint="{onnx: model.onnx}", max_drop="12pt", variants=variants)
    (folder / "model.yaml").write_text(text.replace("dims: [8]", f"dims: {dims}"))
    return folder / "model.yaml"


def made(spec_file: Path, variant: str) -> Artifact:
    """The variant's artifact."""
    spec, cache = load_spec(spec_file), spec_file.parent / "cache"
    steps = RECIPES[variant].steps_from("onnx")
    assert steps
    return run_recipe(steps, source_artifact(spec, cache), cache)


def verdict(artifact: Artifact, spec_file: Path) -> Verdict:
    """How it does on the evaluation samples, beside the network as it came."""
    with np.load(spec_file.parent / "evaluation.npz") as file:
        inputs, labels = {"x": file["x"]}, file["label"]
    source = source_artifact(load_spec(spec_file), spec_file.parent / "cache")
    return judge(artifact.spec, predictor(source, 1)(inputs), predictor(artifact, 1)(inputs), labels)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The spec of a network that INT8 in one layer breaks."""
    return write_spec(tmp_path_factory.mktemp("broken") / "net", network(outlier=400))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The spec of the same network without that."""
    return write_spec(tmp_path_factory.mktemp("sound") / "net", network(outlier=1))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_layer_that_int8_breaks_stays_in_float_and_no_other(broken: Path, runtime: str) -> None:
    naive, mixed = made(broken, NAIVE[runtime]), made(broken, f"{runtime}_int8_mixed")
    assert verdict(naive, broken).drop > 0.2
    assert verdict(mixed, broken).passed
    layers = read_layers(mixed.folder)
    assert {"first", "second", "third", "last"} <= {layer.layer for layer in layers}
    assert [layer.layer for layer in layers if layer.kept_float] == ["second"]
    assert layers[0].layer == "second"
    assert layers[0].sqnr_db < 20 < 30 < layers[1].sqnr_db
    plain, facts = graph_facts(naive, 1), graph_facts(mixed, 1)
    assert facts.weights == plain.weights
    if runtime == "onnx":  # `first` gives floats to `second`, and ONNX Runtime has no integer kernel that does
        assert (plain.executed["QLinearConv"], facts.executed["QLinearConv"]) == (4, 2)
    else:
        assert (plain.operators["FakeQuantize"], facts.operators["FakeQuantize"]) == (5, 4)
        assert 3 <= facts.executed_precisions["i8"] < plain.executed_precisions["i8"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_where_full_int8_passes_nothing_is_kept(sound: Path, runtime: str) -> None:
    mixed = made(sound, f"{runtime}_int8_mixed")
    assert verdict(mixed, sound).passed
    layers = read_layers(mixed.folder)
    assert not any(layer.kept_float for layer in layers)
    assert min(layer.sqnr_db for layer in layers) > 30


def test_accuracy_control_keeps_what_plain_int8_loses(broken: Path) -> None:
    assert verdict(made(broken, "openvino_int8"), broken).drop > 0.2
    controlled = made(broken, "openvino_int8_controlled")
    assert verdict(controlled, broken).passed
    assert graph_facts(controlled, 1).executed_precisions["i8"] >= 2


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_layer_has_noise_of_its_own_and_none_is_left_behind(tmp_path: Path, runtime: str) -> None:
    """With every layer in float the network is the original, to the last bits; with any one in INT8 it is not."""
    path = write_spec(tmp_path / "net", residual())
    source = made(path, f"{runtime}_fp32")
    parts = split_calibration(source.spec, Plan())
    original = predictor(source, 1)(parts.judging)["scores"]

    def trial(floats: set[str]) -> Artifact:
        folder = tmp_path / "-".join(["trial", *sorted(floats)])
        folder.mkdir(exist_ok=True)
        write(floats, folder)
        return Artifact(source.format, folder, source.spec, "", "", ("trial",))

    def noise(floats: set[str]) -> float:
        found = predictor(trial(floats), 1)(parts.judging)["scores"]
        return sqnr_db(original.astype(np.float64), found.astype(np.float64))

    def quantized(floats: set[str]) -> int:
        """How many activations are."""
        return graph_facts(trial(floats), 1).operators["QuantizeLinear" if runtime == "onnx" else "FakeQuantize"]

    if runtime == "onnx":
        model = quantize_onnx_mixed._prepared(onnx.load(source.path))
        layers = set(quantize_onnx_mixed._layers(model))
        full = quantize_onnx_mixed._quantized(model, dict(quantize_onnx_mixed._layers(model)), parts, True)

        def write(floats: set[str], folder: Path) -> None:
            onnx.save(quantize_onnx_mixed._only(full, model, layers - floats), folder / "model.onnx")
            onnx.checker.check_model(folder / "model.onnx", full_check=True)

        assert layers == {"before", "inner", "sum", "mean", "last"}
    else:
        import openvino

        model = openvino.Core().read_model(source.path)
        full = quantize_openvino_mixed._quantized(model, parts, True)
        layers = set(quantize_openvino_mixed._layers(full))

        def write(floats: set[str], folder: Path) -> None:
            found = quantize_openvino_mixed._without(full, model, floats)
            openvino.save_model(found, folder / "model.xml", compress_to_fp16=False)

        assert layers >= {"before", "inner", "last"}
    assert noise(layers) > 100
    found = {name: noise(layers - {name}) for name in layers}
    assert all(3 < one < 80 for one in found.values()), found
    assert noise(set()) < min(found.values()) + 3
    # What the pooling gives is quantized for the one that is in INT8, and for the other it is not.
    assert (quantized(layers - {"inner"}), quantized(layers - {"sum"})) == (1, 2)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_network_that_int8_never_fits_fails_in_one_sentence(tmp_path: Path, runtime: str) -> None:
    path = write_spec(tmp_path / "net", single(outlier=400), outlier=400)
    with pytest.raises(StepError, match=r"^net loses more than 6 points on .* even with one layer in INT8; stay with"):
        made(path, f"{runtime}_int8_mixed")


def test_a_network_without_such_layers_fails_in_one_sentence(tmp_path: Path) -> None:
    weights = [numpy_helper.from_array(np.ones(3, np.float32), "three")]
    nodes = [
        helper.make_node("Sin", ["x"], ["y"], "sine"),
        helper.make_node("Mul", ["y", "three"], ["scores"], "triple"),
    ]
    path = write_spec(tmp_path / "net", _model(nodes, weights, [3]))
    with pytest.raises(StepError, match="net has no layer that INT8 applies to"):
        made(path, "onnx_int8_mixed")


def test_build_tells_the_diagnosis_and_the_command_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_spec(tmp_path / "net", network(outlier=400), variants="onnx_fp32, onnx_int8_mixed")
    where = ["--artifacts", str(tmp_path / "a")]
    with pytest.raises(SystemExit) as done:
        main.main(["build", str(path), "--repository", str(tmp_path / "r"), *where])
    assert done.value.code == 0
    told = "Of 5 layers that INT8 applies to, 1 stays in float. It hurts most in second (Conv)"
    assert f"i onnx_int8_mixed: {told}" in capsys.readouterr().out
    row = ModelBuild.model_validate_json((tmp_path / "a" / "net" / "build.json").read_bytes()).rows[1]
    assert (row.status, row.reason) == ("published", "")
    assert [layer.layer for layer in row.layers if layer.kept_float] == ["second"]
    with pytest.raises(SystemExit) as shown:
        main.main(["doctor", "net", *where])
    assert shown.value.code == 0
    assert told in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main.main(["doctor", "net", *where, "--json"])
    found = json.loads(capsys.readouterr().out)["onnx_int8_mixed"]
    assert [LayerNoise(**layer) for layer in found] == list(row.layers)
