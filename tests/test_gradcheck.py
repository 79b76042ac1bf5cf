"""The checker is checked: right gradients pass, and each way of being wrong is caught and named."""

import itertools

import autograd.numpy as np
import numpy
import pytest
from autograd.extend import defjvp, defvjp, defvjp_argnums, primitive
from autograd.tracer import getval

from tinyseg import ops
from tinyseg.gradcheck import GradientError, check_gradients, check_layer, compare
from tinyseg.layers import BatchNorm, Conv2d, Dropout, Sequential
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
    header, fine, wrong, sentence = str(caught.value).splitlines()[1:]
    assert header.split()[:2] == ["name", "shape"]
    assert fine.startswith("fine") and fine.endswith("right")
    assert wrong.startswith("wrong") and "(2, 1)" in wrong and wrong.endswith("WRONG")
    autograd, numerical = map(float, wrong.split()[-4:-2])
    assert autograd == pytest.approx(-numerical, rel=1e-5)
    assert sentence.startswith("wrong at index (2, 1): expected") and "-1 times as large" in sentence


def test_a_gradient_of_the_wrong_shape():
    op = with_gradient(lambda x: x**2, lambda ans, x: lambda g: (2 * x * g)[:2])
    with pytest.raises(GradientError, match=r"expected a gradient of shape \(4, 4\), got \(2, 4\)"):
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
    assert [row.name for row in report.rows] == ["x", "weight", "bias", "all arrays"]
    assert str(report).count("\n") == 4


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


# What each verdict is for.


def verdicts(function, arrays, **options):
    return [row.verdict for row in check_gradients(function, arrays, **options).rows]


def test_a_kink_is_called_one_and_the_gradient_lies_between_its_slopes():
    assert verdicts(ops.relu, {"x": numpy.array([0.0, 1.0])}) == ["kink"]
    assert verdicts(lambda x: np.max(x), {"x": numpy.array([0.5, 0.5, 0.1])}) == ["kink"]
    frame = numpy.pad(
        numpy.random.default_rng(0).uniform(size=(1, 1, 4, 4)), ((0, 0), (0, 0), (3, 3), (3, 3))
    )
    weight = numpy.random.default_rng(1).normal(size=(2, 1, 3, 3))
    assert verdicts(lambda x, w: ops.relu(ops.conv2d(x, w)), {"x": frame, "w": weight}) == ["kink", "right"]
    for slope in (-0.2, 1.2):
        bent = with_gradient(
            lambda x: numpy.maximum(x, 0),
            lambda ans, x, slope=slope: lambda g: g * numpy.where(x == 0, slope, x > 0),
        )
        with pytest.raises(GradientError, match="WRONG"):
            check_gradients(lambda x, bent=bent: bent(x), {"x": numpy.array([0.0, 1.0])})


def test_a_row_that_checks_nothing_is_called_vacuous():
    assert verdicts(lambda x: ops.relu(x), {"x": -1 - X**2}) == ["vacuous"]
    assert verdicts(lambda x, unused: 3 * x, {"x": X, "unused": X}) == ["right", "vacuous"]


def test_each_entry_has_a_tolerance_of_its_own():
    p = numpy.array([0.2, 0.5, 0.9, 1e-9])
    floored = with_gradient(
        lambda p: -numpy.log(p).sum(), lambda ans, p: lambda g: numpy.where(p > 1e-3, g / p, -g / p)
    )
    with pytest.raises(GradientError, match=r"p at index \(\d,\): .* -1 times as large"):
        check_gradients(lambda p: floored(p), {"p": p})
    assert verdicts(lambda p: -np.sum(np.log(p)), {"p": p}) == ["right"]


def test_one_wrong_entry_of_many_is_found_and_named():
    x = numpy.random.default_rng(0).normal(size=(50, 40))
    sign = numpy.where(numpy.arange(x.size).reshape(x.shape) == 40 * 31 + 17, -1, 1)
    op = with_gradient(lambda x: x**3, lambda ans, x: lambda g: sign * 3 * x**2 * g)
    with pytest.raises(GradientError, match=r"x at index \(31, 17\): .* -1 times as large"):
        check_gradients(lambda x: op(x), {"x": x})


def test_a_loss_is_sure_or_a_gradient_is_zero_and_only_noise_is_left():
    labels, logits = numpy.zeros((1, 2, 2), int), numpy.zeros((1, 2, 2, 2))
    for margin in (14.0, 20.0):
        logits[:, 0] = margin
        assert set(verdicts(lambda z: ops.cross_entropy(z, labels), {"z": logits})) <= {"right", "vacuous"}
        assert check_gradients(lambda z: ops.entropy(z), {"z": logits}).passed
    one, zero = numpy.ones(2), numpy.zeros(2)

    def pooled(x):
        return np.mean(x, axis=(2, 3), keepdims=True) * np.ones((1, 1, 2, 2))

    x = numpy.random.default_rng(0).normal(size=(1, 2, 4, 4))
    assert verdicts(lambda x: ops.instance_norm(pooled(x), one, zero), {"x": x}) == ["vacuous"]


def test_a_function_that_goes_through_float32_is_said_to():
    def narrow(x):
        return np.tanh(x.astype(numpy.float32)).astype(numpy.float64)

    report = check_gradients(narrow, {"x": X})
    assert report.passed and "note: the function goes through float32 inside (`astype`" in str(report)


def test_an_image_of_float32_is_no_function_that_goes_through_float32():
    image = numpy.random.default_rng(0).normal(size=(1, 2, 4, 4)).astype(numpy.float32)
    assert check_gradients(ops.relu, {"x": image}).notes == ()


def test_few_digits_are_noted():
    report = check_gradients(lambda x: (1e-7 * x**2 + 1e6) - 1e6, {"x": X})
    assert report.notes and all("rounding hides all but the slope's first digits" in n for n in report.notes)


def test_two_arrays_of_one_name():
    with pytest.raises(ValueError, match="two arrays are called a.b"):
        check_gradients(lambda **p: 0.0, {"a.b": X, "a": {"b": X}})


def test_what_is_asked_for_is_checked_first():
    for option, value in (("tolerance", -1), ("tolerance", "1e-3"), ("entries", "all"), ("seed", "a")):
        with pytest.raises(ValueError, match=f"check_gradients: expected {option} to be .*, got {value!r}"):
            check_gradients(lambda x: x, {"x": X}, **{option: value})


# What the function may not do.


def test_an_argument_that_is_written_to():
    def double(x):
        x *= 2
        return x

    for factor in (1, 2):
        op = with_gradient(double, lambda ans, x, factor=factor: lambda g: factor * g)
        with pytest.raises(
            GradientError, match=r"writes into an array that it was given, at line \d+, `x \*= 2`"
        ):
            check_gradients(lambda x, op=op: op(x), {"x": X})


def test_a_cotangent_that_is_written_to():
    def back(g, x):
        g *= x > 0
        return g

    relu = with_gradient(lambda x: numpy.maximum(x, 0), lambda ans, x: lambda g: back(g, x))
    with pytest.raises(
        GradientError, match=r"the vjp of `.*` writes into what it was given, at line \d+, `g \*= "
    ):
        check_gradients(lambda x: relu(x) + x, {"x": X})


def test_gradients_that_are_right_only_alone():
    def gradients(argnums, ans, args, kwargs):
        factor = 2 if len(argnums) > 1 else 1  # of a product by both: a branch that only training reaches
        return lambda g: tuple(factor * g * args[1 - i] for i in argnums)

    product = primitive(lambda x, y: x * y)
    defvjp_argnums(product, gradients)
    with pytest.raises(GradientError, match=r"gradient of x at index \(0, 0\) is .* if it is taken alone"):
        check_gradients(lambda x, y: product(x, y), {"x": X, "y": X + 1})


class Mean:
    """A running mean in front of a convolution; `keep` makes the state of what the layer has measured."""

    def __init__(self, keep):
        self.keep = keep

    def init(self, rng):
        return {}, {"mean": numpy.zeros(1), "order": numpy.array([0])}

    def __call__(self, params, state, x, *, train=False):
        x = x[:, state["order"]]
        mean = np.mean(x, axis=(0, 2, 3)) if train else state["mean"]
        return x - mean, state | {"mean": self.keep(mean)}


def test_a_state_of_boxes_is_refused_and_integers_in_it_are_left_alone():
    x = numpy.random.default_rng(0).normal(size=(2, 1, 3, 3))
    with pytest.raises(GradientError, match="the state 'mean' comes back as an autograd box"):
        check_layer(Mean(lambda mean: 0.9 * mean), x)
    assert check_layer(Mean(lambda mean: numpy.zeros(1)), x).passed


class Given:
    """A layer that returns what it is told to: `made` by init, and what `call` makes of x."""

    def __init__(self, made, call=lambda params, state, x: x):
        self.made, self.call = made, call

    def init(self, rng):
        return self.made

    def __call__(self, params, state, x, *, train=False):
        return self.call(params, state, x), state


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Given({"w": X}), r"expected init to return \(params, state\), got a dict"),
        (Given(({"w": X}, None)), "expected the state as a dict or list of arrays, got NoneType"),
        (Given((None, {})), "expected the parameters as a dict or list of arrays, got NoneType"),
        (Conv2d, "expected a layer, got the class Conv2d: call it first"),
        (numpy.tanh, "of a function, use check_gradients"),
        (
            Given(({}, {}), lambda params, state, x: ops.conv2d(x, numpy.ones((1, 1, 3, 3), "f"))),
            r"conv2d: expected one dtype, .* constant.astype\(x.dtype\)",
        ),
    ],
)
def test_what_is_no_layer(layer, words):
    with pytest.raises(ValueError, match=words):
        check_layer(layer, X[None, None])


@pytest.mark.parametrize(
    "made", [{"conv": {"w": X}, "b": [X, (X,)]}, [X, X], (X,)], ids=["dicts and lists", "a list", "a tuple"]
)
def test_parameters_may_be_nested(made):
    def leaves(value):
        parts = (
            value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else None
        )
        return [value] if parts is None else list(itertools.chain(*map(leaves, parts)))

    report = check_layer(
        Given((made, {}), lambda params, state, x: sum(np.tanh(x * p) for p in leaves(params))), X
    )
    assert len(report.rows) == 2 + len(leaves(made)) and report.passed
    assert check_gradients(lambda p: sum(np.tanh(a) for a in leaves(p)), {"p": made}).passed


def test_a_layer_of_several_inputs():
    class Product:
        def init(self, rng):
            return {}, {}

        def __call__(self, params, state, x, other, *, train=False):
            return x * other, state

    x = numpy.random.default_rng(0).normal(size=(2, 3, 4))
    report = check_layer(Product(), x, x + 1)
    assert [row.name for row in report.rows] == ["x", "x1", "all arrays"]


# Numpy in place of autograd.numpy, and the like.


def put(x):
    y = np.zeros(3)
    y[0] = x[0, 0]
    return y


@primitive
def scaled(x, scale):
    return x * scale


def zero_below(x):
    x[x < 0] = 0
    return x


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: numpy.where(x > 0, x, 0), "array of objects, .* a function of numpy was called"),
        (lambda x: numpy.concatenate([x, x]), "array of objects, .* a function of numpy was called"),
        (put, "it runs on arrays, but autograd cannot follow it"),
        (zero_below, r"writes into an array that it was given, at line \d+, `x\[x < 0\] = 0`"),
        (lambda x: scaled(x, scale=x), "`scaled` gets scale by keyword"),
        (lambda x: x + np.tanh(getval(x)), "WRONG"),
        (lambda x: 0 * x + np.tanh(getval(x)), "autograd sees no influence"),
    ],
)
def test_what_autograd_cannot_follow_is_said(function, words):
    with pytest.raises(GradientError, match=words):
        check_gradients(function, {"x": X})


def test_arguments_by_position_alone():
    def product(x, y, /):
        return x * y

    assert check_gradients(product, {"x": X, "y": X}).passed


# Second derivatives, forward mode, other batches, progress.


def test_second_derivatives_on_request():
    op = with_gradient(lambda x: x**3, lambda ans, x: lambda g: 3 * getval(x) ** 2 * g)  # whose slope is 0
    assert verdicts(lambda x: op(x), {"x": X}) == ["right"]
    with pytest.raises(GradientError, match="x, second"):
        check_gradients(lambda x: op(x), {"x": X}, order=2)
    assert verdicts(lambda x: x**3, {"x": X}, order=2) == ["right", "right"]
    with pytest.raises(ValueError, match="expected order 1 or 2, got 3"):
        check_gradients(lambda x: x**3, {"x": X}, order=3)


def test_forward_mode_on_request():
    op = square(2)
    defjvp(op, lambda g, ans, x: 3 * x * g)
    assert verdicts(lambda x: op(x), {"x": X}) == ["right"]
    with pytest.raises(GradientError, match="x, forward at index .* 1.5 times as large"):
        check_gradients(lambda x: op(x), {"x": X}, modes=("reverse", "forward"))
    with pytest.raises(GradientError, match="x, forward"):
        check_gradients(lambda x: op(x), {"x": X}, modes=("forward",))
    with pytest.raises(GradientError, match="no derivative is defined"):
        check_gradients(lambda x: square(2)(x), {"x": X}, modes="forward")
    with pytest.raises(ValueError, match="expected modes to be 'reverse', 'forward' or both"):
        check_gradients(lambda x: x, {"x": X}, modes=("backward",))


def test_a_layer_is_checked_in_training_and_in_evaluation_with_one_image_and_more():
    x = numpy.random.default_rng(0).normal(size=(2, 3, 4, 4))
    for wrong in itertools.product((True, False), (1, 2)):
        falsified = with_gradient(lambda x: 2 * x, lambda ans, x: lambda g: 3 * g)

        def call(params, state, x, train, wrong=wrong, falsified=falsified):
            return falsified(x) if (train, len(x)) == wrong else 2 * x

        class Layer(Given):
            def __call__(self, params, state, x, *, train=False):
                return self.call(params, state, x, train), state

        for images in (x, x[:1]):
            with pytest.raises(GradientError, match="1.5 times as large"):
                check_layer(Layer(({}, {}), call), images)


def test_a_batch_that_the_layer_refuses_is_not_checked_and_the_report_says_so():
    def of_several(params, state, x):
        if len(x) < 2:
            raise ValueError("expected several images")
        return x - np.mean(x, axis=0)

    report = check_layer(Given(({}, {}), of_several), X)
    assert "note: not checked: train, 1 image, since the layer refuses it: expected several" in str(report)
    with pytest.raises(ValueError, match="expected several images"):
        check_layer(Given(({}, {}), of_several), X[:1])


def test_progress_is_shown(monkeypatch, capsys):
    clock = itertools.count(0, 10)
    monkeypatch.setattr(compare.time, "monotonic", lambda: next(clock))
    check_gradients(lambda x: np.tanh(x), {"x": X})
    assert capsys.readouterr().err.startswith("check_gradients: 0 of 1 arrays, 10 s\n")


def test_layers_with_state_and_random_numbers():
    layer = Sequential(Conv2d(1, 2), BatchNorm(2), Dropout(0.3))
    report = check_layer(layer, numpy.random.default_rng(0).normal(size=(2, 1, 5, 5)))
    assert {row.verdict for row in report.rows} <= {"right", "vacuous"}
