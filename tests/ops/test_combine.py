"""The residual add and concatenation."""

import numpy as np
import pytest
from harness import check_op

from tinyseg.ops import add, concatenate

RNG = np.random.default_rng(4)
X, Y, ONE = RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(2, 1, 4, 5))


def test_add():
    np.testing.assert_array_equal(add(X, Y), X + Y)
    np.testing.assert_array_equal(add(ONE, Y)[:, 2], ONE[:, 0] + Y[:, 2])
    check_op(add, X, Y)
    check_op(add, ONE, Y)
    check_op(add, X, ONE)


def test_add_takes_equal_shapes_of_any_kind():
    np.testing.assert_array_equal(add(X[0], Y[0]), X[0] + Y[0])
    check_op(add, X[0, 0, 0], Y[0, 0, 0])


@pytest.mark.parametrize("other", [Y[:1], Y[:, :2], Y[..., :1], Y[0]], ids=lambda a: str(a.shape))
def test_add_refuses_what_numpy_would_broadcast(other):
    with pytest.raises(ValueError, match="single channel, got"):
        add(X, other)


def test_concatenate():
    joined = concatenate([X, ONE, Y])
    np.testing.assert_array_equal(joined[:, :3], X)
    np.testing.assert_array_equal(joined[:, 3:4], ONE)
    np.testing.assert_array_equal(joined[:, 4:], Y)
    check_op(lambda *xs: concatenate(xs), X, ONE, Y)
    check_op(lambda *xs: concatenate(xs, axis=0), X, Y)


def test_one_dtype():
    with pytest.raises(ValueError, match="one dtype"):
        add(X, Y.astype(np.float32))
    with pytest.raises(ValueError, match="one dtype"):
        concatenate([X, Y.astype(np.float32)])
