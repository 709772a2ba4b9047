"""Fake quantization: a network that computes in floating point what its INT8 form would compute, and can be trained.

`fake_quantized` makes the network, `exportable` ends its training. Between the two, rounding is a straight line for the
gradient, and the width of each quantizer's steps is learned: Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference" (arXiv:1712.05877); Esser et al., "Learned Step Size
Quantization" (arXiv:1902.08153). Widths are learned as logarithms, so that one learning rate suits them all: Jain et
al., "Trained Quantization Thresholds" (arXiv:1903.08066).

Quantizers stand where the runtimes look for them, so that both find whole operators to compute in integers: at the
input and the weight of a layer; behind a convolution, and before and behind a sum of its output and another (in each
case behind the ReLU, if there is one); before average pools. All else stays in floating point, and so do layers whose
weight is computed while running, recurrent and transposed ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.onnx.ops import symbolic

T = TypeVar("T", bound=nn.Module)
aten: Final = torch.ops.aten
CONVOLUTIONS: Final = {
    aten.conv1d.default, aten.conv2d.default, aten.conv3d.default,
    aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding,
}  # fmt: skip
PRODUCTS: Final = {aten.linear.default, aten.matmul.default, aten.mm.default}
FUSED: Final = {aten.relu.default, aten.hardtanh.default}  # what runtimes compute together with a convolution
SUMS: Final = {aten.add.Tensor}
POOLS: Final = {aten.avg_pool2d.default, aten.adaptive_avg_pool2d.default}
# What hands on values as they are: a quantizer before it is as good as one behind it.
PASSED: Final = {
    aten.max_pool1d.default, aten.max_pool2d.default, aten.flatten.using_ints, aten.view.default, aten.reshape.default,
    aten.permute.default, aten.transpose.int, aten.squeeze.dim, aten.unsqueeze.default, aten.dropout.default,
    aten.contiguous.default, aten.clone.default, aten.alias.default,
}  # fmt: skip
BATCH_NORM: Final = aten._native_batch_norm_legit_no_training.default  # what a functional graph has for it
ACTIVATION: Final = (0, 255)  # uint8


class Observer(nn.Module):
    """Stands where a quantizer will, lets everything through, and keeps the least and the greatest value."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = torch.zeros(()), torch.zeros(())  # a range holds zero, which padding needs exactly

    def forward(self, x: Tensor) -> Tensor:
        """`x`, any shape."""
        self.low, self.high = torch.minimum(self.low, x.amin()), torch.maximum(self.high, x.amax())
        return x


class Quantizer(nn.Module):
    """Rounds to `width * (q - zero)`, with q a whole number from `least` to `most`; with `axis`, by channel.

    What is learned is the width, as a factor to the one that covers `low` to `high`. The zero point stays: so what a
    ReLU cuts off stays cut off by the quantizer, which is why a runtime can drop the ReLU.
    """

    def __init__(self, low: Tensor, high: Tensor, least: int, most: int, axis: int | None = None) -> None:
        super().__init__()
        self.least, self.most, self.axis = least, most, axis
        used = high > low  # a channel of zeros has no width of its own: one that its bias can be a multiple of
        width = torch.where(used, (high - low) / (most - least), torch.full_like(high, 1e-6))
        self.register_buffer("zero", torch.where(used, torch.round(least - low / width), torch.zeros_like(high)))
        self.register_buffer("first", width)
        self.gain = nn.Parameter(torch.zeros_like(width))  # its logarithm

    def width(self) -> Tensor:
        """The steps' width, `[]`, or `[C]` with `axis`."""
        first: Tensor = self.get_buffer("first")
        return first * self.gain.exp()

    def forward(self, x: Tensor) -> Tensor:
        """`x`, rounded. For the gradient the rounding itself is not there; clipping is, and so is the width."""
        width, zero = self.width(), self.get_buffer("zero")
        if self.axis is not None:
            shape = [-1 if axis == self.axis else 1 for axis in range(x.dim())]
            width, zero = width.reshape(shape), zero.reshape(shape)
        exact = x / width
        return width * ((exact + (exact.round() - exact).detach() + zero).clamp(self.least, self.most) - zero)


class Exported(nn.Module):
    """A trained quantizer as it goes into an ONNX file: QuantizeLinear and DequantizeLinear. PyTorch cannot compute
    with it. (PyTorch's own `fake_quantize_per_tensor_affine` is one that `torch.export` cannot follow.)"""

    def __init__(self, trained: Quantizer) -> None:
        super().__init__()
        self.axis: dict[str, Any] = {} if trained.axis is None else {"axis": trained.axis}
        self.register_buffer("width", trained.width().detach())
        self.register_buffer("zero", trained.get_buffer("zero").to(torch.uint8 if trained.axis is None else torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        """A tensor like `x`."""
        width, zero = self.get_buffer("width"), self.get_buffer("zero")
        stored = symbolic("QuantizeLinear", (x, width, zero), self.axis, dtype=zero.dtype, shape=x.shape)
        return symbolic("DequantizeLinear", (stored, width, zero), self.axis, dtype=x.dtype, shape=x.shape)


class ExportedBias(nn.Module):
    """A bias `[C]` as 32-bit whole numbers, of the width that a product of input and weight has: sums start from it."""

    def __init__(self, bias: Tensor, width: Tensor) -> None:
        super().__init__()
        self.register_buffer("stored", (bias / width).round().to(torch.int32))
        self.register_buffer("width", width)

    def forward(self, bias: Tensor) -> Tensor:
        """A tensor like `bias`."""
        given = (self.get_buffer("stored"), self.get_buffer("width"))
        return symbolic("DequantizeLinear", given, {"axis": 0}, dtype=bias.dtype, shape=bias.shape)


def fake_quantized(
    network: nn.Module, examples: tuple[Tensor, ...], shapes: Any, samples: Iterable[tuple[Tensor, ...]], bits: int
) -> fx.GraphModule | None:
    """The network as a graph with a Quantizer at each place, ready to be trained; None if it has no layer for one.

    `examples`, `shapes`: inputs and dynamic axes, as for `torch.export.export`. Activations get 8 bits and the range
    that they have over `samples`, weights `bits` (7 leave one of headroom), symmetric around zero. Batch norms behind
    a convolution are merged into it: so they are when served, and what is rounded in training must be what is rounded
    there. Others keep their statistics, which few samples would only make worse.
    """
    # Functional: a quantizer between a value and an operator that changes it in place would see one or the other.
    program = torch.export.export(network, examples, dynamic_shapes=shapes).run_decompositions({})
    exported = program.module(check_guards=False)
    graph = fx.GraphModule(exported, exported.graph).eval()  # without the checks of the examples' sizes
    for node in graph.graph.find_nodes(op="call_function", target=aten.view.default):
        node.target = aten.reshape.default  # what is quantized need not lie in memory as it did
    _merge_batch_norms(graph)
    layers = [node for node in graph.graph.nodes if _is_layer(graph, node)]
    if not layers:
        return None
    for place, users in _places(layers, graph.graph.nodes).items():
        _insert(graph, place, users, Observer())
    graph.recompile()
    with torch.no_grad():
        for sample in samples:
            graph(*sample)
    for name, observer in _modules(graph, Observer):
        graph.set_submodule(name, Quantizer(observer.low, observer.high, *ACTIVATION))
    most = 2 ** (bits - 1) - 1
    for layer in layers:
        weight, axis = _own_weight(graph, layer)
        value = graph.get_parameter(str(weight.target)).detach()
        high = value.abs().amax(dim=[other for other in range(value.dim()) if other != axis])
        _insert(graph, weight, [layer], Quantizer(-high, high, -most, most, axis))
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def exportable(graph: fx.GraphModule) -> fx.GraphModule:
    """The trained graph, changed in place into one for `torch.onnx.export`. Weights are rounded once and for all, to
    fewer bits than INT8 has where they were trained so; biases to 32."""
    quantizers = dict(_modules(graph, Quantizer))
    for layer in list(graph.graph.nodes):
        weight = layer.args[1] if layer.target in CONVOLUTIONS or layer.target in PRODUCTS else None
        if not isinstance(weight, fx.Node) or str(weight.target) not in quantizers:
            continue
        quantizer, given = quantizers[str(weight.target)], quantizers.get(str(_root(layer.args[0]).target))
        value = graph.get_parameter(str(weight.all_input_nodes[0].target))
        value.data = quantizer(value).detach()
        for bias in layer.args[2:3]:
            if given and isinstance(bias, fx.Node) and (own := _constant(graph, bias)) is not None:
                width = given.width() * quantizer.width()
                if (own / width).abs().max() < 2**30:  # else it stays as it is, and the layer is computed in float
                    _insert(graph, bias, [layer], ExportedBias(own.detach(), width.detach()))
    for name, quantizer in quantizers.items():
        graph.set_submodule(name, Exported(quantizer))
    graph.recompile()
    return graph


def _modules(graph: fx.GraphModule, kind: type[T]) -> list[tuple[str, T]]:
    return [(name, module) for name, module in graph.named_modules() if isinstance(module, kind)]


def _constant(graph: fx.GraphModule, node: object) -> Tensor | None:
    """The tensor that a node stands for, if it is one of the network's own."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    value = attrgetter(str(node.target))(graph)
    return value if isinstance(value, Tensor) else None


def _is_layer(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.target not in CONVOLUTIONS and node.target not in PRODUCTS:
        return False
    weight = _constant(graph, node.args[1])
    if weight is None or weight.dtype != torch.float32 or not isinstance(node.args[0], fx.Node):
        return False
    return node.target in CONVOLUTIONS or weight.dim() == 2


def _merge_batch_norms(graph: fx.GraphModule) -> None:
    for norm in graph.graph.find_nodes(op="call_function", target=BATCH_NORM):
        layer, *statistics = norm.args[:5]
        weight, bias, mean, variance = (_constant(graph, node) for node in statistics)
        merges = layer.target in CONVOLUTIONS and _is_layer(graph, layer) and len(layer.users) == 1
        if not merges or mean is None or variance is None:
            continue
        old = _constant(graph, layer.args[1])
        assert old is not None  # it is a layer
        own_bias = _constant(graph, layer.args[2]) if len(layer.args) > 2 else None
        with torch.no_grad():
            merged = fuse_conv_bn_weights(old, own_bias, mean, variance, norm.args[6], weight, bias)
        nodes = [_parameter(graph, layer, value) for value in merged]
        layer.args = (layer.args[0], *nodes, *layer.args[3:])
        for output in list(norm.users):  # of three, of which inference has but the first
            output.replace_all_uses_with(layer)
            graph.graph.erase_node(output)
        graph.graph.erase_node(norm)


def _free(graph: fx.GraphModule, kind: str) -> str:
    return next(name for count in itertools.count() if not hasattr(graph, name := f"{kind}_{count}"))


def _parameter(graph: fx.GraphModule, before: fx.Node, value: Tensor) -> fx.Node:
    """A node, before another one, for a new parameter."""
    name = _free(graph, "trained")
    graph.register_parameter(name, nn.Parameter(value.detach().clone()))
    with graph.graph.inserting_before(before):
        return graph.graph.get_attr(name)


def _own_weight(graph: fx.GraphModule, layer: fx.Node) -> tuple[fx.Node, int]:
    """A parameter that nothing but the layer uses, so that rounding it changes nothing else (an embedding may share
    it), and its axis of output channels. A linear layer on more than two axes becomes a product with the weight as it
    is multiplied: exported as a layer, the transposition would stand between the weight and its quantizer."""
    value = _constant(graph, layer.args[1])
    assert value is not None and isinstance(layer.args[0], fx.Node)  # it is a layer
    if layer.target is aten.linear.default and layer.args[0].meta["val"].dim() > 2:
        layer.target, bias = aten.matmul.default, layer.args[2] if len(layer.args) > 2 else None
        layer.args, value = layer.args[:2], value.t().contiguous()
        if bias is not None:
            with graph.graph.inserting_after(layer):
                added = graph.graph.call_function(aten.add.Tensor, (layer, bias))
            layer.replace_all_uses_with(added, delete_user_cb=lambda user: user is not added)
    node = _parameter(graph, layer, value)
    layer.args = (layer.args[0], node, *layer.args[2:])
    return node, 1 if layer.target in {aten.matmul.default, aten.mm.default} else 0


def _root(node: Any) -> fx.Node:
    while node.target in PASSED:
        node = node.args[0]
    found: fx.Node = node
    return found


def _places(layers: list[fx.Node], nodes: Iterable[fx.Node]) -> dict[fx.Node, set[fx.Node]]:
    """Whose output is to be quantized -> for which of its users."""
    places: dict[fx.Node, set[fx.Node]] = {}

    def want(value: fx.Node, user: fx.Node) -> None:
        while value.target in PASSED:
            value, user = value.args[0], value  # type: ignore[assignment]
        places.setdefault(value, set()).add(user)

    def want_end(node: fx.Node) -> fx.Node:
        users = list(node.users)
        end = users[0] if len(users) == 1 and users[0].target in FUSED else node
        for user in end.users:
            if user.op != "output":
                want(end, user)
        return end

    ends = set()
    for layer in layers:
        want(layer.args[0], layer)  # type: ignore[arg-type]
        if layer.target in CONVOLUTIONS:
            ends.add(want_end(layer))
    for node in nodes:
        given = [arg for arg in node.args if isinstance(arg, fx.Node)]
        is_sum = node.target in SUMS and len(given) == 2 and not ends.isdisjoint(map(_root, given))
        if is_sum:  # no end in its turn: a transformer on top of a convolution keeps its sums in floating point
            want_end(node)
        if is_sum or node.target in POOLS:
            for value in given:
                want(value, node)
    return {place: users for place, users in places.items() if _is_activation(place)}


def _is_activation(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return node.op != "get_attr" and isinstance(value, Tensor) and value.dtype == torch.float32


def _insert(graph: fx.GraphModule, place: fx.Node, users: Iterable[fx.Node], module: nn.Module) -> None:
    """A call of `module` on what `place` gives, for these users of it."""
    name = _free(graph, "quantizer")
    graph.add_submodule(name, module)
    with graph.graph.inserting_after(place):
        call = graph.graph.call_module(name, (place,))
    call.meta["val"] = place.meta.get("val")
    wanted = set(users)
    place.replace_all_uses_with(call, delete_user_cb=lambda user: user in wanted and user is not call)
