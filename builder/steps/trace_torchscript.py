"""The original as TorchScript: the baseline that every other variant is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from builder.artifact import Artifact, Format
from builder.errors import StepError
from builder.example_inputs import example_inputs
from builder.source import load_torch
from builder.source_program import program_to_script
from builder.step import Step

if TYPE_CHECKING:
    from builder.spec import ModelSpec


@dataclass(frozen=True)
class TraceTorchScript(Step):
    """Traces the network at batch 2 and freezes it (weights become constants, batch norms fold into convolutions). A
    TorchScript file is only frozen, and an exported program is written as TorchScript: neither loses a decision."""

    name: ClassVar[str] = "trace_torchscript"
    accepts: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "torchscript"
    tools: ClassVar[tuple[str, ...]] = ("torch",)

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.pt`."""
        import torch

        network: Any = load_torch(source.spec, source.path)
        with torch.no_grad():
            if source.spec.checkpoint.kind == "exported":
                network = program_to_script(network)
            elif not isinstance(network, torch.jit.ScriptModule):
                network = torch.jit.trace(  # type: ignore[no-untyped-call]
                    network, example_inputs(source.spec), check_trace=False
                )
            _check_order([argument.name for argument in network.forward.schema.arguments[1:]], source.spec)
            torch.jit.save(torch.jit.freeze(network), out_dir / "model.pt")


def _check_order(arguments: list[str], spec: ModelSpec) -> None:
    """Raises StepError for inputs that have the arguments' names in another order: Triton's PyTorch backend goes by the
    names then, and everything else here by the order."""
    names = [tensor.name for tensor in spec.inputs]
    if set(names) <= set(arguments) and names != arguments[: len(names)]:
        raise StepError(
            f"{spec.name}: the network's arguments are {', '.join(arguments)}, and the spec has inputs of these names "
            f"in another order; write them in the network's"
        )
