"""The checker is checked: right gradients pass, and each way of being wrong is caught and named."""

import autograd.numpy as np
import numpy
import pytest
from autograd.extend import defvjp, primitive

from tinyseg import ops
from tinyseg.gradcheck import GradientError, check_gradients, check_layer
from tinyseg.layers import Conv2d
from tinyseg.networks import modified, original

LARGE = numpy.random.default_rng(1).normal(size=(2, 3, 4, 5))
X = numpy.random.default_rng(0).normal(size=(4, 4))


def with_gradient(function, vjp):
    """`function` as an op whose derivative is the given one, right or wrong."""
    op = primitive(function)
    defvjp(op, vjp)
    return op


def square(factor):
    return with_gradient(lambda x: x**2, lambda ans, x: lambda g: factor * x * g)


def test_right_gradients_pass():
    report = check_gradients(lambda x, y: np.tanh(x) @ y, {"x": X, "y": X.T + 1})
    assert [(row.name, row.shape, row.checked) for row in report.rows] == [
        ("x", (4, 4), "16 entries"),
        ("y", (4, 4), "16 entries"),
    ]
    assert report.passed and max(row.error for row in report.rows) < 1e-8
    check_gradients(square(2), {"x": X})


@pytest.mark.parametrize(
    "op",
    [
        pytest.param(square(-2), id="wrong sign"),
        pytest.param(square(1), id="missing factor"),
        pytest.param(square(2.0001), id="slightly wrong factor"),
        pytest.param(square(numpy.nan), id="NaN"),
        pytest.param(with_gradient(lambda x: x**2, lambda ans, x: lambda g: (2 * x * g).T), id="transposed"),
        pytest.param(
            with_gradient(lambda x: 1e-7 * numpy.sum(x**2), lambda ans, x: lambda g: 0 * x),
            id="zero of a small one",
        ),
        pytest.param(
            with_gradient(lambda x: 1e-7 * x**2, lambda ans, x: lambda g: 0 * x), id="zero of small ones"
        ),
        pytest.param(
            with_gradient(lambda x: x**2, lambda ans, x: lambda g: 2 * x * g.sum(axis=1)), id="summed"
        ),
    ],
)
@pytest.mark.parametrize("entries", [64, 1], ids=["by entries", "along directions"])
@pytest.mark.parametrize("wrap", [True, False], ids=["in a function", "a bare primitive"])
def test_wrong_gradients_are_caught(op, entries, wrap):
    with pytest.raises(GradientError, match="WRONG"):
        check_gradients((lambda x: op(x)) if wrap else op, {"x": X}, entries=entries)


def test_the_error_names_array_index_and_both_values():
    def wrong_at_one_place(g, x):
        gradient = 2 * x * g
        gradient[2, 1] *= -1
        return gradient

    op = with_gradient(lambda x: x**2, lambda ans, x: lambda g: wrong_at_one_place(g, x))
    with pytest.raises(GradientError) as caught:
        check_gradients(lambda fine, wrong: np.sin(fine) + op(wrong), {"fine": X, "wrong": X})
    header, fine, wrong = str(caught.value).splitlines()[1:]
    assert header.split()[:2] == ["name", "shape"]
    assert fine.startswith("fine") and "WRONG" not in fine
    assert wrong.startswith("wrong") and "(2, 1)" in wrong and wrong.endswith("WRONG")
    autograd, numerical = map(float, wrong.split()[-4:-2])
    assert autograd == pytest.approx(-numerical, rel=1e-5)


def test_a_gradient_of_the_wrong_shape():
    op = with_gradient(lambda x: x**2, lambda ans, x: lambda g: (2 * x * g)[:2])
    with pytest.raises(GradientError, match=r"x: expected a gradient of shape \(4, 4\), got \(2, 4\)"):
        check_gradients(lambda x: op(x), {"x": X})


def test_a_nan_in_the_function():
    with numpy.errstate(invalid="ignore"), pytest.raises(GradientError, match="nan"):
        check_gradients(lambda x: np.sqrt(x), {"x": X})


def test_an_argument_without_influence_has_gradient_zero():
    report = check_gradients(lambda x, unused: 3 * x, {"x": X, "unused": X})
    assert (report.rows[1].autograd, report.rows[1].numerical) == (0, 0)


def test_scalars_and_empty_arrays():
    check_gradients(lambda x: x**3, {"x": 2.0})
    assert check_gradients(lambda x, none: x**3, {"x": X, "none": numpy.zeros((0, 2))}).rows[0].name == "x"


def test_what_cannot_be_checked():
    with pytest.raises(ValueError, match="one float64 array, not float32"):
        check_gradients(lambda x: x.astype(numpy.float32), {"x": X})
    rng = numpy.random.default_rng(0)
    with pytest.raises(ValueError, match="another value each time"):
        check_gradients(lambda x: x * rng.normal(), {"x": X})


@pytest.mark.parametrize(
    ("function", "arrays", "words"),
    [
        (lambda x: (x, x), {"x": X}, "one float64 array, not tuple"),
        (lambda x: x * 1.0, {"x": numpy.arange(3)}, "x should hold floats, not int64"),
        (lambda x: x * 1.0, [X], "expected a dict of arrays by name"),
    ],
)
def test_what_it_cannot_take_is_named(function, arrays, words):
    with pytest.raises(ValueError, match=words):
        check_gradients(function, arrays)


@pytest.mark.parametrize(
    ("function", "arrays"),
    [
        (lambda x: ops.log_softmax(x + 1e4), {"x": LARGE}),
        (lambda x: np.tanh(x - 1e4), {"x": LARGE}),
        (lambda x: ops.instance_norm(x + 1e4, numpy.ones(3), numpy.zeros(3)), {"x": LARGE}),
        (lambda x: np.sin(x), {"x": numpy.array([1e6, 1e-3])}),
        (lambda x: np.log(x), {"x": numpy.array([1e6, 1e-3, 1e-9])}),
        (lambda x: np.tanh(x), {"x": 1e-10 * X}),
        (lambda x: 2.0 * x, {"x": 1e200 * X}),
        (lambda x: x**3, {"x": 0 * X}),
        (lambda x: ops.relu(x), {"x": 1e-8 * X}),
        (
            lambda x, b: ops.batch_norm(x + b.reshape((1, -1, 1, 1)), numpy.ones(3), numpy.zeros(3)),
            {"x": LARGE, "b": numpy.ones(3)},
        ),
    ],
)
def test_no_false_alarm(function, arrays):
    """Large offsets, entries of very different sizes, kinks near by, a gradient that is zero."""
    check_gradients(function, arrays)


def test_no_false_alarm_where_a_step_crosses_kinks():
    """At 48 pixels a step through all weights carries some pixel across the kink of some relu."""
    for seed in range(3):
        net = modified(dilations=(1, 2, 3, 5))
        check_layer(net, numpy.random.default_rng(seed).normal(size=(1, 1, 48, 48)), seed=seed)


@pytest.mark.parametrize(
    ("op", "x"),
    [
        (with_gradient(lambda x: x**2, lambda ans, x: lambda g: g * numpy.inf), 1.0),
        (with_gradient(numpy.tanh, lambda ans, x: lambda g: -g * (1 - ans**2)), 1e-10 * X),
        (with_gradient(lambda x: 1 + 1e-10 * numpy.sum(x**2), lambda ans, x: lambda g: 0 * x), X),
        (with_gradient(lambda x: numpy.append(x**2, 1e10), lambda ans, x: lambda g: 0 * x), X),
        (with_gradient(lambda x: x - x.mean(), lambda ans, x: lambda g: 0 * x), X),
    ],
    ids=[
        "infinite",
        "tiny arguments",
        "beside a constant",
        "beside a huge output",
        "a sum that stays",
    ],
)
def test_wrong_gradients_that_like_to_hide(op, x):
    with pytest.raises(GradientError, match="WRONG"):
        check_gradients(lambda x: op(x), {"x": x})


class Bilinear:
    """y = x * scale, with `scale` 0 at first, where a wrong gradient by x would not show."""

    op = staticmethod(with_gradient(lambda xs: xs[0] * xs[1], lambda ans, xs: lambda g: 0 * xs))

    def init(self, rng):
        return {"scale": numpy.zeros(1)}, {}

    def __call__(self, params, state, x, *, train=False):
        return self.op(np.array([x, params["scale"]])), state


def test_a_layer_is_moved_off_its_special_points():
    with pytest.raises(GradientError, match="x .*WRONG"):
        check_layer(Bilinear(), numpy.array([2.0]))


def test_a_layer_returns_its_state_too():
    class Forgetful(Conv2d):
        def __call__(self, params, state, x, *, train=False):
            return super().__call__(params, state, x)[0]

    with pytest.raises(ValueError, match=r"a layer returns \(y, state\)"):
        check_layer(Forgetful(1, 1), X[None, None])


def test_a_layer_is_checked_by_its_image_and_every_parameter():
    report = check_layer(Conv2d(2, 3, dilation=2), numpy.random.default_rng(0).normal(size=(1, 2, 5, 5)))
    assert [row.name for row in report.rows] == ["x", "weight", "bias"]
    assert str(report).count("\n") == 3


def test_a_readers_own_layer_that_is_wrong():
    scaled = primitive(lambda x, scale: x * scale)
    defvjp(scaled, lambda ans, x, s: lambda g: g * s, lambda ans, x, s: lambda g: 2 * (g * x).sum())

    class Scale:
        def init(self, rng):
            return {"scale": numpy.array(1.5)}, {}

        def __call__(self, params, state, x, *, train=False):
            return scaled(x, params["scale"]), state

    with pytest.raises(GradientError, match="scale .*WRONG"):
        check_layer(Scale(), X)


def test_dropout_draws_the_same_each_time():
    report = check_layer(original(dilations=(1, 2)), numpy.random.default_rng(0).normal(size=(1, 1, 5, 5)))
    assert report.passed
