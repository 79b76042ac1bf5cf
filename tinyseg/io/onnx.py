"""A trained network as an ONNX graph, so that it runs where there is neither tinyseg nor Python.

graph.py records what a network does; here each recorded operation becomes one or more of ONNX's. A result
has the name of the layer that made it, such as `block3.conv`, and parameters keep theirs:
`block3.conv.weight`. Nothing is exported that was not compared with the network itself.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import autograd.numpy as np
import numpy
from autograd.numpy import numpy_wrapper
from autograd.numpy.numpy_boxes import ArrayBox

from tinyseg.errors import InputError
from tinyseg.io.files import write_whole
from tinyseg.io.graph import Operation, convolution, record, standardize
from tinyseg.io.models import mismatch
from tinyseg.io.preprocessing import Preprocessing
from tinyseg.ops import log_softmax, relu, softmax
from tinyseg.ops.norm import INSTANCE

OPSET = 17  # the vintage of ONNX's operations: old enough for the runtimes of the last years

ALIKE = {
    relu: "Relu", np.add: "Add", np.subtract: "Sub", np.multiply: "Mul", np.true_divide: "Div",
    np.divide: "Div", np.negative: "Neg", np.power: "Pow", np.exp: "Exp", np.log: "Log", np.tanh: "Tanh",
    np.sqrt: "Sqrt", np.abs: "Abs", np.maximum: "Max", np.minimum: "Min", np.matmul: "MatMul",
}  # fmt: skip


PAD = numpy_wrapper.pad
SUMS = {
    np.sum: "ReduceSum", np.max: "ReduceMax", np.amax: "ReduceMax", np.min: "ReduceMin", np.amin: "ReduceMin",
    getattr(numpy_wrapper, "_primitive_mean", np.mean): "ReduceMean",
}  # fmt: skip


def to_onnx(
    net: Any,
    params: dict,
    state: dict,
    path: str | Path,
    *,
    preprocessing: Preprocessing | None = None,
    shape: tuple[int, int, int, int] | None = None,
) -> None:
    """Write the network in evaluation mode as an ONNX graph, whole or not at all.

    The graph maps `image`, (N, channels, H, W) float32 with N, H and W free, to `output`, the array that
    `net(params, state, x)` returns: logits of a softmax head; of a linear one the estimated mask, which may
    leave [0, 1] a little (`net.probabilities` clips it).

    Args:
        net, params, state: as `load` gives them, or a network of your own.
        path: the file, by custom `.onnx`.
        preprocessing: goes into the file's metadata as JSON, so that the file says what images it wants.
        shape: an image that the network can take, by default (2, net.channels, 20, 24).

    Raises:
        InputError: the package `onnx` is not installed, or the place cannot be written to.
        ValueError: the arrays are not the network's float32 arrays, or it does something that has no
            translation, or the graph does not compute what the network computes; the message says what.
    """
    try:
        import onnx
    except ImportError:
        raise InputError(f"{path}: writing ONNX needs its packages: pip install onnx onnxruntime") from None
    if found := mismatch(net, params | state):
        raise ValueError(f"to_onnx: {found}")
    if taken := {"", "image", "output"} & (params | state).keys():
        raise ValueError(f"to_onnx: the key {sorted(taken)[0]!r} is not free in a graph; call it otherwise")
    n, channels, height, width = shape or (2, getattr(net, "channels", 1), 20, 24)
    rng = numpy.random.default_rng(0)
    graph = record(net, params, state, rng.random((n, channels, height, width), numpy.float32))
    writer = Writer(onnx.helper.make_node, onnx.numpy_helper.from_array)
    for key, array in graph.arrays.items():
        writer.array(key, array.value)
        writer.names[array] = key
    writer.names[graph.image] = "image"
    for operation in graph.operations:
        if operation.fun:
            writer.translate(operation)
    writer.nodes.append(writer.make_node("Identity", [writer.names[graph.output]], ["output"]))

    def tensor(name, channels):
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ("N", channels, "H", "W"))

    ends = [tensor("image", channels)], [tensor("output", graph.output.value.shape[1])]
    whole = onnx.helper.make_graph(writer.nodes, "tinyseg", *ends, writer.arrays)
    opset = onnx.helper.make_opsetid("", OPSET)
    version = onnx.helper.find_min_ir_version_for([opset])  # the file's own, which runtimes also check
    model = onnx.helper.make_model(whole, producer_name="tinyseg", opset_imports=[opset], ir_version=version)
    if preprocessing:
        onnx.helper.set_model_props(model, {"preprocessing": json.dumps(asdict(preprocessing))})
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # of the checker's several
        reason = str(error).partition("\n")[0]
        raise ValueError(f"to_onnx: what the network does makes no sound graph: {reason}") from None
    # Numbers, heights, widths and pixels in all: none is the same in any two of these.
    for count, down, right in ((n, 1, 1), (1, 2, 3), (3, 1.5, 0.5), (n + 2, 4, 5), (n + 3, 1.05, 1.125)):
        shape = count, channels, round(down * height), round(right * width)
        _compare(model, net, params, state, rng.random(shape, numpy.float32))
    write_whole(path, model.SerializeToString())


def _compare(model, net, params, state, image):
    """Refuse a graph that does not compute what the network computes, also for an image of another size."""
    try:
        with numpy.errstate(all="ignore"):  # what is not finite is refused below
            expected = numpy.asarray(net(params, state, image, train=False, rng=None)[0])
    except Exception:  # a network may refuse a size, such as an odd one
        return
    size = "{0} x {2} x {3}".format(*image.shape)
    try:
        got = _run(model, image)
    except Exception as error:  # whatever a runtime does with a graph that does not fit
        reason = str(error).partition("\n")[0]
        raise ValueError(f"to_onnx: the graph does not run on images of {size}: {reason}") from None
    if not numpy.isfinite(expected).all():
        raise ValueError(f"to_onnx: the network's output is not finite on images of {size}")
    near = 1e-6 + 1e-3 * min(1, numpy.abs(expected).max())  # an untrained network's outputs may be tiny
    if got.shape != expected.shape or not numpy.allclose(got, expected, rtol=1e-3, atol=near):
        raise ValueError(
            f"to_onnx: the graph gives another result than the network on images of {size}; "
            "does the network look at values or sizes in Python, where no graph can follow?"
        )


def _where(operation: Operation) -> str:
    """An operation without arrays of its own may be of the layer before it, or of one without parameters."""
    if not operation.scope:
        return "the network"
    return f"layer {operation.scope}" if operation.in_layer else f"what follows layer {operation.scope}"


def _run(model, image):
    try:
        import onnxruntime
    except ImportError:  # ONNX's own evaluator is slower, and always there
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(model).run(None, {"image": image})[0]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


class Writer:
    """A list of ONNX nodes that grows by one recorded operation at a time."""

    def __init__(self, make_node, make_array):
        self.make_node, self.make_array = make_node, make_array
        self.nodes: list = []
        self.arrays: list = []
        self.taken = {"image", "output"}
        self.names: dict[Operation, str] = {}  # of each operation's result

    def add(self, kind: str, name: str, *inputs: str, **attributes) -> str:
        """One node, whose result gets this name, or one like it that is free."""
        name = self._free(name)
        self.nodes.append(self.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def array(self, name: str, value) -> str:
        """A constant."""
        name = self._free(name)
        self.arrays.append(self.make_array(numpy.asarray(value), name))
        return name

    def _free(self, name):
        candidate, i = name, 2
        while candidate in self.taken:
            candidate, i = f"{name}_{i}", i + 1
        self.taken.add(candidate)
        return candidate

    def translate(self, operation: Operation) -> None:
        """Write what stands for this operation, and remember the name of its result."""
        fun = operation.fun

        def name(what):
            return f"{operation.scope}.{what}" if operation.scope else what

        def given(argnum):
            """The name of an argument, be it a recorded result or a constant."""
            if argnum in operation.inputs:
                return self.names[operation.inputs[argnum]]
            value = numpy.asarray(operation.args[argnum], operation.value.dtype)
            return self.array(name("constant"), value)

        try:
            self.names[operation] = self._nodes(operation, fun, name, given)
        except (IndexError, TypeError, KeyError, AttributeError) as error:  # arguments that are not foreseen
            called = getattr(fun, "__name__", fun)
            raise ValueError(
                f"to_onnx: {_where(operation)} calls {called} in a way without a translation ({error})"
            ) from None

    def _nodes(self, operation, fun, name, given) -> str:
        args, kwargs, rank = operation.args, operation.kwargs, operation.value.ndim
        if fun in ALIKE:
            kind = ALIKE[fun]
            return self.add(kind, name(kind.lower()), *(given(i) for i in range(len(args))))
        if fun is convolution:
            margins = [args[2] * (k // 2) for k in args[1].shape[2:]]
            window = {"dilations": [args[2]] * 2, "pads": margins * 2}
            return self.add("Conv", operation.scope or "conv", given(0), given(1), **window)
        if fun is standardize:
            return self._standardize(name, given(0), args)
        if fun in (softmax, log_softmax):
            axis = kwargs.get("axis", args[1] if len(args) > 1 else 1)
            kind = "Softmax" if fun is softmax else "LogSoftmax"
            return self.add(kind, name(kind.lower()), given(0), axis=axis)
        if fun is np.concatenate_args:
            parts = [given(i) for i in range(1, len(args))]
            return self.add("Concat", "concatenate", *parts, axis=args[0])
        if fun is np.transpose:
            axes = kwargs.get("axes", args[1] if len(args) > 1 else None) or range(rank)[::-1]
            return self.add("Transpose", name("transpose"), given(0), perm=[int(a) for a in axes])
        if fun is np.reshape:
            return self._reshape(operation, name, given)
        if fun in SUMS:
            kind = SUMS[fun]
            axes = kwargs.get("axis", args[1] if len(args) > 1 else None)
            axes = range(args[0].ndim) if axes is None else numpy.atleast_1d(axes)
            axes = [int(a) % args[0].ndim for a in axes]
            keep = int(kwargs.get("keepdims", len(args) > 4 and args[4]))
            if kind == "ReduceSum":  # which takes its axes as an input, unlike the others
                axes = self.array(name("axes"), numpy.array(axes, numpy.int64))
                return self.add(kind, name("sum"), given(0), axes, keepdims=keep)
            return self.add(kind, name(kind.lower()), given(0), axes=axes, keepdims=keep)
        if fun is np.repeat and isinstance(args[1], int) and kwargs.get("axis", (*args, None)[2]) is not None:
            axis = kwargs.get("axis", (*args, None)[2]) % rank
            scales = numpy.array([args[1] if i == axis else 1 for i in range(rank)], numpy.float32)
            exact = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            inputs = given(0), "", self.array(name("scales"), scales)
            return self.add("Resize", name("repeat"), *inputs, mode="nearest", **exact)
        if fun is PAD and kwargs.get("mode", (*args, "constant")[2]) == "constant" and len(kwargs) < 2:
            widths = numpy.broadcast_to(args[1], (rank, 2)).T.ravel()  # all befores, then all afters
            return self.add(
                "Pad", name("pad"), given(0), self.array(name("widths"), widths.astype(numpy.int64))
            )
        if fun is ArrayBox.__getitem__:
            return self._slice(operation, name, given)
        raise ValueError(
            f"to_onnx: {_where(operation)} calls {getattr(fun, '__name__', fun)}, which has no translation; "
            "export networks of convolutions, norms, sums, products, slices and the like"
        )

    def _standardize(self, name, x, args) -> str:
        """Statistics of each image's own: ONNX has that as one node, with scales of 1 and shifts of 0."""
        channels = args[0].shape[1]
        one = self.array(name("one"), numpy.ones(channels, args[0].dtype))
        zero = self.array(name("zero"), numpy.zeros(channels, args[0].dtype))
        if args[1] == INSTANCE:
            return self.add("InstanceNormalization", name("xhat"), x, one, zero, epsilon=args[2])
        # Of the batch at hand, ONNX has none; but it is instance norm of all images laid end to end.
        swapped = self.add("Transpose", name("swapped"), x, perm=[1, 0, 2, 3])  # (C, N, H, W)
        line = self.array(name("line"), numpy.array([1, channels, -1]))
        line = self.add("Reshape", name("laid"), swapped, line)  # (1, C, N * H * W)
        line = self.add("InstanceNormalization", name("normed"), line, one, zero, epsilon=args[2])
        shape = self.add("Shape", name("shape"), swapped)
        back = self.add("Reshape", name("back"), line, shape)  # (C, N, H, W)
        return self.add("Transpose", name("xhat"), back, perm=[1, 0, 2, 3])

    def _reshape(self, operation, name, given) -> str:
        shape = operation.kwargs.get("newshape", operation.kwargs.get("shape", (*operation.args, None)[1]))
        shape = self.array(name("new_shape"), numpy.atleast_1d(numpy.array(shape, numpy.int64)))
        return self.add("Reshape", name("reshape"), given(0), shape)

    def _slice(self, operation, name, given) -> str:
        """x[a:b:c, ..., None] of plain slices and new axes."""
        index = operation.args[1] if isinstance(operation.args[1], tuple) else (operation.args[1],)
        if any(part is Ellipsis for part in index):
            place = [part is Ellipsis for part in index].index(True)
            rest = operation.args[0].ndim - sum(part is not None for part in index) + 1
            index = index[:place] + (slice(None),) * rest + index[place + 1 :]
        if not all(part is None or isinstance(part, slice) for part in index):  # an index of numbers, say
            raise ValueError(f"to_onnx: expected slices and None alone in an index, got {index}")
        numbers, new = [], [i for i, part in enumerate(index) if part is None]
        for part in (part for part in index if part is not None):
            step = 1 if part.step is None else part.step
            far = 2**31 if step > 0 else -(2**31)
            start = (0 if step > 0 else 2**31) if part.start is None else part.start
            numbers.append((start, far if part.stop is None else part.stop, step))
        axes_of_new = numpy.array(new, numpy.int64)
        if not numbers:
            return self.add("Unsqueeze", name("axis"), given(0), self.array(name("axes"), axes_of_new))
        starts, ends, steps = (numpy.array(column, numpy.int64) for column in zip(*numbers))
        axes = numpy.arange(len(numbers), dtype=numpy.int64)
        inputs = [self.array(name("slice"), column) for column in (starts, ends, axes, steps)]
        sliced = self.add("Slice", name("sliced"), given(0), *inputs)
        if not new:
            return sliced
        return self.add("Unsqueeze", name("axis"), sliced, self.array(name("axes"), axes_of_new))
