"""What every op and every twin promises, clause by clause, over one table. A new op is one more row.

The forms of single ops, and what is special of them, are in the other files of this folder.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import scipy.special
from autograd import make_jvp, make_vjp
from harness import check_op
from scipy import ndimage

from tinyseg import fast, ops
from tinyseg.ops.norm import BATCH, INSTANCE

RNG = np.random.default_rng(11)
X, Y, ONE = (RNG.normal(1.0, 2.0, (2, c, 4, 5)) for c in (3, 3, 1))
WEIGHT, BIAS = RNG.normal(size=(2, 3, 3, 3)), RNG.normal(size=2)
GAMMA, BETA, MEAN, VARIANCE = *RNG.normal(size=(3, 3)), RNG.uniform(0.5, 2, 3)
LABELS = RNG.integers(0, 3, (2, 4, 5))
SPARSE = np.where(RNG.random(LABELS.shape) < 0.4, LABELS, ops.UNLABELLED)
WEIGHTS = np.array([0.5, 0.0, 3.0])
DRAWN = np.random.default_rng(5).random(X.shape)  # of dropout


def dropout(x):
    return ops.dropout(x, 0.4, np.random.default_rng(5))


def concatenate(*xs):
    return ops.concatenate(xs)


def cross_entropy(logits):
    return ops.cross_entropy(logits, LABELS, class_weights=WEIGHTS)


def semi_supervised(logits):
    return ops.semi_supervised(logits, SPARSE, class_weights=WEIGHTS)


def correlation(dilation):
    """By SciPy, plane by plane: a dilated kernel is a dense one with zeros between its taps."""

    def reference(x, weight, bias=None):
        stuffed = np.zeros((*weight.shape[:2], *(dilation * (k - 1) + 1 for k in weight.shape[2:])))
        stuffed[..., ::dilation, ::dilation] = weight

        def plane(image, kernel):
            return sum(ndimage.correlate(c, k, mode="constant") for c, k in zip(image, kernel))

        planes = [[plane(image, kernel) for kernel in stuffed] for image in x]
        return np.array(planes) + (0 if bias is None else bias[:, None, None])

    return reference


def normed(axes):
    def reference(x, gamma, beta):
        mean, variance = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
        return fixed(x, gamma, beta, mean[..., 0, 0], variance[..., 0, 0])

    return reference


def fixed(x, gamma, beta, mean, variance):
    gamma, beta, mean, variance = (v[..., None, None] for v in (gamma, beta, mean, variance))
    return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta


def joined(axes):
    return lambda y, gamma, beta, x=0: np.maximum(x + y + normed(axes)(y, gamma, beta), 0)


def squares(prediction, target):
    return np.mean((prediction - target) ** 2)


def surprise(logits, labels):
    right = -np.take_along_axis(scipy.special.log_softmax(logits, axis=1), labels[:, None], axis=1)[:, 0]
    return np.average(right, weights=WEIGHTS[labels])


def doubt(logits):
    return scipy.special.entr(scipy.special.softmax(logits, axis=1)).sum(axis=1)


def surprise_and_doubt(logits):
    known = SPARSE != ops.UNLABELLED
    rows = logits.transpose(0, 2, 3, 1)[known][:, :, None]  # (pixels, C, 1), as if each were an image
    return surprise(rows, SPARSE[known][:, None]) + 0.1 * doubt(logits)[~known].mean()


class Row(NamedTuple):
    name: str  # where the op is, and which case of it
    op: Callable
    arguments: dict[str, np.ndarray]  # float64 arrays by their names, in their order
    reference: Callable  # of the same arrays, by other means
    says: str = ""  # the name in the op's errors, if it has another one

    @property
    def arrays(self):
        return list(self.arguments.values())

    @property
    def title(self):
        return self.says or self.name.split()[0].partition(".")[2]

    def with_one(self, name, array):
        """The op's result if one argument is another."""
        return self.op(*(self.arguments | {name: array}).values())


def first(norm, axes):
    """The result without the statistics."""
    return lambda *arrays: norm(*arrays, axes=axes)[0]


CONV, DOT = {"x": X, "weight": WEIGHT, "bias": BIAS}, {"x": X, "weight": WEIGHT[..., :1, 1:2]}
NORM, BLOCK = ({name: X, "gamma": GAMMA, "beta": BETA} for name in "xy")
WAYS = {"ops.conv2d": ops.conv2d, "ops.conv2d_scipy": ops.conv2d_scipy, "fast.conv2d": fast.conv2d}
ROWS = [
    Row("ops.relu", ops.relu, {"x": X}, lambda x: np.where(x > 0, x, 0)),
    Row("ops.softmax", ops.softmax, {"x": X}, lambda x: scipy.special.softmax(x, axis=1)),
    Row("ops.log_softmax", ops.log_softmax, {"x": X}, lambda x: scipy.special.log_softmax(x, axis=1)),
    Row("ops.dropout", dropout, {"x": X}, lambda x: np.where(DRAWN < 0.4, 0, x / 0.6)),
    Row("ops.add", ops.add, {"x": X, "y": Y}, np.add),
    Row("ops.add one channel", ops.add, {"x": ONE, "y": Y}, np.add),
    Row("ops.concatenate", concatenate, {"xs[0]": X, "xs[1]": ONE}, lambda *xs: np.hstack(xs)),
    *(Row(f"{way} dense", f, CONV, correlation(1), "conv2d") for way, f in WAYS.items()),
    *(Row(f"{way} 1x1", f, DOT, correlation(1), "conv2d") for way, f in WAYS.items()),
    *(Row(f"{way} d=2", partial(f, dilation=2), CONV, correlation(2), "conv2d") for way, f in WAYS.items()),
    Row("ops.batch_norm", ops.batch_norm, NORM, normed(BATCH)),
    Row("ops.instance_norm", ops.instance_norm, NORM, normed(INSTANCE)),
    Row("ops.normalize", first(ops.normalize, BATCH), NORM, normed(BATCH), "batch_norm"),
    Row("fast.normalize batch", first(fast.normalize, BATCH), NORM, normed(BATCH), "batch_norm"),
    Row("fast.normalize", first(fast.normalize, INSTANCE), NORM, normed(INSTANCE), "instance_norm"),
    Row("ops.fixed_norm", ops.fixed_norm, NORM | {"mean": MEAN, "variance": VARIANCE}, fixed),
    Row("fast.norm_add_relu", first(fast.norm_add_relu, BATCH), BLOCK, joined(BATCH)),
    Row("fast.norm_add_relu x", first(fast.norm_add_relu, INSTANCE), BLOCK | {"x": Y}, joined(INSTANCE)),
    Row("fast.norm_add_relu 1", first(fast.norm_add_relu, BATCH), BLOCK | {"x": ONE}, joined(BATCH)),
    Row("ops.mean_squared_error", ops.mean_squared_error, {"prediction": X, "target": Y}, squares),
    Row("ops.cross_entropy", cross_entropy, {"logits": X}, lambda x: surprise(x, LABELS)),
    Row("ops.entropy", ops.entropy, {"logits": X}, lambda x: doubt(x).mean()),
    Row("ops.semi_supervised", semi_supervised, {"logits": X}, surprise_and_doubt),
]
ANY_SHAPE = "relu", "softmax", "log_softmax", "dropout", "add", "concatenate", "mean_squared_error"
OPTIONAL = {("conv2d", "bias"), ("norm_add_relu", "x")}
rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
arguments = pytest.mark.parametrize(
    ("row", "name"), [(row, name) for row in ROWS for name in row.arguments],
    ids=[f"{row.name}-{name}" for row in ROWS for name in row.arguments],
)  # fmt: skip


def cotangent(row):
    return np.random.default_rng(12).normal(size=np.shape(row.op(*row.arrays)))


def derivatives(row, arrays, g):
    """The result, the gradients by all arrays, and the result's change if each array changes by itself."""
    everything = tuple(range(len(arrays)))
    vjp, y = make_vjp(row.op, everything)(*arrays)
    return y, *vjp(g), make_jvp(row.op, everything)(*arrays)(tuple(arrays))[1]


def test_every_op_and_every_twin_has_a_row():
    there = {
        f"{place.__name__.partition('.')[2]}.{name}"
        for place in (ops, fast)
        for name in place.__all__
        if callable(getattr(place, name)) and not isinstance(getattr(place, name), type)
    }
    there -= {"ops.median_frequency"}  # a function of labels, which has no derivative
    assert {row.name.split()[0] for row in ROWS} == there


@rows
def test_values(row):
    expected = row.reference(*row.arrays)
    np.testing.assert_allclose(row.op(*row.arrays), expected, rtol=1e-11, atol=1e-12)
    single = row.op(*(a.astype(np.float32) for a in row.arrays))
    np.testing.assert_allclose(single, expected, rtol=1e-5, atol=2e-5)
    assert np.shape(single) == np.shape(expected)


@rows
def test_derivatives_and_dtypes(row):
    check_op(row.op, *row.arrays)


@rows
def test_the_way_back_is_differentiable_by_its_cotangent_alone(row):
    """It is linear in it: its change along v is its value at v, and its own way back is the way forth."""
    g, v = cotangent(row), 2 * cotangent(row) + 1
    for i, u in enumerate(row.arrays):
        vjp, _ = make_vjp(row.op, i)(*row.arrays)
        np.testing.assert_allclose(make_jvp(vjp)(g)(v)[1], vjp(v), rtol=1e-10, atol=1e-11)
        forth = make_jvp(row.op, i)(*row.arrays)(u)[1]
        np.testing.assert_allclose(make_vjp(vjp)(g)[0](u), forth, rtol=1e-10, atol=1e-11)


@rows
def test_arguments_stay_and_results_are_new_and_the_same_each_time(row):
    arrays, g = [a.copy() for a in row.arrays], cotangent(row)
    first, second = (derivatives(row, arrays, g) for _ in range(2))
    for one, other in zip(first, second):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    for array, kept in zip(arrays, row.arrays):
        np.testing.assert_array_equal(array, kept)
    plain = row.op(*arrays)
    assert not any(np.shares_memory(plain, array) for array in arrays)
    assert np.asarray(plain).tobytes() == np.asarray(first[0]).tobytes()


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "every second number": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "backwards": lambda a: np.flip(np.flip(a).copy()),
    "channels last": lambda a: np.moveaxis(np.moveaxis(a, 0, -1).copy(), -1, 0) if a.ndim else a,
    "read-only": read_only,
    "zero strides": lambda a: np.broadcast_to(a[..., :1], a.shape) if a.ndim else a,
    "big-endian": lambda a: a.astype(">f8"),
    "little-endian": lambda a: a.astype("<f8"),
}


@rows
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_where_numbers_lie_in_memory_does_not_matter(row, layout):
    """Each argument alone, then all of them. The result is in the machine's byte order."""
    g = layout(cotangent(row))
    for changed in (*row.arguments, "all"):
        arrays = [layout(a) if changed in (name, "all") else a for name, a in row.arguments.items()]
        plain = [np.array(a, np.float64) for a in arrays]
        got, expected = derivatives(row, arrays, g), derivatives(row, plain, np.array(g, np.float64))
        for one, other in zip(got, expected):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-11)
        assert row.op(*arrays).dtype.isnative


WRONG = {
    "int64": lambda a: a.astype(np.int64),
    "uint8": lambda a: np.abs(a).astype(np.uint8),
    "bool": lambda a: a > 0,
    "float16": lambda a: a.astype(np.float16),
    "longdouble": lambda a: a.astype(np.longdouble),
    "complex128": lambda a: a.astype(complex),
    "object": lambda a: a.astype(object),
    "list": np.ndarray.tolist,
    "tuple": lambda a: tuple(a.tolist()),
    "NoneType": lambda a: None,
    "str": lambda a: "x",
    "int": lambda a: 1,
}


@arguments
def test_what_is_no_array_of_floats_is_refused_by_name(row, name):
    for kind, made in WRONG.items():
        wrong = made(row.arguments[name])
        if wrong is None and (row.title, name) in OPTIONAL:
            continue
        with pytest.raises(ValueError) as caught:
            row.with_one(name, wrong)
        said, got = str(caught.value), getattr(wrong, "dtype", kind)
        assert said.startswith(f"{row.title}: expected {name} ") and f"got {got}; " in said
        assert said.endswith((f"{name}.astype(numpy.float32)", "numpy.array(values, numpy.float32)"))


@arguments
def test_one_dtype_throughout(row, name):
    if len(row.arguments) > 1:
        with pytest.raises(ValueError) as caught:
            row.with_one(name, row.arguments[name].astype(np.float32))
        said = str(caught.value)
        assert said.startswith(f"{row.title}: expected one dtype, got ") and f"{name} float32" in said


@rows
def test_a_single_image_is_refused_with_the_way_out(row):
    name, images = next(iter(row.arguments.items()))
    if row.title in ANY_SHAPE:
        return
    for wrong, way_out in ((images[0, 0], "[None, None]"), (images[0], "[None]"), (images[None], None)):
        with pytest.raises(ValueError) as caught:
            row.with_one(name, wrong)
        said = f"{row.title}: expected {name} (N, C, H, W) with no empty axis, got {wrong.shape}"
        assert str(caught.value) == said + (f"; one image alone is {name}{way_out}" if way_out else "")


@arguments
def test_channels_have_to_fit(row, name):
    """In sums and concatenations they need not: there, it is the rows of pixels."""
    if len(row.arguments) > 1:
        array = row.arguments[name]
        axis = 2 if row.title in ("add", "concatenate") else min(1, array.ndim - 1)
        with pytest.raises(ValueError, match=f"^{row.title}: "):
            row.with_one(name, array.take(range(array.shape[axis] - 1), axis))


@rows
@pytest.mark.parametrize("axis", range(4))
def test_of_nothing_there_is_a_right_result_or_an_error_and_no_nan(row, axis):
    empty = {name: a.take([], axis) for name, a in row.arguments.items() if a.ndim == 4}
    for changed in (*({name: a} for name, a in empty.items()), empty):
        try:
            y = row.op(*(row.arguments | changed).values())
        except ValueError as error:
            assert str(error).startswith(f"{row.title}: ")
        else:
            assert np.isfinite(y).all() and row.title in ANY_SHAPE


@arguments
def test_no_nan_is_lost(row, name):
    for place in np.ndindex(row.arguments[name].shape):
        array = row.arguments[name].copy()
        array[place] = np.nan
        assert np.isnan(row.with_one(name, array)).any()
    assert np.isnan(row.with_one(name, np.full_like(array, np.nan))).any()


@rows
def test_large_numbers_give_a_right_result_or_an_error(row):
    """In float32, 1e20 squared is infinite. That may be seen in the result, but not hidden in it."""
    singles = [(1e20 * a).astype(np.float32) for a in row.arrays]
    expected = row.reference(*(a.astype(np.float64) for a in singles))
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            y = row.op(*singles)
        except OverflowError as error:
            assert str(error).startswith(f"{row.title}: the variance is too large for float32")
            return
    assert "norm" not in row.title or row.title == "fixed_norm"
    finite = np.isfinite(y)
    np.testing.assert_allclose(y[finite], expected[finite], rtol=1e-5)
