"""The ONNX project's own test cases of single operators, run by our ops: an oracle of what a node means."""

import pkgutil
import warnings
from importlib import import_module

import numpy as np
import pytest

from tinyseg import ops
from tinyseg.io.onnx import ALIKE
from tinyseg.layers import BatchNorm

onnx = pytest.importorskip("onnx")

# Each function below returns what our ops make of a case's inputs, or why we do not take the case:
STRIDES = "our convolution has stride 1"
SIZE = "our convolution keeps the image's size"
BROADCAST = "our add takes equal shapes, or one array of a single channel"
INTEGERS = "our arrays are float32 or float64"
REDUCTION = "our loss is the mean"
ARITY = "our maximum and minimum are of two arrays"


def conv(x, weight, bias=None, *, kernel_shape, pads=(0, 0, 0, 0), strides=(1, 1), dilations=(1, 1), **auto):
    if set(strides) != {1}:
        return STRIDES
    same = [dilation * (k // 2) for dilation, k in zip(dilations, kernel_shape)]
    if auto or list(pads) != 2 * same:
        return SIZE
    return ops.conv2d(x, weight, bias, dilation=int(dilations[0]))


def batch_norm(x, gamma, beta, mean, variance, *, epsilon=1e-5, momentum=0.9, training_mode=0):
    layer, params = BatchNorm(x.shape[1], epsilon, momentum), {"gamma": gamma, "beta": beta}
    y, state = layer(params, {"mean": mean, "variance": variance}, x, train=bool(training_mode))
    return y, *(state.values() if training_mode else ())


def instance_norm(x, gamma, beta, *, epsilon=1e-5):
    return ops.instance_norm(x, gamma, beta, eps=epsilon)


def add(x, y):
    if x.dtype.kind != "f":
        return INTEGERS
    return ops.add(x, y) if x.shape == y.shape else BROADCAST


def cross_entropy(x, labels, weights=None, *, reduction="mean", ignore_index=None):
    if reduction != "mean":
        return REDUCTION
    pixels = x.reshape(*x.shape[:2], 1, -1)  # (N, C) or (N, C, D1, D2, ...) -> (N, C, 1, D)
    labels = np.where(labels == ignore_index, ops.UNLABELLED, labels).reshape(len(x), 1, -1)
    settings = {} if ignore_index is None else {"entropy_weight": 0}
    loss = ops.cross_entropy if ignore_index is None else ops.semi_supervised
    return loss(pixels, labels, class_weights=weights, **settings), ops.log_softmax(x)


def dropout(x, ratio=0.5, training=False, *, seed=None):
    rng = np.random.RandomState(seed)  # noqa: NPY002, the cases' own generator
    return ops.dropout(x, float(ratio), rng) if training else x


def alike(kind, function):
    """What is one function in NumPy, and one operator in ONNX."""

    def run(*inputs):
        if any(x.dtype.kind != "f" for x in inputs):
            return INTEGERS
        if kind in ("Max", "Min") and len(inputs) != 2:
            return ARITY
        return function(*inputs)

    return run


OURS = {kind: alike(kind, function) for function, kind in ALIKE.items()} | {
    "Conv": conv,
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "Relu": ops.relu,
    "Softmax": lambda x, *, axis=-1: ops.softmax(x, axis),
    "LogSoftmax": lambda x, *, axis=-1: ops.log_softmax(x, axis),
    "SoftmaxCrossEntropyLoss": cross_entropy,
    "Concat": lambda *xs, axis: ops.concatenate(xs, axis),
    "Add": add,
    "Dropout": dropout,
}


def cases_of(kind):
    """The cases of an operator: (name, node, inputs, outputs)."""
    from onnx.backend.test.case import node as package

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of overflow in cases of whole numbers, for one
        for file in pkgutil.iter_modules(package.__path__):  # batchnorm or batch_normalization, by version
            if kind.lower().startswith(file.name.replace("_", "")):
                import_module(f"{package.__name__}.{file.name}")  # which registers its cases
    for case in package._NodeTestCases:
        nodes = case.model.graph.node
        if [node.op_type for node in nodes] == [kind] and not case.name.endswith("_expanded"):
            for inputs, outputs in case.data_sets:
                yield case.name, nodes[0], inputs, outputs


@pytest.mark.parametrize("kind", OURS)
def test_the_cases_of(kind):
    """Run with `pytest -s`, it says how many were taken, and why the others were not."""
    taken, left = [], {}
    for name, node, inputs, outputs in cases_of(kind):
        given = iter(inputs)
        inputs = [next(given) if key else None for key in node.input]  # an optional one may be missing
        settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        settings = {key: v.decode() if isinstance(v, bytes) else v for key, v in settings.items()}
        results = OURS[kind](*inputs, **settings)
        if isinstance(results, str):
            left[name] = results
            continue
        taken.append(name)
        for result, expected in zip(results if isinstance(results, tuple) else (results,), outputs):
            assert np.shape(result) == expected.shape and result.dtype == expected.dtype, name
            np.testing.assert_allclose(result, expected, rtol=2e-6, atol=1e-6, err_msg=name)
    print(f"{kind}: {len(taken)} taken, {len(left)} not: {sorted(set(left.values()))}")
    assert taken
