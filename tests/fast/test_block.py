"""The fused op against its definition: the same values, the same derivatives, every order and mode."""

import weakref

import numpy as np
import pytest
from autograd import make_vjp
from autograd.tracer import getval
from harness import check_op

from tinyseg import fast, ops
from tinyseg.ops.norm import BATCH, INSTANCE

norms = pytest.mark.parametrize("axes", [BATCH, INSTANCE], ids=["batch", "instance"])
skips = pytest.mark.parametrize("skip", [None, 1, 3])


def arrays(skip, shape=(2, 3, 5, 4), dtype=np.float64):
    rng = np.random.default_rng(2)
    y, gamma, beta = rng.normal(2.0, 3.0, shape), rng.normal(size=shape[1]), rng.normal(size=shape[1])
    skips = [] if skip is None else [rng.normal(size=(shape[0], skip, *shape[2:]))]
    return [a.astype(dtype) for a in (y, gamma, beta, *skips)]


def norm_add_relu(*args, **kwargs):
    return fast.norm_add_relu(*args, **kwargs)[0]


def by_definition(y, gamma, beta, x=None, *, axes, eps=1e-5):
    y = y + ops.normalize(y, gamma, beta, axes=axes, eps=eps)[0]
    return ops.relu(y if x is None else x + y)


@norms
@skips
def test_equals_its_definition(axes, skip):
    args = arrays(skip)
    expected = by_definition(*args, axes=axes, eps=1e-3)
    assert 0 < np.mean(expected > 0) < 1
    np.testing.assert_allclose(norm_add_relu(*args, axes=axes, eps=1e-3), expected, atol=1e-12)


@norms
@skips
@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 1e-12), (np.float32, 2e-5)])
def test_gradients_equal_its_definitions(axes, skip, dtype, atol):
    args = arrays(skip, dtype=dtype)
    cotangent = np.random.default_rng(3).normal(size=args[0].shape).astype(dtype)
    for i in range(len(args)):
        fast = make_vjp(lambda *args: norm_add_relu(*args, axes=axes), i)(*args)[0](cotangent)
        slow = make_vjp(lambda *args: by_definition(*args, axes=axes), i)(*args)[0](cotangent)
        assert fast.dtype == dtype
        np.testing.assert_allclose(fast, slow, atol=atol)


@norms
@skips
def test_derivatives(axes, skip):
    check_op(lambda *args: norm_add_relu(*args, axes=axes, eps=0.7), *arrays(skip))  # an eps that matters


@norms
def test_statistics_are_the_norms(axes):
    y, gamma, beta = arrays(None)
    for got, expected in zip(
        fast.norm_add_relu(y, gamma, beta, axes=axes)[1:], ops.normalize(y, gamma, beta, axes=axes)[1:]
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


@norms
def test_y_itself_is_let_go(axes):
    """Of all that a step keeps, y would be the largest part; y - mean and the result do."""
    y, *rest = arrays(3)
    seen = []

    def op(x):
        x = -x  # an array that nobody else holds
        seen.append(weakref.ref(getval(x)))
        return norm_add_relu(x, *rest, axes=axes)

    vjp, out = make_vjp(op)(y)
    assert seen[0]() is None
    assert np.abs(vjp(np.ones_like(out))).max() > 0


def test_a_large_mean_costs_no_digits():
    args = arrays(3, (1, 3, 32, 32))
    args[0] += 1e4
    singles = [a.astype(np.float32) for a in args]
    doubles = [a.astype(np.float64) for a in singles]
    expected = norm_add_relu(*doubles, axes=INSTANCE)
    np.testing.assert_allclose(norm_add_relu(*singles, axes=INSTANCE), expected, atol=5e-3)


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        (
            (1, 3, 5, 4),
            np.float64,
            r"norm_add_relu: expected equal shapes, or one side .* got \(1, 3, 5, 4\)",
        ),
        ((2, 2, 5, 4), np.float64, "norm_add_relu: expected equal shapes"),
    ],
)
def test_a_skip_that_does_not_fit(shape, dtype, words):
    with pytest.raises(ValueError, match=words):
        norm_add_relu(*arrays(None), np.zeros(shape, dtype), axes=BATCH)


def test_only_the_skip_may_have_a_single_channel():
    y, gamma, beta = arrays(None, (2, 1, 5, 4))
    with pytest.raises(ValueError, match=r"expected x \(N, 1 or 1, H, W\), got \(2, 3, 5, 4\)"):
        norm_add_relu(y, gamma, beta, np.zeros((2, 3, 5, 4)), axes=BATCH)
