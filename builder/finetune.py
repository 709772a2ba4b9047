"""Fine-tuning: the one loop behind everything that trains. `fit` trains a network by a `Task`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from builder.errors import StepError
from builder.kernels import Masks, apply, zeros_of
from builder.losses import BatchLoss, outputs_of, task_loss
from builder.training_data import TrainingData, batches, load_training, varied
from builder.training_state import TrainingState, resume, save, seeded

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from builder.spec import ModelSpec
    from builder.spec_compress import Training

JUDGING: Final = 256  # samples a batch where nothing is learned


@dataclass(frozen=True)
class Task:
    """What a network is to learn, and how.

    After each step `masks` are applied; `before_step(step)`, counted from 0 over all epochs, may change them in place
    before. An epoch before `keep_from` is never the best one; with 0 the state before training may be. `frozen`: norms
    and dropout stay as they are. `checkpoint`: a file from which a killed training goes on.
    """

    spec: ModelSpec
    data: TrainingData
    training: Training
    loss: BatchLoss
    masks: Masks = field(default_factory=dict)
    before_step: Callable[[int], None] | None = None
    keep_from: int = 0
    frozen: bool = False
    checkpoint: Path | None = None

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return math.ceil(len(self.data.used) / self.training.batch)


class Standing(NamedTuple):
    """What the held-out samples say: `metric` turned so that higher is better, 0 without labels, and then `closeness`,
    the loss negated. The greater of two is the better."""

    metric: float
    closeness: float


def labelled_task(spec: ModelSpec, training: Training, network: nn.Module, checkpoint: Path | None = None) -> Task:
    """To learn the labels of the training samples, and to keep what is zero in the network's kernels."""
    data = load_training(spec, training)
    return Task(spec, data, training, task_loss(spec, training.smoothing), zeros_of(network), checkpoint=checkpoint)


def fit(network: nn.Module, task: Task) -> Standing:
    """Trains the network in place; leaves it on the CPU, in evaluation mode and in its best state. Loss and metric of
    each epoch are printed. Raises StepError if the loss is no number any more."""
    import torch

    training = task.training
    device = device_of(training)
    network.to(device)
    if not task.frozen:
        network.eval()
    with seeded(training.seed, device):
        generator = torch.Generator().manual_seed(training.seed)
        state = TrainingState(network, _optimizer(network, training), generator, task.masks)
        if not resume(state, task.checkpoint):
            apply(task.masks, network)
            _judge(state, task)
        while state.epoch < training.epochs and not _tired(state, task):
            _epoch(state, task)
            _judge(state, task)
            save(state, task.checkpoint)
    network.load_state_dict(state.best)
    network.to("cpu")
    return Standing(*state.standing)


def standing(network: nn.Module, task: Task) -> Standing:
    """How the held-out samples do on a network in evaluation mode."""
    import torch

    device = next(network.parameters()).device.type
    at = [tensor.name for tensor in task.spec.outputs].index(task.spec.metric.output)
    total, judged = 0.0, []
    with torch.no_grad(), precision(task.training, device):
        for rows in batches(task.data.held, JUDGING):
            batch = task.data.batch(rows, device)
            outputs = outputs_of(network(*batch.inputs))
            total += float(task.loss(outputs, batch)) * len(rows)
            judged.append(outputs[at].float().cpu())
    closeness = -total / len(task.data.held)
    if task.data.labels is None:
        return Standing(0.0, closeness)
    metric = task.spec.metric.function
    value = metric.value(torch.cat(judged).numpy(), task.data.labels[list(task.data.held)].numpy())
    better = value if metric.higher_is_better else -value
    return Standing(better if math.isfinite(better) else -math.inf, closeness)


def _epoch(state: TrainingState, task: Task) -> None:
    """Learns from each sample once."""
    import torch

    training, network = task.training, state.network
    if not task.frozen:
        network.train()
    device = next(network.parameters()).device.type
    order = torch.randperm(len(task.data.used), generator=state.generator).tolist()
    parts = batches([task.data.used[at] for at in order], training.batch)
    steps = task.steps * training.epochs
    for step, rows in enumerate(parts, state.epoch * task.steps):
        if task.before_step:
            task.before_step(step)
        for group in state.optimizer.param_groups:
            group["lr"] = training.lr * _rate(step, steps, training.warmup)
        batch = varied(task.data.batch(rows, device), training, state.generator)
        with precision(training, device):
            loss = task.loss(outputs_of(network(*batch.inputs)), batch)
        if not math.isfinite(value := float(loss.detach())):
            raise StepError(f"{task.spec.name}: the loss is {value} in epoch {state.epoch + 1}; lower `lr`")
        state.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        apply(task.masks, network)
    state.epoch += 1
    if not task.frozen:
        network.eval()


def _rate(step: int, steps: int, warmup: float) -> float:
    """The share of the highest learning rate: up along a line, then down to zero along a cosine (Loshchilov and Hutter,
    "SGDR", arXiv:1608.03983)."""
    rising = int(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


def _judge(state: TrainingState, task: Task) -> None:
    """Prints how the held-out samples do, and notes the state if it may be kept and is the best yet."""
    now, metric = standing(state.network, task), task.spec.metric.function
    value = now.metric if metric.higher_is_better else -now.metric
    shown = f", {metric.name} {value:.4g}" if task.data.labels is not None else ""
    where = f"on {len(task.data.held)} held-out samples" + (", before training" if state.epoch == 0 else "")
    print(f"epoch {state.epoch} of {task.training.epochs}: loss {-now.closeness:.6g}{shown} {where}")
    if state.epoch >= task.keep_from and (not state.best or now > state.standing):
        state.standing, state.best_epoch = now, state.epoch
        state.best = {name: value.detach().cpu().clone() for name, value in state.network.state_dict().items()}


def _tired(state: TrainingState, task: Task) -> bool:
    """Whether patience is at an end."""
    since = state.epoch - max(state.best_epoch, task.keep_from)
    return task.training.patience is not None and since >= task.training.patience


def device_of(training: Training) -> str:
    """`cpu` or `cuda`. Raises StepError if a GPU is asked for and not there."""
    import torch

    there = torch.cuda.is_available()
    if training.device == "cuda" and not there:
        raise StepError("`device: cuda` asks for a GPU, and PyTorch finds none; write `device: auto`")
    return "cuda" if there and training.device != "cpu" else "cpu"


def precision(training: Training, device: str) -> Any:
    """The context in which networks and losses are computed."""
    import torch

    return torch.autocast(device, torch.bfloat16, enabled=training.mixed)


def _optimizer(network: nn.Module, training: Training) -> Optimizer:
    """Weights decay, biases and the scales of norms do not."""
    import torch

    wide = [value for value in network.parameters() if value.dim() > 1]
    flat = [value for value in network.parameters() if value.dim() <= 1]
    groups = [{"params": wide, "weight_decay": training.weight_decay}, {"params": flat, "weight_decay": 0.0}]
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, training.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, training.lr)
