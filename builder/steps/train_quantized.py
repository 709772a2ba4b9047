"""Quantization-aware training: the network is fine-tuned while it is rounded, and exported as it was trained, in Q/DQ
form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from builder.artifact import Artifact, Format
from builder.data import Samples, load_samples
from builder.errors import StepError
from builder.example_inputs import example_inputs
from builder.finetune import Task, fit
from builder.losses import divergence, outputs_of
from builder.source import load_torch
from builder.spec_compress import Training
from builder.step import Step
from builder.steps.export_onnx import ExportOnnx, dynamic_shapes
from builder.training_data import Batch, batches, load_training

if TYPE_CHECKING:
    from torch import Tensor, fx

    from builder.spec import ModelSpec


@dataclass(frozen=True)
class TrainQuantized(Step):
    """Fine-tunes on at most `samples` training samples (the spec's `data.training`; without it, the calibration
    samples), `epochs` times over in batches of `batch`, by Adam at `lr`, falling to zero along a cosine. The work is
    bounded, not the time, so that every run gives the same; `seed` decides on the order.

    Labels are not needed: the network in floating point is the teacher (Hinton et al., "Distilling the Knowledge in a
    Neural Network", arXiv:1503.02531; for quantization, Polino et al., arXiv:1802.05668). The loss is the divergence of
    the classes' shares where the metric judges classes, and the squared error relative to the output's energy
    elsewhere. A tenth of the samples is held out, and the epoch that does best on it is kept: if none beats the ranges
    of calibration (`calibration` samples, min-max), these stay. `bits` are those of weights, 7 so as to leave one of
    headroom, as `QuantizeOnnxStatic` does. `builder/fake_quant.py` tells how, and where the quantizers stand.
    """

    epochs: int = 5
    lr: float = 1e-5
    batch: int = 32
    samples: int = 1000
    calibration: int = 300
    bits: int = 7
    seed: int = 0

    name: ClassVar[str] = "train_quantized"
    accepts: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnxscript")
    calibrates: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.onnx`. Raises StepError if there is nothing to quantize, too little to train on, or an exporter
        gives up."""
        from builder.fake_quant import exportable

        ExportOnnx().export(exportable(self.train(source)), source.spec, out_dir)

    def train(self, source: Artifact) -> fx.GraphModule:
        """The trained network, rounding as it will when served. Each epoch's loss is printed."""
        import torch

        from builder.fake_quant import fake_quantized

        spec = source.spec
        training = Training(
            epochs=self.epochs, lr=self.lr, batch=self.batch, samples=self.samples, seed=self.seed,
            weight_decay=0, warmup=0, device="cpu",
        )  # fmt: skip
        data = load_training(spec, training, labelled=False, file=spec.data.training or spec.data.calibration)
        calibration = load_samples(spec, spec.data.calibration, labelled=False)
        ranges = list(range(min(self.calibration, len(calibration))))
        try:
            student = fake_quantized(
                load_torch(spec, source.path),
                example_inputs(spec),
                dynamic_shapes(spec),
                (_tensors(spec, calibration, part) for part in batches(ranges, self.batch)),
                self.bits,
            )
        except (RuntimeError, ValueError, TypeError) as error:  # what torch.export raises when it gives up
            why = str(error).strip().partition("\n")[0]
            raise StepError(
                f"{spec.name} cannot be quantized for training, since torch.export does not follow it: {why}"
            ) from error
        if student is None:
            raise StepError(f"{spec.name} has no convolution or linear layer that could be quantized")
        teacher = load_torch(spec, source.path)

        def loss(outputs: list[Tensor], batch: Batch) -> Tensor:
            with torch.no_grad():
                wanted = outputs_of(teacher(*batch.inputs))
            return divergence(spec, outputs, wanted)

        fit(student, Task(spec, data, training, loss, frozen=True))
        return student


def _tensors(spec: ModelSpec, samples: Samples, rows: list[int]) -> tuple[Tensor, ...]:
    import torch

    return tuple(torch.from_numpy(samples.inputs[tensor.name][rows]) for tensor in spec.inputs)
