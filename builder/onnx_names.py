"""Names of an ONNX graph's inputs and outputs, given after the export: PyTorch's exporter gives them without a look at
the names that it has used inside, and a network whose output is called `embedding` came out invalid."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def rename_ends(model: onnx.ModelProto, inputs: list[str], outputs: list[str]) -> None:
    """Renames the graph's inputs and outputs, in their order, in place. Values inside that have such a name get another
    one. The graph's present inputs and outputs must be different values."""
    graph = model.graph
    ends = [value.name for value in (*graph.input, *graph.output)]
    new = dict(zip(ends, [*inputs, *outputs], strict=True))
    inner = {name: f"{name}__inner" for name in new.values() if name not in new}
    _rename(graph, inner | new)


def rename_values(graph: onnx.GraphProto, before: str, after: str) -> None:
    """Gives values whose names begin with `before` names that begin with `after` instead, in place. The graph's inputs
    and outputs must have no such names."""
    made = {name for node in graph.node for name in node.output if name.startswith(before)}
    _rename(graph, {name: after + name.removeprefix(before) for name in made})


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for part in (attribute.g, *attribute.graphs):
                if part.ByteSize():
                    _rename(part, names)  # it may use values of the graph around it
