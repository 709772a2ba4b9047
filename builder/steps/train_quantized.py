"""Quantization-aware training: the network is fine-tuned while it is rounded, and exported as it was trained, in Q/DQ
form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from builder.artifact import Artifact, Format
from builder.data import Samples, load_samples
from builder.errors import StepError
from builder.example_inputs import example_inputs
from builder.source import load_torch
from builder.step import Step
from builder.steps.export_onnx import ExportOnnx, dynamic_shapes

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

    from builder.spec import ModelSpec

FEWEST = 10  # samples, of which a tenth is held out


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
        from builder.fake_quant import fake_quantized

        spec = source.spec
        training = load_samples(spec, spec.data.training or spec.data.calibration, labelled=False)
        calibration = load_samples(spec, spec.data.calibration, labelled=False)
        if len(training) < FEWEST:
            raise StepError(f"{spec.name} has {len(training)} samples to train on; give {FEWEST} or more, better 1000")
        ranges = list(range(min(self.calibration, len(calibration))))
        try:
            student = fake_quantized(
                load_torch(spec, source.path),
                example_inputs(spec),
                dynamic_shapes(spec),
                (_tensors(spec, calibration, part) for part in _batches(ranges, self.batch)),
                self.bits,
            )
        except (RuntimeError, ValueError, TypeError) as error:  # what torch.export raises when it gives up
            why = str(error).strip().partition("\n")[0]
            raise StepError(
                f"{spec.name} cannot be quantized for training, since torch.export does not follow it: {why}"
            ) from error
        if student is None:
            raise StepError(f"{spec.name} has no convolution or linear layer that could be quantized")
        self._fit(student, load_torch(spec, source.path), spec, training)
        return student

    def _fit(self, student: nn.Module, teacher: nn.Module, spec: ModelSpec, training: Samples) -> None:
        """Trains the student and leaves it as it was after its best epoch."""
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(training), generator=generator)[: self.samples].tolist()
        held, used = order[: len(order) // 10], order[len(order) // 10 :]

        def loss(rows: list[int]) -> Tensor:
            inputs = _tensors(spec, training, rows)
            with torch.no_grad():
                wanted = _outputs(teacher(*inputs))
            return divergence(spec, _outputs(student(*inputs)), wanted)

        def held_out() -> float:
            with torch.no_grad():
                return sum(float(loss(rows)) * len(rows) for rows in _batches(held, self.batch)) / len(held)

        parameters = list(student.parameters())
        optimizer = torch.optim.Adam(parameters, self.lr)
        steps = max(1, self.epochs * len(list(_batches(used, self.batch))))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        least, best = held_out(), [value.detach().clone() for value in parameters]
        print(f"epoch 0 of {self.epochs}: loss {least:.6g} on {len(held)} held-out samples, before training")
        for epoch in range(1, self.epochs + 1):
            shuffled = torch.randperm(len(used), generator=generator).tolist()
            for rows in _batches([used[at] for at in shuffled], self.batch):
                optimizer.zero_grad()
                loss(rows).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            found = held_out()
            print(f"epoch {epoch} of {self.epochs}: loss {found:.6g} on {len(held)} held-out samples")
            if found < least:
                least, best = found, [value.detach().clone() for value in parameters]
        for value, kept in zip(parameters, best, strict=True):
            value.data = kept


def divergence(spec: ModelSpec, outputs: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """How far a batch's outputs lie from the teacher's, `[]`; summed over the outputs in floating point. For the output
    that classes are read from it is the Kullback-Leibler divergence, a mean over samples."""
    import torch
    from torch.nn import functional

    losses = []
    for tensor, mine, yours in zip(spec.outputs, outputs, wanted, strict=True):
        if not yours.is_floating_point():
            continue
        scores = tensor.name == spec.metric.output and spec.metric.function.labels == "class" and yours[0].numel() > 1
        if scores:
            flat = [value.flatten(1).log_softmax(1) for value in (mine, yours)]
            losses.append(functional.kl_div(flat[0], flat[1], log_target=True, reduction="batchmean"))
        else:
            losses.append((mine - yours).square().mean() / yours.square().mean().clamp_min(1e-12))
    if not losses:
        raise StepError(f"{spec.name} has no output in floating point, so there is nothing to train it by")
    return torch.stack(losses).sum()


def _batches(rows: list[int], size: int) -> Iterator[list[int]]:
    return (rows[at : at + size] for at in range(0, len(rows), size))


def _tensors(spec: ModelSpec, samples: Samples, rows: list[int]) -> tuple[Tensor, ...]:
    import torch

    return tuple(torch.from_numpy(samples.inputs[tensor.name][rows]) for tensor in spec.inputs)


def _outputs(result: Tensor | dict[str, Tensor] | tuple[Tensor, ...] | list[Tensor]) -> list[Tensor]:
    if isinstance(result, dict):
        return list(result.values())
    return list(result) if isinstance(result, tuple | list) else [result]
