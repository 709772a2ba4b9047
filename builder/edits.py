"""`edits.json`: what was done to a network's structure, to be done again before its weights are loaded.

A state_dict alone does not say how wide the layers are. So a `torch` artifact holds an ordered list of edits beside its
weights, and another process calls the factory, replays them and fills the result. Only structure stands here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from builder.errors import CheckpointError
from builder.factory import call_factory
from core.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor, nn

FILE: Final = "edits.json"


class _Edit(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RemoveChannels(_Edit):
    """Output channels of `layer` (numbered as they are at this point of the list) go, with all that depends on them."""

    edit: Literal["remove_channels"] = "remove_channels"
    layer: str
    channels: tuple[int, ...]


class Factor(_Edit):
    """`layer` becomes a chain of thinner ones, with so many channels between them; `builder/factors.py` says which."""

    edit: Literal["low_rank"] = "low_rank"
    layer: str
    ranks: tuple[int, int]


class Student(_Edit):
    """Another network takes the place of the one before: what `file.py:function`, an absolute path, returns."""

    edit: Literal["student"] = "student"
    factory: str


AnyEdit = Annotated[RemoveChannels | Factor | Student, Field(discriminator="edit")]
Edits = tuple[AnyEdit, ...]
_ADAPTER: Final[TypeAdapter[Edits]] = TypeAdapter(Edits)


def write_edits(folder: Path, edits: Sequence[AnyEdit]) -> None:
    """Writes the list, which may be empty."""
    write_atomically(folder / FILE, _ADAPTER.dump_json(tuple(edits), indent=1))


def read_edits(folder: Path) -> Edits:
    """What `write_edits` wrote there; nothing where it did not. Raises CheckpointError for a file of another kind."""
    path = folder / FILE
    try:
        return _ADAPTER.validate_json(path.read_bytes()) if path.is_file() else ()
    except ValidationError as error:
        raise CheckpointError(f"{path} is no list of edits: {error.errors()[0]['msg']}; remove its folder") from error


def replay(network: nn.Module, edits: Edits, inputs: tuple[Tensor, ...]) -> nn.Module:
    """The network, in evaluation mode, after the edits; it is changed in place as far as it lasts. `inputs` are an
    example of its arguments, by which dependent layers are found."""
    from builder.channels import ChannelGraph
    from builder.factors import Ranks, chain, put

    graph = None
    for edit in edits:
        match edit:
            case RemoveChannels():
                graph = graph or ChannelGraph.of(network, inputs)
                graph.remove(edit.layer, edit.channels)
            case Factor():
                put(network, edit.layer, chain(network.get_submodule(edit.layer), Ranks(*edit.ranks)))
                graph = None
            case Student():
                network, graph = call_factory(edit.factory).eval(), None
    return network
