"""What makes a good repository bad: one fault or more for each rule of `trident lint`. Used by its tests, by the
benchmark, and to show the real server's own words."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.lint_repositories import (
    ENSEMBLE_CONFIG,
    HEAD,
    ONNX_CONFIG,
    OPENVINO_CONFIG,
    PYTHON_CONFIG,
    QUEUE,
    REST,
    TENSORRT_CONFIG,
    TORCH_CONFIG,
    WARMUP,
    Make,
    decoupled,
    good_ensemble,
    good_labels,
    good_onnx,
    good_openvino,
    good_tensorrt,
    onnx_bytes,
    openvino_bytes,
    side_by_side,
    write,
)  # fmt: skip


def swap(old: str, new: str, base: Callable[[Path], Path] = good_onnx) -> Make:
    """A good repository with a change in its (last) configuration."""

    def make(root: Path) -> None:
        path = base(root) / "config.pbtxt"
        text = path.read_text()
        assert old in text, old
        path.write_text(text.replace(old, new))

    return make


def with_file(data: Callable[[], bytes], config: str = ONNX_CONFIG, name: str = "model.onnx") -> Make:
    """A model whose file is another."""
    return lambda root: write(root, config, {name: data()})


def after(change: Callable[[Path], object], base: Callable[[Path], Path] = good_onnx) -> Make:
    """A good repository and what is then done to its (last) model's folder."""
    return lambda root: change(base(root))


def archive(entries: dict[str, bytes]) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for name, data in entries.items():
            zipped.writestr(name, data)
    return file.getvalue()


def calls_itself(root: Path) -> None:
    """Two ensembles, each a step of the other."""
    for name, other in (("e", "f"), ("f", "e")):
        config = ENSEMBLE_CONFIG.replace('name: "e"', f'name: "{name}"').replace(
            'model_name: "m"', f'model_name: "{other}"'
        )
        config = config.replace('key: "y"', 'key: "answer"')
        write(root, config, {}, name)


def linked_away(folder: Path) -> None:
    """The model's file becomes a link to one beside the repository."""
    elsewhere = folder.parent.with_name("elsewhere.onnx")
    shutil.move(folder / "1" / "model.onnx", elsewhere)
    (folder / "1" / "model.onnx").symlink_to(elsewhere)


def free_outputs(root: Path) -> None:
    """An IR with an output of any size."""
    xml, weights = openvino_bytes(free=True)
    config = OPENVINO_CONFIG.replace('"y" data_type: TYPE_FP32 dims: [ 3 ]', '"y" data_type: TYPE_INT64 dims: [ -1 ]')
    write(root, config, {"model.xml": xml, "model.bin": weights})


def edit(path: Path, old: str, new: str) -> None:
    """Replaces text in a file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@dataclass(frozen=True)
class Fault:
    """One way to break a repository. `also` are other rules that cannot but find it too; `model` is the one that the
    server then refuses. `says` is what it says, if not the rule's words; empty if the embedded server cannot show
    it."""

    code: str
    make: Make
    release: str = "26.07"
    also: tuple[str, ...] = ()
    model: str = "m"
    says: str | None = None


MIN_OPSET: Final = 'parameters { key: "intra_op_thread_count" value { string_value: "1" } }'
FAULTS: Final = (
    Fault("TRN001", swap("dims: [ 4 ]", "dims: [ 4")),
    Fault("TRN001", swap('name: "m"', 'name "m"')),
    Fault("TRN002", swap("max_batch_size", "max_batchsize")),
    Fault("TRN002", swap("dynamic_batching {", "max_queue_delay_microseconds: 5\ndynamic_batching {")),
    Fault("TRN003", swap('x" data_type: TYPE_FP32', 'x" data_type: TYPE_FLOAT32')),
    Fault("TRN003", swap("max_batch_size: 8", 'max_batch_size: "8"')),
    Fault("TRN003", swap("KIND_CPU", "CPU")),
    Fault("TRN004", swap(MIN_OPSET, f"{MIN_OPSET}\nmodel_metrics {{ }}"), "24.10"),
    Fault(
        "TRN004",
        swap("ensemble_scheduling {", "ensemble_scheduling {\n  max_inflight_requests: 8", good_ensemble),
        "25.06",
        model="e",
    ),
    Fault("TRN005", after(lambda folder: (folder / "config.pbtxt").write_bytes(b"\x08\x01\x00\xff\xfe"))),
    Fault("TRN006", swap("max_batch_size: 8", "max_batch_size: 8\nmax_batch_size: 4")),
    Fault("TRN101", lambda root: (good_onnx(root), (root / "notes").mkdir()), model="notes"),
    Fault("TRN102", after(lambda folder: shutil.rmtree(folder / "1"))),
    Fault("TRN103", after(lambda folder: shutil.copytree(folder / "1", folder / "2.tmp"))),
    Fault("TRN104", after(lambda folder: shutil.copytree(folder / "1", folder / "02"))),
    Fault("TRN104", after(lambda folder: shutil.copytree(folder / "1", folder / "old"))),
    Fault("TRN105", after(lambda folder: (folder / "1" / "model.onnx").rename(folder / "1" / "net.onnx"))),
    Fault("TRN106", swap('name: "m"', 'name: "net"')),
    Fault("TRN107", after(lambda folder: (folder / "labels.txt").unlink(), good_labels)),
    Fault("TRN108", after(lambda folder: (folder / "labels.txt").write_text("a\nb\n"), good_labels)),
    Fault("TRN109", swap("backend:", 'default_model_filename: "../2/model.onnx"\nbackend:')),
    Fault("TRN109", lambda root: good_onnx(root).rename(root / "m;reboot"), also=("TRN106",)),
    Fault(
        "TRN110",
        after(
            lambda folder: (folder / "1" / "model.onnx").unlink() or (folder / "1" / "model.onnx").symlink_to("none")
        ),
    ),
    Fault("TRN111", after(linked_away)),
    Fault("TRN112", swap("backend:", "version_policy { specific { versions: [ 3 ] } }\nbackend:")),
    Fault("TRN113", after(lambda folder: (folder / "config.pbtxt").unlink()), also=("TRN402",)),
    Fault("TRN114", swap('backend: "onnxruntime"', 'platform: "onnx"')),
    Fault(
        "TRN114",
        swap('backend: "onnxruntime"', 'backend: "tensorflow"'),
        says="unexpected 'platform' and 'backend' pair",
    ),
    Fault("TRN115", with_file(lambda: onnx_bytes()[:-40])),
    Fault("TRN115", with_file(lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")),
    Fault("TRN115", with_file(lambda: archive({"net/data.pkl": b"", "net/data/0": b""}), TORCH_CONFIG, "model.pt")),
    Fault("TRN115", with_file(lambda: b"vtrt" + bytes(60), TENSORRT_CONFIG, "model.plan"), says=""),
    Fault(
        "TRN115",
        with_file(lambda: b"class Model: pass\n", PYTHON_CONFIG, "model.py"),
        says="has no attribute 'TritonPythonModel'",
    ),
    Fault("TRN115", with_file(lambda: b"<net version='11'><layers>", OPENVINO_CONFIG, "model.xml")),
    Fault("TRN116", with_file(lambda: onnx_bytes(external="model.onnx.data"))),
    Fault("TRN116", with_file(lambda: onnx_bytes(external="../../../secret"))),
    Fault("TRN116", after(lambda folder: (folder / "1" / "model.bin").unlink(), good_openvino)),
    Fault("TRN201", with_file(lambda: onnx_bytes(batch=1))),
    Fault("TRN202", swap("max_batch_size: 8\n", "")),
    Fault("TRN203", swap("max_queue_delay", "preferred_batch_size: [ 4, 16 ]\n  max_queue_delay")),
    Fault("TRN204", swap("max_queue_delay", "preferred_batch_size: [ 2, 4 ]\n  max_queue_delay")),
    Fault("TRN205", swap("max_batch_size: 8", "max_batch_size: 1")),
    Fault("TRN206", swap("dynamic_batching {\n  max_queue_delay_microseconds: 100\n" + QUEUE + "}\n", "")),
    Fault("TRN207", swap("microseconds: 100", "microseconds: 5000000")),
    Fault("TRN207", swap("max_queue_size: 64", "default_timeout_microseconds: 100")),
    Fault("TRN301", swap('name: "x"', 'name: "input"'), also=("TRN408",)),
    Fault("TRN301", swap('name: "y"', 'name: "logits"')),
    Fault("TRN301", swap('name: "x"', 'name: "z"', good_openvino), also=("TRN408",)),
    Fault("TRN302", swap('"y" data_type: TYPE_FP32', '"y" data_type: TYPE_FP16')),
    Fault("TRN303", swap("dims: [ 4 ] } ]", "dims: [ -1, 4 ] } ]")),
    Fault("TRN303", swap("dims: [ 3 ]", "dims: [ 5 ]")),
    Fault("TRN304", swap(" dims: [ 3 ]", "")),
    Fault("TRN304", swap("dims: [ 3 ]", "dims: [ 0 ]"), also=("TRN303",), says="dimension must be integer >= 1"),
    Fault("TRN305", swap('"y" data_type: TYPE_FP32', '"y"')),
    Fault("TRN306", swap('name: "y" ', "")),
    Fault("TRN306", swap("output [ {", 'output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] }, {'), says=""),
    Fault("TRN307", swap("dims: [ 3 ]", "dims: [ 3 ] reshape { shape: [ 2, 2 ] }"), also=("TRN303",)),
    Fault("TRN308", swap('output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] } ]\n', "")),
    Fault("TRN401", swap("count: 1", "count: 4")),
    Fault(
        "TRN401",
        swap('"intra_op_thread_count" value { string_value: "1"', '"intra_op_thread_count" value { string_value: "8"'),
    ),
    Fault("TRN402", with_file(onnx_bytes, HEAD + REST.partition("\n")[2].replace("intra_op", "inter_op") + WARMUP)),
    Fault(
        "TRN403",
        lambda root: write(
            root,
            ONNX_CONFIG.replace("KIND_CPU", "KIND_GPU"),
            {"model.onnx": onnx_bytes(operator="DynamicQuantizeLinear")},
        ),
    ),
    Fault("TRN404", swap("KIND_CPU count: 1", "KIND_CPU count: 1 gpus: [ 0 ]")),
    Fault("TRN404", swap("KIND_CPU", "KIND_GPU", good_openvino), says="no GPUs are available"),
    Fault("TRN404", swap("KIND_GPU", "KIND_CPU", good_tensorrt), says=""),
    Fault("TRN405", swap(QUEUE, "")),
    Fault("TRN406", good_onnx, "wheel"),
    Fault("TRN407", swap(WARMUP, "")),
    Fault(
        "TRN408",
        swap('key: "x" value { data_type: TYPE_FP32 dims: [ 4 ]', 'key: "x" value { data_type: TYPE_FP32 dims: [ -1 ]'),
    ),
    Fault("TRN408", swap("zero_data: true", 'input_data_file: "sample"')),
    # The embedded server mostly says so, and was seen to hang or end instead.
    Fault("TRN408", swap("batch_size: 1", "batch_size: 64"), says=""),
    Fault("TRN501", swap('model_name: "m"', 'model_name: "net"', good_ensemble), model="e"),
    Fault(
        "TRN501",
        swap("model_version: -1", "model_version: 7", good_ensemble),
        model="e",
        says="whose required version 7 is not loaded",
    ),
    Fault("TRN502", swap('input_map { key: "x"', 'input_map { key: "image"', good_ensemble), model="e"),
    Fault(
        "TRN503",
        swap('output_map { key: "y" value: "answer"', 'output_map { key: "y" value: "answers"', good_ensemble),
        model="e",
    ),
    Fault("TRN504", swap('"answer" data_type: TYPE_FP32', '"answer" data_type: TYPE_FP16', good_ensemble), model="e"),
    Fault(
        "TRN504",
        swap('"x" data_type: TYPE_FP32 dims: [ 4 ]', '"x" data_type: TYPE_FP32 dims: [ 5 ]', good_ensemble),
        model="e",
        says="inconsistent shape",
    ),
    Fault("TRN505", calls_itself, model="e"),
    Fault("TRN506", swap("max_batch_size: 8", "max_batch_size: 16", good_ensemble), model="e"),
    Fault(
        "TRN507",
        swap("max_batch_size: 8", "max_batch_size: 8\ninstance_group [ { count: 2 } ]", good_ensemble),
        model="e",
    ),
    Fault("TRN508", side_by_side, "26.01", model="e"),
    Fault("TRN508", decoupled, "26.01", model="e"),
    Fault("TRN601", with_file(lambda: onnx_bytes(ir_version=14))),
    Fault("TRN602", with_file(lambda: onnx_bytes(opset=28))),
    Fault("TRN602", with_file(lambda: onnx_bytes(opset=23)), "25.06", says=""),
    Fault(
        "TRN603",
        after(lambda folder: edit(folder / "1" / "model.xml", 'version="opset1"', 'version="opset40"'), good_openvino),
    ),
    Fault("TRN604", swap('"YES"', '"NO"', good_openvino)),
    Fault("TRN605", free_outputs),
    Fault("TRN606", with_file(lambda: onnx_bytes(operator="Conv", domain="com.microsoft.nchwc"))),
)
