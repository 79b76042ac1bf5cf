"""What is special of the residual add and of concatenation; test_contract.py has what all ops promise."""

import numpy as np
import pytest
from autograd import grad
from harness import check_op

from tinyseg.ops import add, concatenate

RNG = np.random.default_rng(4)
X, Y, ONE = RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(2, 1, 4, 5))


def test_add():
    np.testing.assert_array_equal(add(ONE, Y)[:, 2], ONE[:, 0] + Y[:, 2])
    np.testing.assert_array_equal(add(X, ONE), add(ONE, X))
    check_op(add, X, ONE)


def test_add_takes_equal_shapes_of_any_kind():
    np.testing.assert_array_equal(add(X[0], Y[0]), X[0] + Y[0])
    check_op(add, X[0, 0, 0], Y[0, 0, 0])
    assert add(2.0, np.array(3.0)) == 5 and grad(add)(2.0, 3.0) == 1


@pytest.mark.parametrize("other", [Y[:1], Y[:, :2], Y[..., :1], Y[0]], ids=lambda a: str(a.shape))
def test_add_refuses_what_numpy_would_broadcast(other):
    with pytest.raises(ValueError, match="single channel, got"):
        add(X, other)


def test_concatenate():
    joined = concatenate([X, ONE, Y])
    np.testing.assert_array_equal(joined[:, :3], X)
    np.testing.assert_array_equal(joined[:, 3:4], ONE)
    np.testing.assert_array_equal(joined[:, 4:], Y)
    check_op(lambda *xs: concatenate(xs, axis=0), X, Y)


@pytest.mark.parametrize(
    ("xs", "axis", "words"),
    [
        (X, 1, "expected a list of arrays, got ndarray"),
        (None, 1, "expected a list of arrays, got NoneType"),
        ([], 1, "at least one array"),
        ([X, Y[:, 0]], 1, "same number of dimensions"),
        ([X, Y[..., 1:]], 1, "along dimension 3, .* size 5 .* size 4"),
        ([X, Y], 4, "axis 4 is out of bounds"),
    ],
)
def test_what_cannot_be_joined(xs, axis, words):
    with pytest.raises(ValueError, match=f"^concatenate: .*{words}"):
        concatenate(xs, axis)
