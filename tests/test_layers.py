"""Layers: what they own, what they return, and that nothing is changed behind the caller's back."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
from autograd import make_vjp
from autograd.tracer import isbox
from scipy.signal import correlate2d

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
    engine = replace(FAST, norm_add_relu=broken)  # in evaluation, of a norm that measures there as well
    using(layer, engine)(*double(layer), X)
    for norm in (BatchNorm(2, running=False), InstanceNorm(2)):
        with pytest.raises(ArithmeticError):
            using(Block(Conv2d(2, 2), norm), engine)(*double(Block(Conv2d(2, 2), norm)), X)
    with pytest.raises(ArithmeticError):  # a norm with an engine of its own keeps it
        norm = InstanceNorm(2, engine=replace(ops.DEFINITIONS, normalize=broken))
        Block(Conv2d(2, 2), norm)(*double(Block(Conv2d(2, 2), norm)), X)


def test_the_engine_is_no_part_of_a_layer():
    one, other = Block(Conv2d(2, 2), BatchNorm(2)), using(Block(Conv2d(2, 2), BatchNorm(2)), ops.DEFINITIONS)
    assert one == other and repr(one) == repr(other) and hash(one) == hash(other)
    assert other.conv.engine is other.norm.engine is other.engine is ops.DEFINITIONS
    with pytest.raises(TypeError):
        Block(one.conv, one.norm, False, ops.DEFINITIONS)  # only by its name
    assert copy.deepcopy(other) == pickle.loads(pickle.dumps(other)) == other
    nested = using(Sequential(one, Sequential(Conv2d(2, 1))), ops.DEFINITIONS)
    assert nested.layers[1].layers[0].engine is ops.DEFINITIONS


def test_fresh_arrays_are_no_views_of_each_other():
    params, state = BatchNorm(3).init(RNG)
    arrays = [*params.values(), *state.values()]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


@pytest.mark.parametrize("engine", [FAST, ops.DEFINITIONS], ids=["fast", "definitions"])
def test_a_norm_that_overflows_says_in_which_layer(engine):
    layer = using(Sequential(Block(Conv2d(2, 2), BatchNorm(2))), engine)
    with pytest.raises(OverflowError, match=r"^0: .*norm.*: the variance is too large for float32"):
        layer(*layer.init(RNG), 1e20 * X.astype(np.float32), train=True)


def test_dropout_is_of_training_only():
    layer = Dropout(0.5)
    assert layer({}, {}, X)[0] is X and layer({}, {}, X, train=True, rng=np.random.default_rng(0))[0] is not X
    with pytest.raises(ValueError, match="rng=numpy.random.default_rng"):
        layer({}, {}, X, train=True)
    assert Dropout(0.0)({}, {}, X, train=True)[0] is X  # which draws nothing


def test_names_within_names():
    arrays = {"block1.conv.weight": 1, "block10.conv.weight": 2, "block1.norm.gamma": 3}
    assert by_layer(arrays) == {"block1": {"conv.weight": 1, "norm.gamma": 3}, "block10": {"conv.weight": 2}}
    assert by_layer(prefixed(arrays, "net")) == {"net": arrays}


def test_a_convolution_is_dense_3x3_unless_told_otherwise():
    layer = Conv2d(1, 1)
    params, state = double(layer)
    assert params["weight"].shape == (1, 1, 3, 3)
    x = RNG.normal(size=(6, 5))
    expected = correlate2d(x, params["weight"][0, 0], mode="same")
    np.testing.assert_allclose(layer(params, state, x[None, None])[0][0, 0], expected, atol=1e-12)


@pytest.mark.parametrize(
    "layer",
    [
        BatchNorm(2),
        Dropout(0.5),
        Block(Conv2d(2, 2), BatchNorm(2)),
        Sequential(BatchNorm(2), Dropout(0.5)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_evaluates_unless_told_to_train(layer):
    params, state = double(layer)
    y, new_state = layer(params, state, X)
    np.testing.assert_array_equal(y, layer(params, state, X, train=False)[0])
    assert new_state == state
    assert not np.array_equal(y, layer(params, state, X, train=True, rng=np.random.default_rng(0))[0])


@pytest.mark.parametrize("engine", [FAST, ops.DEFINITIONS], ids=["fast", "definitions"])
@pytest.mark.parametrize(
    ("norm", "axes"),
    [
        (BatchNorm(2, eps=0.5), (0, 2, 3)),
        (BatchNorm(2, eps=0.5, running=False), (0, 2, 3)),
        (InstanceNorm(2, eps=0.5), (2, 3)),
    ],
    ids=["batch", "batch at hand", "instance"],
)
def test_the_eps_of_a_norm_is_added_to_the_variance(norm, axes, engine):
    params, state = double(norm)
    xhat = (X - X.mean(axis=axes, keepdims=True)) / np.sqrt(X.var(axis=axes, keepdims=True) + 0.5)
    np.testing.assert_allclose(using(norm, engine)(params, state, X, train=True)[0], xhat)
    if norm.running:
        np.testing.assert_allclose(norm(params, state, X)[0], X / np.sqrt(1 + 0.5))
    same = {"conv.weight": np.eye(2)[:, :, None, None], "conv.bias": np.zeros(2)}
    block = using(Block(Conv2d(2, 2, 1), norm), engine)
    y, _ = block(same | prefixed(params, "norm"), prefixed(state, "norm"), X, train=True)
    np.testing.assert_allclose(y, np.maximum(X + xhat, 0), atol=1e-12)


def test_running_statistics_keep_nine_tenths_unless_told_otherwise():
    layer = BatchNorm(2)
    params, state = double(layer)
    _, after = layer(params, state, X, train=True)
    np.testing.assert_allclose(after["mean"], 0.1 * X.mean(axis=(0, 2, 3)))


def test_a_fresh_norm_changes_no_scale():
    for norm in (BatchNorm(3), InstanceNorm(3)):
        params, state = norm.init(RNG)
        np.testing.assert_array_equal(params["gamma"], [1, 1, 1])
        np.testing.assert_array_equal(params["beta"], [0, 0, 0])
    params, state = BatchNorm(3).init(RNG)
    np.testing.assert_array_equal(state["mean"], [0, 0, 0])
    np.testing.assert_array_equal(state["variance"], [1, 1, 1])
    np.testing.assert_array_equal(Conv2d(1, 3).init(RNG)[0]["bias"], [0, 0, 0])


@pytest.mark.parametrize("norm", [None, InstanceNorm(3)], ids=["bare", "normed"])
def test_what_may_join_a_block(norm):
    one, two = (Block(Conv2d(c, 3), norm, residual=True) for c in (1, 2))
    params, state = double(one)
    without = replace(one, residual=False)
    y = ops.conv2d(X[:, :1], params["conv.weight"], params["conv.bias"])
    y = y if norm is None else y + ops.instance_norm(y, params["norm.gamma"], params["norm.beta"])
    np.testing.assert_allclose(one(params, state, X[:, :1])[0], np.maximum(X[:, :1] + y, 0), atol=1e-12)
    np.testing.assert_allclose(without(params, state, X[:, :1])[0], np.maximum(y, 0), atol=1e-12)
    with pytest.raises(
        ValueError, match=r"residual: expected x \(N, 1 or 3, H, W\) to join \(3, 3, 6, 5\), got"
    ):
        two(*double(two), X)


@pytest.mark.parametrize(
    ("returned", "what"),
    [(X[:2], "ndarray"), ((X, {}, {}), "tuple"), ([X, {}], "list"), (None, "NoneType")],
    ids=["array of two", "three", "list", "nothing"],
)
def test_what_a_layer_may_not_return(returned, what):
    class Odd:
        def init(self, rng):
            return {}, {}

        def __call__(self, params, state, x, *, train=False, rng=None):
            return returned

    with pytest.raises(ValueError, match=rf"^0: a layer returns \(y, state\), this one a {what}$"):
        Sequential(Odd())({}, {}, X)


def test_a_layer_has_to_take_train_and_rng():
    class Plain:
        def init(self, rng):
            return {}, {}

        def __call__(self, params, state, x, *, train=False):
            return x + len(train), state  # in the call without rng, an error from inside

    with pytest.raises(ValueError, match=r"^0: a layer takes .*: .*unexpected keyword argument 'rng'$"):
        Sequential(Plain())({}, {}, X)
    inside = type(
        "Inside", (Plain,), {"__call__": lambda self, *args, rng, train: Plain()(*args, train=train)}
    )
    with pytest.raises(TypeError, match=r"len\(\)"):
        Sequential(inside())({}, {}, X)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda params, state, x, train, rng: np.sum(x, colour=3), "unexpected keyword argument 'colour'"),
        (3, "'int' object is not callable"),
    ],
    ids=["an argument", "no layer"],
)
def test_what_is_no_matter_of_a_layers_arguments_is_raised_as_it_is(layer, words):
    with pytest.raises(TypeError, match=words):
        Sequential(layer)({}, {}, X)


def test_an_array_that_is_missing_is_named():
    layer = Sequential(Conv2d(2, 2), BatchNorm(2))
    params, state = double(layer)
    for key in ("0.weight", "1.gamma"):
        name, _, rest = key.partition(".")
        with pytest.raises(ValueError, match=f"^{name}: there is no array for '{rest}'$"):
            layer({k: v for k, v in params.items() if k != key}, state, X)
    with pytest.raises(ValueError, match="^1: there is no array for 'mean'$"):
        layer(params, {}, X)


def test_a_class_is_no_layer_to_be_given_an_engine():
    class Maker:
        def __init__(self):
            self.make, self.made = Conv2d, Conv2d(2, 2)

        def init(self, rng):
            return {}, {}

    maker = using(Maker(), ops.DEFINITIONS)
    assert maker.make is Conv2d and maker.made.engine is ops.DEFINITIONS
