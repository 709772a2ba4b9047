"""What training goes by: outputs and a batch to one number, the smaller the better.

A technique that needs another loss, such as one with a teacher, writes a function of this kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from builder.errors import StepError
from builder.training_data import Batch

if TYPE_CHECKING:
    from torch import Tensor

    from builder.spec import ModelSpec

BatchLoss = Callable[[list["Tensor"], Batch], "Tensor"]
"""The network's outputs in the spec's order, each `[n, ...]`, and the batch that they are of, to a mean `[]`."""


def outputs_of(result: Tensor | dict[str, Tensor] | tuple[Tensor, ...] | list[Tensor]) -> list[Tensor]:
    """What a network returned, as a list in the spec's order."""
    if isinstance(result, dict):
        return list(result.values())
    return list(result) if isinstance(result, tuple | list) else [result]


def task_loss(spec: ModelSpec, smoothing: float = 0.0) -> BatchLoss:
    """The loss of the labels on the output that the metric judges: cross entropy of the scores of several classes, or
    of a single one, where the labels are whole numbers; the absolute error for `mae`, and the squared one for other
    numbers. It raises StepError for numbers beside an output of several values, which would all go the same way."""
    from torch.nn import functional

    at = [tensor.name for tensor in spec.outputs].index(spec.metric.output)
    metric = spec.metric.function

    def loss(outputs: list[Tensor], batch: Batch) -> Tensor:
        assert batch.labels is not None  # whoever uses this loss has read them
        scores = outputs[at].flatten(1).float()
        if not batch.labels.is_floating_point():
            if scores.shape[1] > 1:
                return functional.cross_entropy(scores, batch.labels, label_smoothing=smoothing)
            return functional.binary_cross_entropy_with_logits(scores[:, 0], batch.labels.to(scores.dtype))
        if scores.shape[1] > 1:
            raise StepError(
                f"{spec.name}: each label is one number, and {spec.metric.output!r} has {scores.shape[1]} values a "
                f"sample, so training cannot tell what each should be; give whole numbers if they name classes"
            )
        error = functional.l1_loss if metric.name == "mae" else functional.mse_loss
        return error(scores[:, 0], batch.labels)

    return loss


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
