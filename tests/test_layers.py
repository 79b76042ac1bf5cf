"""Layers: what they own, what they return, and that nothing is changed behind the caller's back."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
from autograd import make_vjp
from autograd.tracer import isbox

from tinyseg import ops
from tinyseg.fast import FAST
from tinyseg.gradcheck import check_layer
from tinyseg.layers import (
    BatchNorm,
    Block,
    Conv2d,
    Dropout,
    InstanceNorm,
    Sequential,
    by_layer,
    prefixed,
    using,
)

RNG = np.random.default_rng(0)
X = RNG.normal(1.0, 2.0, size=(3, 2, 6, 5))


def double(layer):
    """Fresh parameters and state, in the dtype of X."""
    return [{name: a.astype(np.float64) for name, a in arrays.items()} for arrays in layer.init(RNG)]


@pytest.mark.parametrize(
    "layer",
    [
        Conv2d(2, 3, 3, dilation=2),
        Conv2d(2, 3, 1),
        BatchNorm(2),
        BatchNorm(2, running=False),
        InstanceNorm(2),
        Block(Conv2d(2, 2, 3, 2), BatchNorm(2), residual=True),
        Block(Conv2d(2, 4), InstanceNorm(4)),
        Block(Conv2d(2, 2, 5), None, residual=True),
        Block(Conv2d(2, 3), Sequential(BatchNorm(3), InstanceNorm(3))),
        Sequential(Conv2d(2, 3), InstanceNorm(3), Block(Conv2d(3, 2), BatchNorm(2))),
    ],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize("engine", [FAST, ops.DEFINITIONS], ids=["fast", "definitions"])
def test_gradients_dtypes_and_purity(layer, engine):
    layer = using(layer, engine)
    for train in (True, False):
        check_layer(layer, X, train=train)
    params, state = layer.init(np.random.default_rng(0))
    assert {a.dtype for a in (params | state).values()} == {np.dtype(np.float32)}
    kept = {name: array.copy() for name, array in (params | state).items()}
    y, new_state = layer(params, state, X.astype(np.float32), train=True)
    assert y.dtype == np.float32
    assert new_state.keys() == state.keys()
    assert all(a.dtype == np.float32 and a.shape == state[k].shape for k, a in new_state.items())
    for name, array in (params | state).items():
        np.testing.assert_array_equal(array, kept[name])


def test_conv_init_is_he_or_the_given_width():
    weight = Conv2d(32, 64, 3).init(np.random.default_rng(0))[0]["weight"]
    np.testing.assert_allclose(weight.std(), np.sqrt(2 / (32 * 9)), rtol=0.03)
    weight = Conv2d(32, 64, 3, weight_std=0.05).init(np.random.default_rng(0))[0]["weight"]
    np.testing.assert_allclose(weight.std(), 0.05, rtol=0.03)
    assert abs(weight.mean()) < 0.002


def test_batch_norm_moves_its_running_statistics():
    layer = BatchNorm(2, momentum=0.8)
    params, state = double(layer)
    _, after = layer(params, state, X, train=True)
    np.testing.assert_allclose(after["mean"], 0.2 * X.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(after["variance"], 0.8 + 0.2 * X.var(axis=(0, 2, 3)))


def test_batch_norm_in_evaluation_does_not_see_the_rest_of_the_batch():
    layer = BatchNorm(2)
    params, state = double(layer)
    _, state = layer(params, state, X, train=True)
    together, unmoved = layer(params, state, X)
    assert unmoved is state
    np.testing.assert_array_equal(together[1:2], layer(params, state, X[1:2])[0])
    expected = (X - state["mean"][:, None, None]) / np.sqrt(state["variance"] + 1e-5)[:, None, None]
    np.testing.assert_allclose(together, expected, atol=1e-12)


def test_batch_norm_without_running_statistics_uses_the_batch_at_hand():
    layer = BatchNorm(2, running=False)
    params, state = double(layer)
    assert state == {}
    np.testing.assert_array_equal(layer(params, {}, X)[0], layer(params, {}, X, train=True)[0])


def test_no_box_ends_up_in_the_state():
    layer = Block(Conv2d(2, 2), BatchNorm(2))
    params, state = double(layer)
    seen = {}

    def loss(x):
        y, new_state = layer(params, state, x, train=True)
        seen.update(new_state)
        return y

    make_vjp(loss)(X)
    assert seen.keys() == {"norm.mean", "norm.variance"}
    assert not any(isbox(array) for array in seen.values())


@pytest.mark.parametrize("engine", [FAST, ops.DEFINITIONS], ids=["fast", "definitions"])
def test_block_is_the_papers(engine):
    layer = using(Block(Conv2d(2, 2, 3, 2), InstanceNorm(2), residual=True), engine)
    params, _ = double(layer)
    params = {name: array + 0.1 * RNG.normal(size=array.shape) for name, array in params.items()}
    h = ops.conv2d(X, params["conv.weight"], params["conv.bias"], dilation=2)
    h = h + ops.instance_norm(h, params["norm.gamma"], params["norm.beta"])
    np.testing.assert_allclose(layer(params, {}, X)[0], np.maximum(X + h, 0))
    plain = Block(layer.conv, layer.norm, engine=engine)
    np.testing.assert_allclose(plain(params, {}, X)[0], np.maximum(h, 0))
    bare = Block(layer.conv, residual=True, engine=engine)
    params = {name: array for name, array in params.items() if name.startswith("conv")}
    y = ops.conv2d(X, params["conv.weight"], params["conv.bias"], dilation=2)
    np.testing.assert_allclose(bare(params, {}, X)[0], np.maximum(X + y, 0))


def test_every_twin_is_what_the_engine_says():
    """A broken op is seen by whoever uses it, and by no one else."""

    def broken(*args, **kwargs):
        raise ArithmeticError("broken")

    layer = Block(Conv2d(2, 2), BatchNorm(2))
    for name in ("conv2d", "norm_add_relu"):
        with pytest.raises(ArithmeticError):
            using(layer, replace(FAST, **{name: broken}))(*double(layer), X, train=True)
    for name in ("conv2d", "normalize"):
        with pytest.raises(ArithmeticError):
            using(layer, replace(ops.DEFINITIONS, **{name: broken}))(*double(layer), X, train=True)


def test_the_engine_is_no_part_of_a_layer():
    one, other = Block(Conv2d(2, 2), BatchNorm(2)), using(Block(Conv2d(2, 2), BatchNorm(2)), ops.DEFINITIONS)
    assert one == other and repr(one) == repr(other) and hash(one) == hash(other)
    assert other.conv.engine is other.norm.engine is other.engine is ops.DEFINITIONS
    assert copy.deepcopy(other) == pickle.loads(pickle.dumps(other)) == other
    nested = using(Sequential(one, Sequential(Conv2d(2, 1))), ops.DEFINITIONS)
    assert nested.layers[1].layers[0].engine is ops.DEFINITIONS


def test_fresh_arrays_are_no_views_of_each_other():
    params, state = BatchNorm(3).init(RNG)
    arrays = [*params.values(), *state.values()]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


def test_dropout_is_of_training_only():
    layer = Dropout(0.5)
    assert layer({}, {}, X)[0] is X and layer({}, {}, X, train=True, rng=np.random.default_rng(0))[0] is not X
    with pytest.raises(ValueError, match="rng=numpy.random.default_rng"):
        layer({}, {}, X, train=True)


def test_names_within_names():
    arrays = {"block1.conv.weight": 1, "block10.conv.weight": 2, "block1.norm.gamma": 3}
    assert by_layer(arrays) == {"block1": {"conv.weight": 1, "norm.gamma": 3}, "block10": {"conv.weight": 2}}
    assert by_layer(prefixed(arrays, "net")) == {"net": arrays}
