"""Whether a release of Triton can load each artifact of a repository, by the table of releases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from lint.releases import BACKEND_UNTIL, Release, onnx_limits, openvino_limit
from lint.repository import Model

Answer = Literal["yes", "no", "unknown"]
TORCHSCRIPT_READS: Final = 10
"""The newest format of TorchScript archives; PyTorch has not raised it since 1.9, and every release here is newer."""


@dataclass(frozen=True)
class Judgement:
    """Whether one file loads, and why. `lower` are the IR version and opset that it would have to be lowered to, where
    that would make it load; the opset is 0 where it is low enough."""

    model: str
    file: Path
    loads: Answer
    reason: str
    lower: tuple[int, int] | None = None


def judge(model: Model, release: Release) -> Judgement | None:
    """What becomes of a model's newest version; None where there is no file to judge, as with an ensemble."""
    file = model.file
    until = BACKEND_UNTIL.get(model.backend)
    if until is not None and release.server > until:
        last = ".".join(map(str, until))
        return Judgement(
            model.name, model.path, "no", f"its backend {model.backend} was in the image up to Triton {last}"
        )
    if file is None:
        return None
    if file.trouble:
        return Judgement(model.name, file.path, "no", file.trouble)
    match file.form:
        case "onnx" if model.backend == "onnxruntime":
            return _onnx(model, release)
        case "openvino":
            return _openvino(model, release)
        case "torchscript":
            return _torchscript(model)
        case "tensorrt":
            return Judgement(model.name, file.path, "unknown", _tensorrt(file.made_by, release))
        case "python":
            reason = (
                "Python source; the packages that it imports must be in the server's Python, which is not looked at"
            )
            return Judgement(model.name, file.path, "unknown", reason)
        case _:
            return Judgement(model.name, file.path, "unknown", f"nothing is known of {file.form} under {model.backend}")


def _tensorrt(made_by: str, release: Release) -> str:
    """What can be said of a plan: it loads where TensorRT and GPU are those that it was made on."""
    rule = "a plan runs on the TensorRT that made it, and on its kind of GPU (unless it was built to be compatible)"
    made = f"this one was made by TensorRT {made_by}" if made_by else "this one does not say which that is"
    there = (
        f"the trtllm image of {release.name} has {release.tensorrt}, of the plain one Triton's document says nothing"
        if release.tensorrt
        else f"of that in {release.name} Triton's document says nothing"
    )
    return f"{rule}; {made}; {there}"


def _onnx(model: Model, release: Release) -> Judgement:
    assert model.file is not None
    file, (ir_version, opset) = model.file, onnx_limits(release)
    stamped = f"IR version {file.ir_version}, opset {file.opset}"
    reads = f"ONNX Runtime {release.onnxruntime} reads up to {ir_version} and {opset}"
    if file.ir_version <= ir_version and file.opset <= opset:
        return Judgement(model.name, file.path, "yes", f"{stamped}; {reads}")
    lower = (min(file.ir_version, ir_version), opset if file.opset > opset else 0)
    return Judgement(model.name, file.path, "no", f"{stamped}; {reads}", lower)


def _openvino(model: Model, release: Release) -> Judgement:
    assert model.file is not None
    limit = openvino_limit(release)
    reason = f"opset{model.file.opset}; OpenVINO {release.openvino} knows up to opset{limit}"
    return Judgement(model.name, model.file.path, "yes" if model.file.opset <= limit else "no", reason)


def _torchscript(model: Model) -> Judgement:
    assert model.file is not None
    version = model.file.ir_version
    if not version:
        return Judgement(model.name, model.file.path, "unknown", "the archive does not say its format")
    reason = f"format {version}; PyTorch 2 reads up to {TORCHSCRIPT_READS}; operators of extensions are not looked at"
    return Judgement(model.name, model.file.path, "yes" if version <= TORCHSCRIPT_READS else "no", reason)
