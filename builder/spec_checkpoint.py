"""The part of the spec that says where the weights come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints, model_validator

from builder.spec_base import SpecModel

Kind = Literal["state_dict", "onnx", "torchscript", "exported", "huggingface"]
KINDS: tuple[Kind, ...] = get_args(Kind)
RUN_THEIR_CONTENT: tuple[Kind, ...] = ("torchscript", "exported")


class Checkpoint(SpecModel):
    """Where the weights come from, one of: a `state_dict` file (`.pt`, `.pth`, `.safetensors`) with the `factory`
    (`file.py:function`) that makes the untrained network; an `onnx` file; a `torchscript` or an `exported` program,
    which run what they contain and so need `trust`; a `huggingface` folder. Paths are relative to the spec."""

    state_dict: Annotated[Path | None, Field(description="the weights; `.pt`, `.pth` or `.safetensors`")] = None
    factory: Annotated[
        Annotated[str, StringConstraints(pattern=r"^.+\.py:[A-Za-z_]\w*$")] | None,
        Field(description="`file.py:function`; without arguments, returns the untrained `torch.nn.Module`"),
    ] = None
    onnx: Annotated[Path | None, Field(description="an ONNX file, its first axis the batch and dynamic")] = None
    torchscript: Annotated[Path | None, Field(description="a `.pt` file by `torch.jit.save`; needs `trust`")] = None
    exported: Annotated[Path | None, Field(description="a `.pt2` file by `torch.export.save`; needs `trust`")] = None
    huggingface: Annotated[
        Path | None, Field(description="an encoder's folder with `config.json` and `model.safetensors`; extra `text`")
    ] = None
    trust: Annotated[
        bool, Field(description="yes: the `torchscript` or `exported` file is as trustworthy as a program of your own")
    ] = False
    pooling: Annotated[
        Literal["mean", "cls", "none"],
        Field(description="of `huggingface`: one vector a text, over the tokens that the mask keeps, or all vectors"),
    ] = "mean"
    normalize: Annotated[bool, Field(description="of `huggingface`: each vector divided by its L2 norm")] = False
    head: Annotated[
        Path | None,
        Field(description="of `huggingface`: a `.safetensors` with `weight` `[C, D]` and `bias` `[C]`, applied last"),
    ] = None

    @model_validator(mode="after")
    def _one_source(self) -> Checkpoint:
        if len(given := [kind for kind in KINDS if getattr(self, kind) is not None]) != 1:
            what = f"not {' and '.join(given)}" if given else "none is given"
            raise ValueError(f"give one of {', '.join(KINDS)}; {what}")
        if (self.state_dict is None) != (self.factory is None):
            raise ValueError("state_dict and factory (file.py:function) go together")
        if self.kind in RUN_THEIR_CONTENT and not self.trust:
            raise ValueError(
                f"a {self.kind} file is a program, and loading it runs what it contains; if it comes from you, or from "
                f"one whose programs you would run, add `trust: true` to checkpoint, else ask for the state_dict"
            )
        if self.trust and self.kind not in RUN_THEIR_CONTENT:
            raise ValueError(f"trust is for {' and '.join(RUN_THEIR_CONTENT)}; nothing of a {self.kind} is run")
        of_text = self.model_fields_set & {"pooling", "normalize", "head"}
        if of_text and self.kind != "huggingface":
            raise ValueError(f"{', '.join(sorted(of_text))} belong to a huggingface checkpoint")
        return self

    @property
    def kind(self) -> Kind:
        """Which of the sources was given."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def file(self) -> Path:
        """The checkpoint's own file, the one with the weights."""
        given: Path = getattr(self, self.kind)
        return given / "model.safetensors" if self.kind == "huggingface" else given

    @property
    def runtime(self) -> str:
        """What runs the original, in words."""
        return {"onnx": "ONNX Runtime", "torchscript": "TorchScript"}.get(self.kind, "eager PyTorch")
