"""A trained network as an ONNX graph, so that it runs where there is neither tinyseg nor Python.

A graph is a list of operations whose inputs and results have names. Here a result has the name of the layer
that it is the output of, `block3` or `block3.conv`, and parameters keep theirs: `block3.conv.weight`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tinyseg.checkpoint import flaw
from tinyseg.errors import InputError
from tinyseg.files import write_whole
from tinyseg.layers import BatchNorm, Block, Conv2d, InputBlock, InstanceNorm
from tinyseg.networks import DilatedFCN
from tinyseg.preprocessing import Preprocessing

OPSET = 17  # the vintage of ONNX's operations: old enough for the runtimes of the last years


def to_onnx(
    net: DilatedFCN,
    params: dict,
    state: dict,
    path: str | Path,
    *,
    preprocessing: Preprocessing | None = None,
) -> None:
    """Write the network in evaluation mode as an ONNX graph, whole or not at all.

    The graph maps `image`, (N, channels, H, W) float32 with N, H and W free, to `output`, the array that
    `net(params, state, x)` returns: logits of a softmax head; of a linear one the estimated mask, which may
    leave [0, 1] a little (`net.probabilities` clips it).

    Args:
        net, params, state: as `checkpoint.load` gives them.
        path: the file, by custom `.onnx`.
        preprocessing: goes into the file's metadata as JSON, so that the file says what images it wants.

    Raises:
        InputError: the package `onnx` is not installed, or the place cannot be written to.
        ValueError: the arrays are not the network's float32 arrays; the message names one.
    """
    try:
        import onnx
    except ImportError:
        raise InputError(f"{path}: writing ONNX needs its packages: pip install onnx onnxruntime") from None
    if found := flaw(net, params | state):
        raise ValueError(f"to_onnx: {found}")
    graph, x, features = Graph(onnx.helper.make_node), "image", []
    for name, layer in net.layers.items():
        if name == "head1":  # where the maps of all blocks meet
            x = graph.add("Concat", "concatenate", *features, axis=1)
        x = graph.layer(name, layer, x)
        features.append(x)

    def tensor(name, channels):
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ("N", channels, "H", "W"))

    ends = [tensor("image", net.channels)], [tensor(x, net.classes if net.head == "softmax" else 1)]
    arrays = params | state | graph.shapes
    arrays = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    whole = onnx.helper.make_graph(graph.nodes, "tinyseg", *ends, arrays)
    opset = onnx.helper.make_opsetid("", OPSET)
    version = onnx.helper.find_min_ir_version_for([opset])  # the file's own, which runtimes also check
    model = onnx.helper.make_model(whole, producer_name="tinyseg", opset_imports=[opset], ir_version=version)
    if preprocessing:
        onnx.helper.set_model_props(model, {"preprocessing": json.dumps(asdict(preprocessing))})
    onnx.checker.check_model(model, full_check=True)
    write_whole(path, model.SerializeToString())


class Graph:
    """A list of operations that grows by whole layers; each method returns the name of its result."""

    def __init__(self, make_node):
        self.make_node, self.nodes, self.shapes = make_node, [], {}

    def add(self, operation: str, name: str, *inputs: str, **attributes) -> str:
        """One operation, whose result is called `name`."""
        self.nodes.append(self.make_node(operation, inputs, [name], name=name, **attributes))
        return name

    def layer(self, name: str, layer: InputBlock | Block | Conv2d, x: str) -> str:
        """A layer of the network: what its class does in layers.py."""
        if isinstance(layer, Conv2d):
            return self.conv(name, layer, x)
        if isinstance(layer, InputBlock):
            return self.add("Add", name, x, self.norm(f"{name}.norm", layer.norm, x))
        y = self.conv(f"{name}.conv", layer.conv, x)
        y = self.add("Add", f"{name}.sum", y, self.norm(f"{name}.norm", layer.norm, y))
        if layer.residual:
            y = self.add("Add", f"{name}.residual", x, y)
        return self.add("Relu", name, y)

    def conv(self, name: str, conv: Conv2d, x: str) -> str:
        """Cross-correlation with zeros around, so that the size stays."""
        margin = conv.dilation * (conv.kernel // 2)
        how = {"dilations": [conv.dilation] * 2, "pads": [margin] * 4}
        return self.add("Conv", name, x, f"{name}.weight", f"{name}.bias", **how)

    def norm(self, name: str, norm: BatchNorm | InstanceNorm, x: str) -> str:
        """Evaluation: by running statistics, by each image's own, or by those of the batch at hand."""
        scale = f"{name}.gamma", f"{name}.beta"
        if isinstance(norm, InstanceNorm):
            return self.add("InstanceNormalization", name, x, *scale, epsilon=norm.eps)
        if norm.running:
            inputs = x, *scale, f"{name}.mean", f"{name}.variance"
            return self.add("BatchNormalization", name, *inputs, epsilon=norm.eps)
        # ONNX has no batch norm by the batch at hand, but it is instance norm of all images laid end to end.
        swapped = self.add("Transpose", f"{name}.swapped", x, perm=[1, 0, 2, 3])  # (C, N, H, W)
        self.shapes[f"{name}.line"] = np.array([1, norm.channels, -1])
        line = self.add("Reshape", f"{name}.laid", swapped, f"{name}.line")  # (1, C, N * H * W)
        line = self.add("InstanceNormalization", f"{name}.normed", line, *scale, epsilon=norm.eps)
        shape = self.add("Shape", f"{name}.shape", swapped)
        back = self.add("Reshape", f"{name}.back", line, shape)  # (C, N, H, W)
        return self.add("Transpose", name, back, perm=[1, 0, 2, 3])
