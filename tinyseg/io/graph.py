"""A network as a list of operations: run it once, and write down what autograd is told.

A network is a Python function, so nobody has to describe it a second time. autograd already sees every
primitive that works on its boxes, to differentiate it. Here the same boxes serve to record it: `summary`
prints the record, and onnx.py translates it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import autograd.numpy as np
import numpy
from autograd.scipy.signal import convolve
from autograd.tracer import Node, isbox, new_box, trace_stack

from tinyseg.layers import using
from tinyseg.ops import DEFINITIONS, log_softmax, relu, softmax
from tinyseg.ops.conv import _output as convolution
from tinyseg.ops.norm import _standardize as standardize

PIXEL_BY_PIXEL = {
    relu, softmax, log_softmax, standardize, np.add, np.subtract, np.multiply, np.true_divide, np.divide,
    np.negative, np.power, np.maximum, np.minimum, np.exp, np.log, np.tanh, np.sqrt, np.abs,
    np.concatenate_args,
}  # fmt: skip


class Operation(Node):
    """One primitive that was called, or an array that came from outside (`fun` is None)."""

    def __init__(self, value, fun, args, kwargs, parent_argnums, parents):
        parents = tuple(parent.same_as or parent for parent in parents)
        self.graph: list[Operation] = parents[0].graph
        self.same_as: Operation | None = None
        self.value, self.fun, self.args, self.kwargs = value, fun, args, kwargs
        self.inputs = dict(zip(parent_argnums, parents))  # which arguments were recorded, too
        self.data = any(parent.data for parent in parents)  # does it depend on the image?
        if hasattr(fun, "definition"):  # a fast twin: what it computes is what its definition does
            trace = trace_stack.top
            again = [new_box(parents[parent_argnums.index(i)].value, trace, parents[parent_argnums.index(i)])
                     if i in parent_argnums else arg for i, arg in enumerate(args)]  # fmt: skip
            self.same_as = fun.definition(*again, **kwargs)._node
            return
        # Whose operation is it? The layer's whose arrays it uses, or else that of what was made last.
        of_layer = [parent for parent in parents if not parent.data]
        latest = max(of_layer or parents, key=self.graph.index)
        self.scope = latest.scope
        for parent in parents:
            if parent.fun is standardize and of_layer:  # a norm's, whose gamma comes later
                parent.scope = self.scope
        self.in_layer = bool(of_layer) or (fun in PIXEL_BY_PIXEL and latest.in_layer)  # or in what follows it
        if fun is np.concatenate_args:
            self.scope, self.in_layer = "concatenate", True
        self.field = self._field([parent for parent in parents if parent.data])
        self.graph.append(self)

    def initialize_root(self, value, key, graph):
        self.value, self.fun, self.args, self.kwargs, self.inputs, self.graph = value, None, (), {}, {}, graph
        self.scope, self.data, self.field, self.same_as = key.rpartition(".")[0], not key, 1, None
        self.in_layer = False
        graph.append(self)

    def _field(self, parents):
        """How many pixels of the image it sees, across; None where that is not known."""
        fields = [parent.field for parent in parents]
        if None in fields:
            return None
        widest = max(fields, default=1)
        if self.fun is convolution and self.data:
            return widest + (max(self.args[1].shape[2:]) - 1) * self.args[2]
        return widest if self.fun in PIXEL_BY_PIXEL else None


@dataclass(frozen=True)
class Graph:
    """What a network did with one image."""

    operations: list[Operation]
    image: Operation
    output: Operation
    arrays: dict[str, Operation] = field(repr=False)  # parameters and running statistics by key


def record(net: Callable, params: dict, state: dict, image: numpy.ndarray) -> Graph:
    """Call the network in evaluation and return what it did.

    Raises:
        ValueError: the output does not depend on the image.
    """
    graph = _record(net, params, state, image)
    if any(operation.fun is convolve for operation in graph.operations):  # ops.SCIPY, of reshapes and more
        graph = _record(using(net, DEFINITIONS), params, state, image)
    return graph


def _record(net, params, state, image) -> Graph:
    operations: list[Operation] = []
    with trace_stack.new_trace() as trace:

        def boxed(value, key):
            value = numpy.asarray(value)
            return new_box(value, trace, Operation.new_root(value, key, operations))

        x = boxed(image, "")
        given, running = ({k: boxed(a, k) for k, a in arrays.items()} for arrays in (params, state))
        try:
            y, _ = net(given, running, x, train=False, rng=None)
        except TypeError as error:
            if "differentiate" not in str(error):
                raise
            raise ValueError("the network looks at values in Python, where no record can follow") from None
    if not isbox(y) or not y._node.data:
        raise ValueError("the network's output does not depend on its image")
    return Graph(
        operations,
        x._node,
        y._node.same_as or y._node,
        {k: box._node for k, box in (given | running).items()},
    )


def summary(net: Any, shape: tuple[int, int, int, int] | None = None) -> str:
    """A table of a layer or network: layer, output shape, parameters, receptive field.

    The receptive field is that of the convolutions, in pixels across; `?` after an operation of another kind
    that may move pixels. In training, and with instance norm, the norms' statistics see the whole image.

    Args:
        net: anything with `init(rng)` and a call, as in docs/layers.md.
        shape: of the images, (N, channels, H, W); by default one of 64 x 64 pixels and `net.channels`.
    """
    params, state = net.init(numpy.random.default_rng(0))
    graph = record(net, params, state, numpy.zeros(shape or (1, getattr(net, "channels", 1), 64, 64), "f"))
    rows: dict[tuple, Operation] = {}
    for operation in graph.operations:
        if operation.data and operation.fun and operation.in_layer:
            name = operation.scope.partition(".")[0]  # "" of arrays that are the network's own
            apart = operation if operation.fun is np.concatenate_args else None
            rows[name, apart] = operation  # the last one
    table = [("layer", "output shape", "parameters", "receptive field")]
    for (name, _), operation in rows.items():
        count = sum(a.size for key, a in params.items() if name == key.rpartition(".")[0].partition(".")[0])
        seen = f"{operation.field} x {operation.field}" if operation.field else "?"
        name = name or type(net).__name__
        table.append((name, " x ".join(map(str, operation.value.shape)), f"{count:,}", seen))
    table.append(("total", "", f"{sum(array.size for array in params.values()):,}", ""))
    widths = [max(map(len, column)) for column in zip(*table)]
    return "\n".join("  ".join(map(str.rjust, row, widths)) for row in table)
