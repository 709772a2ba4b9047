"""The compressions that a spec may name under `compress`: ordered lists of techniques, each with its settings.

Every technique maps a PyTorch network to a PyTorch network; the export and the quantization of the variant's base come
after all of them. So an order that cannot be, such as quantized before pruned, cannot be written. docs/compress.md
says what each does and when it pays.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from builder.spec_base import Loss, Positive, SpecModel
from builder.spec_distill import Answers, Factory, Teacher, Teachers, Temperature

Share = Annotated[float, Field(gt=0, lt=1)]
FEWEST = 10  # samples to train on
TAKEN = ("torch", "onnx", "openvino", "pruned", "imported")  # what other variants' ids begin with


def _free(name: str) -> str:
    if name in TAKEN:
        raise ValueError(f"a compression cannot be called {', '.join(TAKEN)}; choose another name")
    return name


# No underscore: the first one in a variant's id ends the name.
CompressionName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]{0,30}$"), AfterValidator(_free)]


class Training(SpecModel):
    """How a network is fine-tuned: on the samples of `data.training`, by their labels, as the metric reads them (shares
    of classes by cross entropy, numbers by squared error; `mae` by its own). For a metric of your own, whole numbers
    are classes where the output has several values. The learning rate rises over `warmup` and
    falls to zero along a cosine. The epoch that scores best on the held-out samples is kept, the state before training
    among them. A killed training goes on where it was; equal settings give equal results on the same machine."""

    epochs: Annotated[Positive, Field(description="how often all samples are seen")] = 3
    lr: Annotated[float, Field(gt=0, description="the highest learning rate")] = 1e-3
    batch: Annotated[Positive, Field(description="samples a step")] = 128
    optimizer: Annotated[Literal["adamw", "sgd"], Field(description="`sgd` with Nesterov momentum of 0.9")] = "adamw"
    weight_decay: Annotated[float, Field(ge=0, description="of kernels; not of biases and norms")] = 1e-4
    warmup: Annotated[float, Field(ge=0, lt=1, description="share of the steps over which the rate rises")] = 0.05
    patience: Annotated[
        Positive | None, Field(description="stop after so many epochs without a better one; unset: never")
    ] = None
    held_out: Annotated[
        float, Field(gt=0, le=0.5, description="share of the samples that only judges, always the same")
    ] = 0.1
    samples: Annotated[
        Annotated[int, Field(ge=FEWEST)] | None, Field(description="use at most so many, chosen by `seed`; unset: all")
    ] = None
    smoothing: Annotated[float, Field(ge=0, lt=1, description="of labels: the share that all classes get alike")] = 0.0
    mirror: Annotated[bool, Field(description="turn half of the images `[C, H, W]` left to right")] = False
    shift: Annotated[int, Field(ge=0, description="move images by up to so many pixels, filling with zeros")] = 0
    cutout: Annotated[int, Field(ge=0, description="blank a square of each image: its side in pixels, 0 for none")] = 0
    mixed: Annotated[
        bool, Field(description="compute in bfloat16 where it is safe; pays on GPUs and CPUs with AMX or AVX512_BF16")
    ] = False
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="`auto`: a GPU if there is one")] = "auto"
    seed: Annotated[int, Field(description="decides on order, augmentation, and which `samples`")] = 0

    @property
    def varies(self) -> bool:
        """Whether a sample is seen otherwise each time."""
        return self.mirror or self.shift > 0 or self.cutout > 0


class Technique(SpecModel):
    """Base of the techniques."""

    @property
    def trains(self) -> bool:
        """Whether it reads the training samples."""
        return True


class FineTuning(Technique, Training):
    """Trains the network further. Weights that are exactly zero stay zero, so that what was pruned stays pruned."""

    step: Annotated[Literal["finetune"], Field(description="names this technique")]


class WeightPruning(Technique):
    """Sets single weights to zero. Makes nothing faster by itself: stock runtimes multiply by zeros, too."""

    step: Annotated[Literal["prune_weights"], Field(description="names this technique")]
    share: Annotated[Share, Field(description="of the kernels' weights that become zero")]
    scope: Annotated[
        Literal["global", "layer"], Field(description="the smallest of the whole network, or of each layer")
    ] = "global"
    by: Annotated[
        Literal["magnitude", "lamp", "random"],
        Field(description="which go first: the smallest; the smallest beside their layer's larger ones; any (control)"),
    ] = "magnitude"
    gradual: Annotated[
        bool, Field(description="raise the share while training (along a cubic, over the first half); needs `train`")
    ] = False
    train: Annotated[Training | None, Field(description="fine-tuning that keeps the zeros; unset: none")] = None
    seed: Annotated[int, Field(description="of `random`")] = 0

    @model_validator(mode="after")
    def _gradual_trains(self) -> WeightPruning:
        if self.gradual and self.train is None:
            raise ValueError("gradual raises the share while training: give `train`, such as {epochs: 4}")
        return self

    @property
    def trains(self) -> bool:
        """Only with `train`."""
        return self.train is not None


class ChannelPruning(Technique):
    """Removes whole channels, with all that depends on them: the network is really smaller, and faster everywhere."""

    step: Annotated[Literal["prune_channels"], Field(description="names this technique")]
    share: Annotated[Share, Field(description="of each layer's channels; with `threshold` the most that a layer loses")]
    multiple: Annotated[Positive, Field(description="what stays is a multiple of it, as kernels like it")] = 8
    by: Annotated[
        Literal["l1", "l2", "random"], Field(description="the norm over a channel's weights in all that depend on it")
    ] = "l2"
    layers: Annotated[
        tuple[str, ...], Field(min_length=1, description="names or patterns (`blocks.*`) of layers to prune")
    ] = ("*",)
    keep: Annotated[tuple[str, ...], Field(description="names or patterns of layers that are left whole")] = ()
    threshold: Annotated[
        Loss | None,
        Field(description="prune layer by layer, as far as held-out samples lose no more than this: `1pt`, or `2%`"),
    ] = None
    patience: Annotated[
        Positive, Field(description="of `threshold`: go on with a layer until so many raises in a row lost too much")
    ] = 2
    train: Annotated[Training | None, Field(description="fine-tuning after pruning, or after each raise")] = None
    seed: Annotated[int, Field(description="of `random`")] = 0

    @property
    def trains(self) -> bool:
        """With `train`, and with `threshold`, which judges by the held-out ones."""
        return self.train is not None or self.threshold is not None


class LotteryTicket(Technique):
    """Trains, sets the smallest weights to zero, takes the others back to what they were early in training, and again;
    ends with the training of what is left."""

    step: Annotated[Literal["lottery_ticket"], Field(description="names this technique")]
    share: Annotated[Share, Field(description="of the kernels' weights that are zero in the end")]
    rounds: Annotated[
        Positive, Field(description="of pruning and rewinding; each takes the same share of the rest")
    ] = 3
    early: Annotated[
        Path | None,
        Field(description="weights saved early in the checkpoint's own training; the first round prunes that"),
    ] = None
    early_epochs: Annotated[
        int, Field(ge=0, description="without `early`: epochs from fresh weights to those that are rewound to")
    ] = 1
    train: Annotated[Training, Field(description="the training of each round")] = Training()


class Distillation(Technique):
    """Trains a student by what teachers answer, rather than by labels alone. The student is another network, or the one
    that the techniques before it left."""

    step: Annotated[Literal["distill"], Field(description="names this technique")]
    student: Annotated[
        Factory | None,
        Field(description="`file.py:function`, which makes the untrained student; unset: the network as it is by now"),
    ] = None
    init: Annotated[Path | None, Field(description="weights that `student` begins with; unset: fresh ones")] = None
    teachers: Teachers = (Teacher(),)
    alpha: Annotated[
        float,
        Field(ge=0, le=1, description="share of the teachers' answers in the loss; the rest is the labels', 1: unread"),
    ] = 0.9
    temperature: Temperature = 4.0
    ask: Annotated[
        Literal["each", "once"],
        Field(
            description="`each`: the teachers see every image as the student does, in each epoch; `once`: as it is in "
            "the file, and mirrored, before the training, which is then as fast as one without teachers"
        ),
    ] = "each"
    answers: Answers = {}
    train: Annotated[Training, Field(description="how the student is trained")] = Training()

    @model_validator(mode="after")
    def _possible(self) -> Distillation:
        if self.init and not self.student:
            raise ValueError("init has weights for `student`, and none is given; without one training goes on")
        if self.ask == "once" and any(teacher.hints for teacher in self.teachers):
            raise ValueError(
                "hints are given by the teacher's layers in each epoch: leave out `ask: once`, or the hints"
            )
        return self


class LayerFactoring(Technique):
    """Writes layers as chains of thinner ones that multiply to nearly the same: linear layers and 1x1 convolutions as
    two (SVD), other convolutions as up to three (Tucker-2). The network has fewer weights and less arithmetic. A layer
    that would not gain stays as it is."""

    step: Annotated[Literal["low_rank"], Field(description="names this technique")]
    energy: Annotated[
        Share | None, Field(description="of each kernel's squared singular values, which is surely kept; or `share`")
    ] = None
    share: Annotated[
        Share | None,
        Field(description="of each layer's multiply-adds that goes, or more; with `threshold` the most that is tried"),
    ] = None
    multiple: Annotated[Positive, Field(description="ranks are multiples of it, as kernels like it")] = 8
    layers: Annotated[
        tuple[str, ...], Field(min_length=1, description="names or patterns (`blocks.*`) of layers to factor")
    ] = ("*",)
    keep: Annotated[tuple[str, ...], Field(description="names or patterns of layers that are left whole")] = ()
    threshold: Annotated[
        Loss | None,
        Field(description="factor layer by layer, as far as held-out samples lose no more than this: `1pt`, or `2%`"),
    ] = None
    patience: Annotated[
        Positive, Field(description="of `threshold`: go on with a layer until so many ranks in a row lost too much")
    ] = 2
    train: Annotated[Training | None, Field(description="fine-tuning afterwards, or after each trial")] = None

    @model_validator(mode="after")
    def _one_rule(self) -> LayerFactoring:
        if (self.energy is None) == (self.share is None):
            raise ValueError("low_rank goes by one of energy, such as 0.9, and share, such as 0.5; give one of them")
        if self.threshold and self.share is None:
            raise ValueError("threshold finds the ranks itself; give share, the most that it tries, instead of energy")
        return self

    @property
    def trains(self) -> bool:
        """With `train`, and with `threshold`, which judges by the held-out ones."""
        return self.train is not None or self.threshold is not None


class WeightSharing(Technique):
    """Gives the weights of each kernel a few values in common. Makes nothing faster, and no runtime's file smaller by
    itself: they store every weight. The report says what codebooks and indices would take."""

    step: Annotated[Literal["cluster_weights"], Field(description="names this technique; it stands last")]
    bits: Annotated[int, Field(ge=1, le=8, description="of an index: a kernel has at most 2^bits values")] = 4
    keep: Annotated[tuple[str, ...], Field(description="names or patterns of layers that are left as they are")] = ()
    train: Annotated[Training | None, Field(description="moves the values that are shared; unset: none")] = None

    @property
    def trains(self) -> bool:
        """Only with `train`."""
        return self.train is not None


AnyTechnique = Annotated[
    FineTuning | WeightPruning | ChannelPruning | LotteryTicket | Distillation | LayerFactoring | WeightSharing,
    Field(discriminator="step"),
]


def _student_first(techniques: tuple[AnyTechnique, ...]) -> tuple[AnyTechnique, ...]:
    for technique in techniques[1:]:
        if isinstance(technique, Distillation) and technique.student:
            raise ValueError(
                f"distill with a `student` must come first, since that network takes the place of what "
                f"{techniques[0].step} made; without `student` it trains what was made"
            )
    return techniques


def _nothing_undone(techniques: tuple[AnyTechnique, ...]) -> tuple[AnyTechnique, ...]:
    for earlier, later in itertools.combinations(techniques, 2):
        sparse = isinstance(earlier, WeightPruning | LotteryTicket)
        if isinstance(later, LayerFactoring) and sparse:
            raise ValueError(
                f"low_rank would fill the zeros that {earlier.step} makes; put low_rank before {earlier.step}"
            )
        if not isinstance(later, LotteryTicket):
            continue
        # With `early`, what was trained before still decides which weights go.
        if sparse or (isinstance(earlier, FineTuning | Distillation) and not later.early):
            raise ValueError(
                f"lottery_ticket takes all weights back to {'early' if later.early else 'fresh'} ones, so that "
                f"{earlier.step} before it would be for nothing; put it after lottery_ticket, or leave it out"
            )
    return techniques


Techniques = Annotated[
    tuple[AnyTechnique, ...],
    Field(min_length=1),
    AfterValidator(_student_first),
    AfterValidator(_nothing_undone),
]
